"""Run the command `upsample`, also as `python -m upsample`."""

from degrade.own_package import claim_package
from degrade.thread_waiting import wait_asleep


def main() -> None:
    """Run the command whose name and options are in ``sys.argv``."""
    claim_package("cli")
    wait_asleep()
    from cli.upsample_commands import main as command

    command()


if __name__ == "__main__":
    main()
