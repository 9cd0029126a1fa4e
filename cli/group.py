"""What both commands share: `_` accepted for `-` in options, and one sentence in place of a traceback."""

import functools
from collections.abc import Callable
from typing import Any

import click

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


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
