"""Trace networks as ONNX models, and keep the traces in a folder, because tracing takes up to a minute."""

import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from degrade.files.store import write_atomic

OPSET = 18  # the lowest opset that torch writes; every onnxruntime that this package accepts reads it
TOLERANCE = 1e-4  # for images in [0, 1]; one level of 8 bits is 4e-3


def trace_onnx(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    *,
    any_length: dict[str, Sequence[int]],
    opset: int = OPSET,
) -> Any:
    """Trace a module as an ONNX model, an ``onnx.ModelProto``.

    Args:
        module: on the CPU.
        inputs: examples, by the names of the arguments, which become the names of the inputs.
        outputs: names for what the module returns.
        any_length: the axes, by input, that may have any length.
        opset: version of the ONNX operator set.
    """
    shapes = {name: dict.fromkeys(any_length.get(name, ()), torch.export.Dim.AUTO) for name in inputs}
    program = torch.onnx.export(
        module.eval(),
        kwargs=inputs,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=shapes,
        opset_version=opset,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None  # it is None only without dynamo
    return program.model_proto


def name_axes(model: Any, axes: dict[str, Sequence[str]]) -> None:
    """Name the axes of inputs and outputs, and remove torch's annotations, which hold source lines and file paths.

    Args:
        model: an ``onnx.ModelProto``.
        axes: a name for each axis, by input or output; "" keeps its length.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, axes.get(value.name, ()), strict=False):
            if name:
                dimension.dim_param = name
    del graph.value_info[:]  # shapes of intermediate tensors, with torch's names for the axes
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]


def check_opset(opset: int) -> None:
    """Refuse an opset that torch or the installed onnx does not know.

    Raises:
        ValueError: it cannot be written.
    """
    from onnx.defs import onnx_opset_version

    if not OPSET <= opset <= onnx_opset_version():
        raise ValueError(
            f"opset {opset} cannot be written; use {OPSET} (which most software reads) to {onnx_opset_version()}"
        )


def cached_trace(
    network: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    any_length: dict[str, tuple[int, ...]],
    on_note: Callable[[str], object],
) -> bytes:
    """Trace a network, or take it from `cache_folder`.

    Args:
        network: on the CPU.
        inputs: examples, by the names of the arguments.
        outputs: names for what the network returns.
        any_length: the axes, by input, that may have any length; of the others the batch and both sides may.
        on_note: called with a sentence before a network is traced.
    """
    path = cache_folder() / f"{trace_digest(network)}.onnx"
    if not path.exists():
        on_note(f"preparing a network for other software; this takes up to a minute, once: {path}")
        model = trace_onnx(network, inputs, outputs, any_length={**dict.fromkeys(inputs, (0, 2, 3)), **any_length})
        write_atomic(path, model.SerializeToString())
    return path.read_bytes()


def cache_folder() -> Path:
    """Return the folder of traced networks, which may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realistic-degrader"


def trace_digest(network: nn.Module) -> str:
    """Hash what a trace depends on: the weights with their names, and the versions of this package and of torch."""
    digest = hashlib.sha256(f"{version('realistic-degrader')} {torch.__version__}".encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
