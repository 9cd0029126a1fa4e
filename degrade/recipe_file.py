"""Reading recipe files, and saying in one sentence what is wrong with one."""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from degrade.real_esrgan_yml import RealEsrganOptions, import_real_esrgan_options, is_real_esrgan_options
from degrade.recipe_groups import Step

Model = TypeVar("Model", bound=BaseModel)

_STEP_TYPES: dict[str, type[BaseModel]] = {
    step.model_fields["op"].default: step for step in get_args(get_args(Step)[0])
}


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Parse a recipe file; a Real-ESRGAN options file is turned into a recipe, with notes.

    Args:
        path: .yaml, .yml or .toml.

    Returns:
        The recipe as plain types, not yet validated; named after the file when it does not name itself.

    Raises:
        ValueError: the file cannot be read or parsed, in one sentence.
    """
    data = {"name": path.stem} | _parse(path)
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
    """Validate plain data, with the first fault as one sentence.

    Raises:
        ValueError: names the source, the place, the key or value, and the way out.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ValueError(f"{source}: {_sentence(error, model)}") from None


def _parse(path: Path) -> dict[str, Any]:
    readers: dict[str, Callable[[str], Any]] = {".yaml": yaml.safe_load, ".yml": yaml.safe_load, ".toml": tomllib.loads}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is not a recipe file; use .yaml, .yml or .toml")
    try:
        data = reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path of the recipe") from None
    except (yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise ValueError(f"{path} is not valid {path.suffix[1:].upper()}: {reason}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no mapping; start it with 'steps:' and a list of operations")
    return data


def _sentence(error: ValidationError, model: type[BaseModel]) -> str:
    fault = error.errors()[0]
    place = list(fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            known = [name for name in _model_at(place[:-1], model).model_fields]
            return f"unknown key {place[-1]!r} in {_where(place[:-1])}; {_suggest(str(place[-1]), known)}"
        case "union_tag_invalid":
            op = fault["ctx"]["tag"]
            return f"unknown op {op!r} in {_where(place)}; {_suggest(op, _STEP_TYPES)}"
        case "union_tag_not_found":
            return f"{_where(place)} has no op; {_suggest('', _STEP_TYPES)}"
        case "literal_error":
            known = re.findall(r"'([^']*)'", fault["ctx"]["expected"]) or [fault["ctx"]["expected"]]
            return f"unknown value {fault['input']!r} in {_where(place)}; {_suggest(str(fault['input']), known)}"
        case "missing":
            return f"{_where(place[:-1])} lacks the key {place[-1]!r}; add it"
    reason = fault["msg"].removeprefix("Value error, ")
    return f"{_where(place)}: {reason[0].lower()}{reason[1:]}, got {fault['input']!r}"


def _where(place: Sequence[str | int]) -> str:
    """('steps', 2, 'blur', 'sigma_px', 0) as 'steps[2] (blur) sigma_px[0]'."""
    words = ""
    for previous, part in zip([None, *place], place, strict=False):
        if part == "[key]":
            continue
        if isinstance(part, int):
            words += f"[{part}]"
        elif isinstance(previous, int) and part in _STEP_TYPES:
            words += f" ({part})"
        else:
            words += f" {part}"
    return words.strip() or "the recipe"


def _model_at(place: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """The model that a place of an error lies in: that of the last op on the way."""
    for previous, part in zip([None, *place], place, strict=False):
        if isinstance(previous, int) and part in _STEP_TYPES:
            model = _STEP_TYPES[str(part)]
    return model


def _suggest(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
