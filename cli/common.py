"""Share what several commands need: settings of click, types of paths, error messages, device, upload."""

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

DEVICE_HELP = "cpu, cuda or mps; auto takes the first of cuda, mps and cpu that is there, and says which."

FP32_OPTION = click.option("--fp32/--bf16", "fp32", default=True, show_default=True,
                           help="Precision of the network; bf16 is faster on hardware that supports it.")  # fmt: skip
BACKEND_OPTION = click.option("--backend", type=click.Choice(["torch", "onnxruntime", "openvino"]), default="torch",
                              show_default=True, help="What computes the network; the other two work on the CPU, and "
                              "need the extra export or openvino.")  # fmt: skip

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


def push(folder: Path, name: str) -> None:
    """Upload a data set to the Hugging Face Hub, and print its page to stderr."""
    from degrade.shards.hub import push_to_hub

    click.echo(f"uploaded to {push_to_hub(folder, name)}", err=True)


def chosen_device(name: str, *, cluster_gpus: bool | None = None, say: bool = True) -> str:
    """Resolve ``auto`` to the first of cuda, mps and cpu that is there, and say which; check that any other works.

    Args:
        name: what the user gave.
        cluster_gpus: whether a cluster of other machines, which does the work, has GPUs; None for this machine.
        say: False is silent about the choice, for work in which no network takes part.

    Raises:
        click.BadParameter: the device does not work on this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available() if cluster_gpus is None else cluster_gpus:
            name = "cuda"
        else:
            name = "mps" if cluster_gpus is None and torch.backends.mps.is_available() else "cpu"
        if say:
            click.echo(f"device: {name}", err=True)
    elif cluster_gpus is None:
        try:
            torch.zeros(1, device=name).item()
        except (RuntimeError, AssertionError) as err:
            raise click.BadParameter(
                f"{name!r} does not work on this machine; give cpu, cuda, mps or auto", param_hint="--device"
            ) from err
    return name


def chosen_precision(precision: str, device: str, *, way_out: str = "--mixed-precision no") -> str:
    """Resolve ``auto`` to bf16 where the device computes it and to no elsewhere; warn of a bf16 that is slow.

    Args:
        precision: "no", "bf16" or "auto".
        device: a device of torch.
        way_out: the option that chooses float32, for the warning.

    Returns:
        "no" or "bf16".
    """
    from degrade.networks.precision import has_fast_bf16

    if precision == "no":
        return "no"
    fast = has_fast_bf16(device)
    if precision == "auto":
        return "bf16" if fast else "no"
    if not fast:
        click.echo(f"bf16 is many times slower than float32 on this {device}, which lacks it; use {way_out}", err=True)
    return "bf16"
