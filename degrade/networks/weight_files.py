"""Read weights and configurations that others may have made: no pickles, no absurd sizes, no nan or infinity."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from degrade.errors import shown

MAX_CONFIG_BYTES = 1 << 20
MAX_LIST = 64  # entries of a list, such as the levels of a network
MAX_NUMBER = 1 << 20
# Upper limits for values that decide how much is built before the weights could contradict them.
_MOST = {
    "blocks": 64,
    "layers_per_block": 64,
    "transformer_layers_per_block": 64,
    "num_encoder_blocks": 64,
    "num_decoder_blocks": 64,
    "latent_channels": 1024,
    "num_train_timesteps": 10_000,
    "steps": 10_000,
}
_FLOATS = ("F16", "BF16", "F32", "F64")

# What diffusers' EMAModel.save_pretrained adds to a configuration.
_EMA_KEYS = (
    "decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power",
)  # fmt: skip

Shapes = Mapping[str, Collection[int]]


def read_config(file: Path, known: Collection[str]) -> dict[str, Any]:
    """Read the configuration of a network, and check that it is safe to build.

    Args:
        file: path of config.json.
        known: names of the network's arguments; keys that begin with ``_`` are diffusers' own.

    Raises:
        ValueError: the file is not a configuration, or has unknown keys or numbers that are too large.
    """
    config = _read_json(file)
    unknown = [key for key in config if key not in known and key not in _EMA_KEYS and not key.startswith("_")]
    if unknown:
        raise ValueError(f"{file.name} has unknown keys ({shown(', '.join(unknown))})")
    for key, value in config.items():
        _check_numbers(key, value)
    return config


def shard_files(index: Path) -> list[Path]:
    """List the files that weights are divided into, as ``save_pretrained(max_shard_size=...)`` does.

    Args:
        index: path of the JSON file that says which file holds which tensor.

    Raises:
        ValueError: the file is no such index, or one of its files is missing or lies elsewhere.
    """
    content = _read_json(index)
    places, metadata = content.get("weight_map"), content.get("metadata")
    if not isinstance(places, dict) or not isinstance(metadata, dict):
        raise ValueError(f"{index.name} has no weight_map and metadata")
    files = []
    for name in sorted({shown(name) for name in places.values()}):
        if Path(name).name != name:
            raise ValueError(f"{index.name} names {name}, which is not the name of a file beside it")
        if not (index.parent / name).is_file():
            raise ValueError(f"{index.name} names {name}, which is missing")
        files.append(index.parent / name)
    return files


def read_headers(files: Sequence[Path]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Read the type and shape of every tensor in safetensors files, of which no two hold the same tensor.

    Raises:
        ValueError: a file is not a complete safetensors file, or two hold a tensor of the same name.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in files:
        tensors = read_header(file)[0]
        for name in found.keys() & tensors.keys():
            raise ValueError(f"{file} holds {shown(name)}, as another file does")
        found |= tensors
    return found


def _read_json(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{file.name} has more than {MAX_CONFIG_BYTES} bytes")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{file.name} is not JSON ({err})") from err
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is a {type(content).__name__}, not a JSON object")
    return content


def _check_numbers(key: str, value: Any) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(name, inner)
    elif isinstance(value, list):
        if len(value) > MAX_LIST:
            raise ValueError(f"{shown(key)} is a list with {len(value)} entries, more than {MAX_LIST}")
        for inner in value:
            _check_numbers(key, inner)
    elif isinstance(value, int | float):
        most = _MOST.get(key, MAX_NUMBER)
        if not math.isfinite(value) or abs(value) > most:
            raise ValueError(f"{shown(key)} {shown(value)} is outside -{most}..{most}")


def check_weights(stored: Mapping[str, tuple[str, tuple[int, ...]]], expected: Shapes) -> None:
    """Check that the tensors in a file, from `read_header`, are the weights of a network.

    Raises:
        ValueError: a tensor is not floating point, or names or shapes differ.
    """
    for name, (kind, _) in stored.items():
        if kind not in _FLOATS:
            raise ValueError(f"{shown(name)} is {kind}, not a floating-point type")
    check_shapes({name: shape for name, (_, shape) in stored.items()}, expected)


def check_shapes(stored: Shapes, expected: Shapes) -> None:
    """Check that two sets of tensors have the same names and shapes.

    Raises:
        ValueError: they differ; the message names the first difference.
    """
    for name in sorted(expected.keys() - stored.keys()):
        raise ValueError(f"it has no tensor {name}")
    for name in sorted(stored.keys() - expected.keys()):
        raise ValueError(f"it has an unexpected tensor {shown(name)}")
    for name, shape in expected.items():
        if tuple(stored[name]) != tuple(shape):
            raise ValueError(f"{name} has shape {shown(tuple(stored[name]))}, not {tuple(shape)}")


def read_header(file: Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Read the type and shape of every tensor in a safetensors file, and the metadata of the file.

    Raises:
        ValueError: the file is not a safetensors file, or is truncated.
    """
    if not file.is_file():  # opening a fifo would block forever
        raise ValueError(f"{file} is not a file")
    try:
        with safe_open(file, "pt") as stored:
            names = stored.keys()
            slices = {name: stored.get_slice(name) for name in names}
            kinds = {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
            return kinds, stored.metadata() or {}
    except (SafetensorError, OSError) as err:
        raise ValueError(f"{file} is not a complete safetensors file ({shown(str(err))})") from err


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Raises:
        ValueError: the file is not a safetensors file, is truncated, or holds nan or infinity.
    """
    names = read_header(file)[0]
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in names}
    check_finite(tensors)
    return tensors


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Check that all numbers in floating-point tensors are finite.

    Raises:
        ValueError: a tensor is not finite; the message names it.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{shown(name)} holds nan or infinity")
