"""What commands share: the device they run on, and the exit status of work that left something out."""

import click

COMPLETED_WITH_FAILURES = 3


def chosen_device(name: str) -> str:
    """``auto`` is cuda where there is one, else cpu; another name is tried, and kept."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as err:
        raise click.BadParameter(f"{name!r} is not usable here; give cpu, cuda or auto", param_hint="--device") from err
    return name
