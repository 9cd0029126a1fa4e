"""Choose how threads of this process wait for each other, before torch starts them."""

import os


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has chosen otherwise (``OMP_WAIT_POLICY``).

    By default they spin. Where another program holds one of the cores, the threads of one call then wait for each other
    on the cores that they need, and a network call takes a multiple of its time. It counts only before torch is
    imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
