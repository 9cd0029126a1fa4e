"""What commands share: spelling of options, types of paths, one sentence in place of a traceback, the device.

Also the exit status of work that left something out.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

COMPLETED_WITH_FAILURES = 3

PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)


class FriendlyGroup(click.Group):
    """A group whose commands also take options spelt with underscores, as img2dataset and BasicSR users type them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn ``--hr_dir`` into ``--hr-dir`` before click reads it; values are left alone."""
        return super().parse_args(ctx, [_dashed(arg) for arg in args])


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake, a full disk or Ctrl-C as one sentence with a non-zero exit; a bug keeps its traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError) as err:
            raise click.ClickException(str(err)) from err
        except KeyboardInterrupt:
            raise click.ClickException("stopped; what was finished is kept, run the same command again") from None

    return run


def _dashed(arg: str) -> str:
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value


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
