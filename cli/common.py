"""Share what all commands need: settings of click, types of paths, error messages, and the choice of the device."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# Sub-commands inherit these. Options may be spelt with underscores too, as users of img2dataset and BasicSR type them.
CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
    "token_normalize_func": lambda token: token.replace("_", "-"),
}

COMPLETED_WITH_FAILURES = 3  # exit status of a command that finished but could not use some of its input

PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """Show a user's mistake, a full disk or Ctrl-C as one sentence with a non-zero exit; a bug keeps its traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError) as err:
            raise click.ClickException(str(err)) from err
        except KeyboardInterrupt:
            raise click.ClickException("stopped; finished work is kept, run the same command again") from None

    return run


def chosen_device(name: str) -> str:
    """Resolve ``auto`` to cuda if there is a GPU and else to cpu; check that any other device works.

    Raises:
        click.BadParameter: the device does not work on this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as err:
        raise click.BadParameter(
            f"{name!r} does not work on this machine; give cpu, cuda or auto", param_hint="--device"
        ) from err
    return name
