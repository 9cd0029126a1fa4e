"""Run the command `degrade`, also as `python -m degrade`."""

from degrade.own_package import claim_package
from degrade.thread_waiting import wait_asleep


def main() -> None:
    """Run the command whose name and options are in ``sys.argv``."""
    claim_package("cli")
    wait_asleep()
    from cli.degrade_commands import main as command

    command()


if __name__ == "__main__":
    main()
