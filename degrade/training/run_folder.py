"""The folder of a run: train_config.yaml says which run it holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from degrade.files.mappings import read_mapping
from degrade.training.config_file import config_text, plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CONFIG = "train_config.yaml"
STEPS = "schedule.steps"


def open_run_folder(config: "DataclassInstance", out: Path, *, done: int, resume: bool) -> None:
    """Check that ``out`` is free or holds this very run, and write the settings into it.

    Args:
        config: the settings of the run.
        out: its folder.
        done: steps of the checkpoint that is resumed. The number of steps alone may differ from that of the run
            before; the learning rate then follows the new schedule from here on.
        resume: whether ``out`` may hold the run already.

    Raises:
        ValueError: it holds another run.
    """
    file = out / CONFIG
    settings = _flat(plain(config))
    if file.exists():
        if not resume:
            raise ValueError(f"{out} holds a run already; pass --resume latest to continue it, or another --out")
        try:
            before = _flat(read_mapping(file))
        except ValueError as err:
            raise ValueError(f"{err}; put the file back, or use another --out") from err
        different = [name for name in sorted(settings.keys() | before.keys()) if before.get(name) != settings.get(name)]
        if set(different) - {STEPS}:
            told = "; ".join(f"{name} was {before.get(name)!r}, is {settings.get(name)!r}" for name in different)
            raise ValueError(f"{out} holds a run with other settings ({told}); use the old ones, or another --out")
    if done > settings[STEPS]:
        raise ValueError(
            f"{out} has {done} steps already, more than the {settings[STEPS]} asked for; give more --steps"
        )
    (out / "samples").mkdir(parents=True, exist_ok=True)
    file.write_text(config_text(config))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
