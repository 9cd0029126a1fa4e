"""Read weights and configurations that others may have made: no pickles, no absurd sizes, no nan or infinity."""

import json
import math
from collections.abc import Collection, Mapping
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

Shapes = Mapping[str, Collection[int]]


def read_config(file: Path, known: Collection[str]) -> dict[str, Any]:
    """Read the configuration of a network, and check that it is safe to build.

    Args:
        file: path of config.json.
        known: names of the network's arguments; keys that begin with ``_`` are diffusers' own.

    Raises:
        ValueError: the file is not a configuration, or has unknown keys or numbers that are too large.
    """
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{file.name} has more than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{file.name} is not JSON ({err})") from err
    if not isinstance(config, dict):
        raise ValueError(f"{file.name} is a {type(config).__name__}, not a JSON object")
    unknown = [key for key in config if key not in known and not key.startswith("_")]
    if unknown:
        raise ValueError(f"{file.name} has unknown keys ({shown(', '.join(unknown))})")
    for key, value in config.items():
        _check_numbers(key, value)
    return config


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
