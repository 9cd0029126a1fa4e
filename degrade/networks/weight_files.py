"""Files of weights that others may have made: no pickle, nothing larger than it says, nothing that is not finite."""

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
MAX_LIST = 64  # levels of a network
MAX_NUMBER = 1 << 20
# What is built one by one, or computed with, before weights could show that it is not true.
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
    """Read the configuration of a network, as far as building it could do harm.

    Args:
        file: config.json.
        known: arguments of the network; keys that begin with ``_`` are diffusers' own.

    Raises:
        ValueError: it is none, has other keys, or numbers that no network has.
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
            raise ValueError(f"{shown(key)} is a list of {len(value)}, more than {MAX_LIST}")
        for inner in value:
            _check_numbers(key, inner)
    elif isinstance(value, int | float):
        most = _MOST.get(key, MAX_NUMBER)
        if not math.isfinite(value) or abs(value) > most:
            raise ValueError(f"{shown(key)} {shown(value)} is beyond {most}")


def check_weights(stored: Mapping[str, tuple[str, tuple[int, ...]]], expected: Shapes) -> None:
    """Compare what `read_header` says with the shapes of a network's weights.

    Raises:
        ValueError: it is another network.
    """
    for name, (kind, _) in stored.items():
        if kind not in _FLOATS:
            raise ValueError(f"{shown(name)} is {kind}, not of floating point")
    check_shapes({name: shape for name, (_, shape) in stored.items()}, expected)


def check_shapes(stored: Shapes, expected: Shapes) -> None:
    """See that names and shapes agree.

    Raises:
        ValueError: with the first that does not.
    """
    for name in sorted(expected.keys() - stored.keys()):
        raise ValueError(f"it lacks {name}")
    for name in sorted(stored.keys() - expected.keys()):
        raise ValueError(f"it has {shown(name)} too much")
    for name, shape in expected.items():
        if tuple(stored[name]) != tuple(shape):
            raise ValueError(f"{name} is {shown(tuple(stored[name]))}, not {tuple(shape)}")


def read_header(file: Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, str]]:
    """Type and shape of every tensor in a safetensors file, and its metadata.

    Raises:
        ValueError: it is no such file, or truncated.
    """
    if not file.is_file():  # a fifo would never open
        raise ValueError(f"{file} is not a file")
    try:
        with safe_open(file, "pt") as stored:
            names = stored.keys()
            slices = {name: stored.get_slice(name) for name in names}
            kinds = {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
            return kinds, stored.metadata() or {}
    except (SafetensorError, OSError) as err:
        raise ValueError(f"{file} is not a whole safetensors file ({shown(str(err))})") from err


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        ValueError: it is no such file, is truncated, or holds a number that is not finite.
    """
    names = read_header(file)[0]
    with safe_open(file, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in names}
    check_finite(tensors)
    return tensors


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """See that all numbers are finite.

    Raises:
        ValueError: with the first tensor that has others.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{shown(name)} has numbers that are not finite")
