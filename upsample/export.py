"""Export the upsampler for other software: as one ONNX file, or as one safetensors file that spandrel reads.

A file is written only after it has given the same images as the upsampler itself.
"""

from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from degrade.files.store import write_atomic
from upsample.model import ResidualShiftUpsampler

OPSET = 18  # the lowest opset that torch writes; every onnxruntime that this package accepts reads it
TOLERANCE = 1e-4  # for images in [0, 1]; one level of 8 bits is 4e-3
CHECKED_SHAPES = ((1, 3, 32, 32), (2, 3, 37, 50), (1, 3, 70, 81))  # with odd sides, and sides above the noise period
LICENCE = "network: Apache-2.0 (realistic-degrader); weights: as their trainer says"


class OneStepStudent(nn.Module):
    """Compute `ResidualShiftUpsampler.forward` for one step and the fixed noise, in operations that torch can trace.

    Args:
        upsampler: the model; its weights are shared, not copied.
    """

    def __init__(self, upsampler: ResidualShiftUpsampler) -> None:
        super().__init__()
        self.upsampler = upsampler
        self.last = upsampler.config.num_train_timesteps - 1
        self.noise_level = float(upsampler.scheduler.prior_sample(torch.zeros(()), torch.ones(())))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale (B, 3, h, w) -> (B, 3, h * scale, w * scale), both in [0, 1]; the input is not checked."""
        lr = lr * 2 - 1
        anchor = self.upsampler.anchor(lr)
        xt = anchor + self.noise_level * self.upsampler.fixed_noise(*lr.shape[-2:])
        x0 = self.upsampler.predict_x0(xt, self.last, lr, anchor)
        return ((self.upsampler.first_stage.decode(x0) + 1) / 2).clamp(0, 1)  # includes the scheduler's clipping


def export_onnx(
    upsampler: ResidualShiftUpsampler,
    path: str | Path,
    *,
    name: str = "upsampler",
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write the one-step student as an ONNX file: input ``lr`` (B, 3, h, w), output ``sr``, for any B, h and w.

    Args:
        upsampler: a one-step student, on any device and in any precision; the file is float32.
        path: the file, which is written only after onnxruntime has given the same images as torch.
        name: the name in the file's metadata, which also holds the scale and the licence.
        opset: version of the ONNX operator set, 18 or above.
        tolerance: largest accepted difference between onnxruntime and torch. A VQModel may need a larger one, because
            latents between two codes may be rounded to either.

    Returns:
        ``path``, ``bytes``, ``opset``, and ``max_difference`` by input shape.

    Raises:
        ValueError: the upsampler is a teacher, the opset cannot be written, a package is missing, or the difference is
            too large.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    import onnx
    from onnxruntime import InferenceSession

    if upsampler.config.steps != 1:
        raise ValueError(
            f"this upsampler takes {upsampler.config.steps} steps, and only a one-step student can be exported to "
            "ONNX; distil it first"
        )
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise ValueError(f"opset {opset} cannot be written; use {OPSET} (which most software reads) to {newest}")
    upsampler = _plain_copy(upsampler)
    program = torch.onnx.export(
        OneStepStudent(upsampler).eval(),
        (torch.rand(CHECKED_SHAPES[1]),),
        input_names=["lr"],
        output_names=["sr"],
        dynamic_shapes={"lr": dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)},
        opset_version=opset,
        dynamo=True,
        optimize=True,
        verbose=False,
    )
    assert program is not None  # it is None only without dynamo
    model = program.model_proto
    _label(model.graph, upsampler.config.scale)
    onnx.helper.set_model_props(model, _metadata(upsampler, name))
    data = model.SerializeToString()
    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    differences = _compare(
        upsampler, lambda lr: torch.from_numpy(session.run(None, {"lr": lr.numpy()})[0]), tolerance, "ONNX"
    )
    write_atomic(Path(path), data)
    return {"path": str(path), "bytes": len(data), "opset": opset, "max_difference": differences}


def export_spandrel(
    upsampler: ResidualShiftUpsampler, path: str | Path, *, name: str = "upsampler", tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Write the weights as one safetensors file that spandrel loads after `upsample.spandrel_arch.register`.

    Args:
        upsampler: a teacher or student, on any device and in any precision; the file is float32.
        path: the file, which must end in ``.safetensors`` and is written only after spandrel has given the same images.
        name: the name in the file's metadata, which also holds the scale and the licence.
        tolerance: largest accepted difference between spandrel and torch.

    Returns:
        ``path``, ``bytes``, and ``max_difference`` by input shape.

    Raises:
        ValueError: the weights alone do not describe the network, the path has another ending, a package is missing, or
            the difference is too large.
    """
    _require("spandrel")
    from safetensors.torch import save
    from spandrel import ArchRegistry

    from upsample.spandrel_arch import register

    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} does not end in .safetensors, so spandrel would not read it as such; rename it")
    upsampler = _plain_copy(upsampler)
    state = {key: tensor.contiguous() for key, tensor in upsampler.state_dict().items()}
    registry = ArchRegistry()
    register(registry)
    differences = _compare(upsampler, registry.load(state), tolerance, "spandrel")
    data = save(state, {"format": "pt", **_metadata(upsampler, name)})
    write_atomic(Path(path), data)
    return {"path": str(path), "bytes": len(data), "max_difference": differences}


def _require(*packages: str) -> None:
    """Refuse to go on without these packages."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ValueError(f"missing packages: {', '.join(missing)}; pip install 'realistic-degrader[export]'")


def _plain_copy(upsampler: ResidualShiftUpsampler) -> ResidualShiftUpsampler:
    """Copy an upsampler as a float32 model on the CPU, in evaluation mode."""
    copy = deepcopy(upsampler).cpu().float().eval().requires_grad_(False)
    copy.set_bf16(False)
    return copy


def _metadata(upsampler: ResidualShiftUpsampler, name: str) -> dict[str, str]:
    return {"name": name, "scale": str(upsampler.config.scale), "licence": LICENCE}


def _label(graph: Any, scale: int) -> None:
    """Name the axes of input and output, and remove torch's annotations, which hold source lines and file paths."""
    for value, factor in ((graph.input[0], ""), (graph.output[0], f"{scale}*")):
        for axis, axis_name in ((0, "batch"), (2, f"{factor}height"), (3, f"{factor}width")):
            value.type.tensor_type.shape.dim[axis].dim_param = axis_name
    del graph.value_info[:]  # shapes of intermediate tensors, with torch's names for the axes
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]


def _compare(
    upsampler: ResidualShiftUpsampler, other: Callable[[Tensor], Tensor], tolerance: float, kind: str
) -> dict[str, float]:
    """Compute the largest difference for each shape, such as "2x3x37x50"; raise ValueError above the tolerance."""
    differences = {}
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for shape in CHECKED_SHAPES:
            lr = torch.rand(shape, generator=generator)
            differences["x".join(map(str, shape))] = float((other(lr) - upsampler(lr)).abs().max())
    worst, largest = max(differences.items(), key=lambda item: item[1])
    if not largest <= tolerance:  # written so that nan is refused too
        raise ValueError(
            f"the {kind} file was not written because its images differ from torch's by {largest:.2g} at {worst}, more "
            f"than {tolerance:g}; try other versions of the packages in the [export] extra, or a larger tolerance"
        )
    return differences
