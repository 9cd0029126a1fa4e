"""Read and write the settings of a training as a file: YAML or TOML in, YAML out."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from degrade.errors import shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def resolve(start: Config, file: Path | None, settings: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """Lay the settings of a file over a preset, and the options of the command line over both.

    Args:
        start: the preset, nested dataclasses.
        file: where the settings come from, for messages; None without a file.
        settings: some of the settings, under the names of the fields.
        given: values by dotted name, such as ``{"schedule.steps": 100}``; they win.

    Raises:
        ValueError: an unknown key, with the nearest known one, or a value that does not fit.
    """
    config = start if file is None else _checked(_laid_over(start, settings, str(file)), str(file))
    return with_settings(config, given)


def with_settings(config: Config, values: Mapping[str, Any]) -> Config:
    """Return settings with other values, by dotted name: ``with_settings(config, {"schedule.steps": 100})``."""
    for name, value in values.items():
        config = _with(config, name.split("."), value)
    return config


def plain(config: "DataclassInstance") -> dict[str, Any]:
    """Return settings as json types, as a file holds them."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return settings


def config_text(config: "DataclassInstance") -> str:
    """Write settings as YAML that `resolve` reads."""
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True, width=120)


def _laid_over(config: Config, data: Mapping[str, Any], place: str) -> Config:
    known = [field.name for field in fields(config)]
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{place}: unknown key {shown(repr(key))}; {hint}")
        current = getattr(config, key)
        if is_dataclass(current) and not isinstance(current, type):
            if not isinstance(value, Mapping):
                raise ValueError(f"{place}: {key} holds {shown(repr(value))}; write settings under it")
            value = _laid_over(current, value, f"{place}: {key}")
        values[key] = value
    return replace(config, **values)


def _checked(config: Config, source: str) -> Config:
    """Convert every setting to the type and range of its field.

    Raises:
        ValueError: one does not fit; the sentence names it.
    """
    try:
        return TypeAdapter(type(config)).validate_python(asdict(config))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"][0].lower() + fault["msg"][1:]
        raise ValueError(f"{source}: {place}: {reason}, got {shown(repr(fault['input']))}") from None


def _with(config: Config, names: list[str], value: Any) -> Config:
    first, *rest = names
    return replace(config, **{first: _with(getattr(config, first), rest, value) if rest else value})
