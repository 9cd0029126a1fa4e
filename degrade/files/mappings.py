"""Read a YAML or TOML file that holds one mapping: a recipe, or the settings of a training."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from degrade.errors import shown

MAX_BYTES = 1 << 18  # PyYAML takes a second for as much

# TOML's, and what PyYAML's constructors stumble over: `!!int ""`, `!!bool x`, `!!timestamp x`, a thousand brackets
_PARSER_ERRORS = (yaml.YAMLError, ValueError, IndexError, KeyError, AttributeError, TypeError, RecursionError)


def read_mapping(path: Path) -> dict[str, Any]:
    """Parse a file into plain types, not yet validated.

    Args:
        path: .yaml, .yml or .toml.

    Raises:
        ValueError: the file cannot be read or parsed, or holds something else than a mapping, in one sentence.
    """
    readers: dict[str, Callable[[str], Any]] = {".yaml": _read_yaml, ".yml": _read_yaml, ".toml": tomllib.loads}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} is no settings file; use .yaml, .yml or .toml")
    content = _read(path)
    try:
        data = reader(content.decode().replace("\r\n", "\n"))
    except _PARSER_ERRORS as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise ValueError(f"{path} is not valid {path.suffix[1:].upper()}: {shown(reason)}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no mapping; write 'key: value' lines")
    return data


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a fifo or a device might never end
        raise ValueError(f"{path} cannot be read (not a file); check the path")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES} bytes, the most that is read; check the path")
    return content


class _Loader(yaml.SafeLoader):
    """YAML without merge keys, with which nested aliases grow tenfold at every level while they are parsed."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse ``<<``."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "merge keys (<<) are not supported; write the keys out", key.start_mark
                )


def _read_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
