"""Read recipe files, and say in one sentence what is wrong with one."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from degrade.errors import shown
from degrade.files.mappings import read_mapping
from degrade.recipes.groups import Step
from degrade.recipes.real_esrgan import RealEsrganOptions, import_real_esrgan_options, is_real_esrgan_options

MAX_VALUES = 10_000  # in a recipe, counted again for every alias: ten lines of YAML can stand for a billion steps
MAX_DEPTH = 100

Model = TypeVar("Model", bound=BaseModel)

_STEP_TYPES: dict[str, type[BaseModel]] = {
    step.model_fields["op"].default: step for step in get_args(get_args(Step)[0])
}


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Parse a recipe file, or turn an options file of Real-ESRGAN into a recipe with notes.

    Args:
        path: .yaml, .yml or .toml.

    Returns:
        The recipe as plain types, not yet validated; it takes the file's name if it has none.

    Raises:
        ValueError: the file cannot be read or parsed; one sentence says why.
    """
    data = {"name": path.stem} | read_mapping(path)
    if not is_real_esrgan_options(data):
        return data
    try:
        options, notes = import_real_esrgan_options(data)
        steps = options.steps()
    except ValidationError as error:
        raise ValueError(f"{path}: {_sentence(error, RealEsrganOptions)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    description = f"imported from {path.name}"
    return {"name": str(data["name"]), "description": description, "steps": steps, "notes": notes}


def validated(model: type[Model], data: Mapping[str, Any], source: str = "recipe") -> Model:
    """Build a model from plain data.

    Raises:
        ValueError: the first fault in one sentence, with the source, the place, the key or value, and what to write.
    """
    try:
        _check_extent(data)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{source}: {_sentence(error, model)}") from None


def _check_extent(data: Any) -> None:
    """Refuse data that is nested too deeply, contains itself, or holds too many values.

    Each part is looked at once, so the check is fast even where YAML aliases repeat a part millions of times.
    """
    known: dict[int, tuple[int, int]] = {}  # values and depth of what was counted already, by identity

    def extent(value: Any, depth: int) -> tuple[int, int]:
        if not isinstance(value, (dict, list, tuple)):
            return 1, 0
        if id(value) not in known:
            parts = value.values() if isinstance(value, dict) else value
            inner = [extent(part, depth + 1) for part in parts] if depth < MAX_DEPTH else [(0, MAX_DEPTH)]
            known[id(value)] = 1 + sum(count for count, _ in inner), 1 + max((below for _, below in inner), default=0)
        count, below = known[id(value)]
        if depth + below > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep; a recipe needs a few")
        if count > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values; a recipe has hundreds")
        return count, below

    extent(data, 0)


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    fault = error.errors()[0]
    place = list(fault["loc"])
    told = shown(repr(fault["input"])) if isinstance(fault["input"], str) else shown(fault["input"])
    match fault["type"]:
        case "extra_forbidden":
            known = [name for name in _model_at(place[:-1], model).model_fields]
            key = shown(repr(place[-1]))
            return f"unknown key {key} in {_where(place[:-1])}; {_suggest(str(place[-1]), known)}"
        case "union_tag_invalid":
            op = fault["ctx"]["tag"]
            return f"unknown op {shown(repr(op))} in {_where(place)}; {_suggest(op, _STEP_TYPES)}"
        case "union_tag_not_found":
            return f"{_where(place)} has no op; {_suggest('', _STEP_TYPES)}"
        case "literal_error":
            known = re.findall(r"'([^']*)'", fault["ctx"]["expected"]) or [fault["ctx"]["expected"]]
            return f"unknown value {told} in {_where(place)}; {_suggest(told, known)}"
        case "missing":
            return f"{_where(place[:-1])} lacks the key {place[-1]!r}; add it"
        case "model_type" | "model_attributes_type":
            return f"{_where(place)} is no mapping of keys to values, got {told}; write one"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{_where(place)}: {reason[0].lower()}{reason[1:]}, got {told}"


def _where(place: Sequence[str | int]) -> str:
    """Write the place ('steps', 2, 'blur', 'sigma_px', 0) as 'steps[2] (blur) sigma_px[0]'."""
    words = ""
    for previous, part in zip([None, *place], place, strict=False):
        if part == "[key]":
            continue
        if isinstance(part, int):
            words += f"[{part}]"
        elif isinstance(previous, int) and part in _STEP_TYPES:
            words += f" ({part})"
        else:
            words += f" {shown(part)}"
    return words.strip() or "the recipe"


def _model_at(place: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """Return the model that the place of an error lies in: that of the last op on the way."""
    for previous, part in zip([None, *place], place, strict=False):
        if isinstance(previous, int) and part in _STEP_TYPES:
            model = _STEP_TYPES[str(part)]
    return model


def _suggest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
