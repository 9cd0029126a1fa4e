"""Export the upsampler for other software: as one ONNX file, or as one safetensors file that spandrel reads.

A file is written only after it has given the same images as the upsampler itself.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from degrade.files.store import write_atomic
from degrade.networks.backend import require
from degrade.networks.onnx_trace import OPSET, TOLERANCE, check_opset, name_axes, trace_onnx
from degrade.networks.runtimes import start_onnxruntime
from upsample.model import ResidualShiftUpsampler

CHECKED_DETAILS = (None, 0.0, 0.5, 1.0)  # where there is a branch; None is the default of the weights
CHECKED_SHAPES = ((1, 3, 32, 32), (2, 3, 37, 50), (1, 3, 70, 81))  # with odd sides, and sides above the noise period
LICENCE = "network: Apache-2.0 (realistic-degrader); weights: as their trainer says"


class OneStepStudent(nn.Module):
    """Compute `ResidualShiftUpsampler.forward` for one step in operations that torch can trace.

    Args:
        upsampler: the model; its weights are shared, not copied.
    """

    def __init__(self, upsampler: ResidualShiftUpsampler) -> None:
        super().__init__()
        self.upsampler = upsampler
        self.last = upsampler.config.num_train_timesteps - 1
        self.noise_level = float(upsampler.scheduler.prior_sample(torch.zeros(()), torch.ones(())))

    def forward(self, lr: Tensor, detail: Tensor | None = None) -> Tensor:
        """Upscale a batch; nothing is checked.

        Args:
            lr: (B, 3, h, w), range [0, 1].
            detail: how much of the detail branch is added, (1,) or (B,); None leaves the branch out.

        Returns:
            sr: (B, 3, h * scale, w * scale), range [0, 1].
        """
        upsampler, lr = self.upsampler, lr * 2 - 1
        anchor, noise = upsampler.anchor(lr), upsampler.fixed_noise(*lr.shape[-2:])
        xt = anchor + self.noise_level * noise
        if detail is None:
            sr = upsampler.first_stage.decode(upsampler.predict_x0(xt, self.last, lr, anchor))
        else:
            x0, features = upsampler.predict_with_features(xt, lr, anchor)
            drawn = upsampler.draw_detail(features, lr, noise)
            sr = upsampler.first_stage.decode(x0.clamp(-1, 1)) + detail[:, None, None, None] * drawn
        return ((sr + 1) / 2).clamp(0, 1)  # without detail, this includes the scheduler's clipping


def export_onnx(
    upsampler: ResidualShiftUpsampler,
    path: str | Path,
    *,
    name: str = "upsampler",
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write the one-step student as an ONNX file: input ``lr`` (B, 3, h, w), output ``sr``, for any B, h and w.

    With a detail branch there is a second input, ``detail`` (1,), from 0 (faithful) to 1 (sharp). A run may leave it
    out, because it is an initialiser too: then the default of the weights counts (`ResidualShiftUpsampler.set_detail`).
    Runtimes that take initialisers for constants, such as OpenVINO, have the default only. The file has the
    fixed noise inside.

    Args:
        upsampler: a one-step student, on any device and in any precision; the file is float32.
        path: the file, which is written only after onnxruntime has given the same images as torch.
        name: the name in the file's metadata, which also holds the scale and the licence.
        opset: version of the ONNX operator set, 18 or above.
        tolerance: largest accepted difference between onnxruntime and torch. A VQModel may need a larger one, because
            latents between two codes may be rounded to either.

    Returns:
        ``path``, ``bytes``, ``opset``, and ``max_difference`` by input shape, the largest over strengths of the detail.

    Raises:
        ValueError: the upsampler is a teacher, the opset cannot be written, a package is missing, or the difference is
            too large.
    """
    require("onnx", "onnxscript", "onnxruntime")
    import onnx

    if upsampler.config.steps != 1:
        raise ValueError(
            f"this upsampler takes {upsampler.config.steps} steps, and only a one-step student can be exported to "
            "ONNX; distil it first"
        )
    check_opset(opset)
    upsampler = _plain_copy(upsampler)
    inputs = {"lr": torch.rand(CHECKED_SHAPES[1])}
    if upsampler.detail_branch is not None:
        inputs["detail"] = torch.tensor([upsampler.config.detail])
    model = trace_onnx(OneStepStudent(upsampler), inputs, ["sr"], any_length={"lr": (0, 2, 3)}, opset=opset)
    _label(model, upsampler)
    onnx.helper.set_model_props(model, _metadata(upsampler, name))
    data = model.SerializeToString()
    session = start_onnxruntime(data)

    def run(lr: Tensor, detail: float | None) -> Tensor:
        given = {} if detail is None else {"detail": np.array([detail], np.float32)}
        return torch.from_numpy(session.run(None, {"lr": lr.numpy(), **given})[0])

    differences = _compare(upsampler, run, tolerance, "ONNX", details=_details(upsampler))
    write_atomic(Path(path), data)
    return {"path": str(path), "bytes": len(data), "opset": opset, "max_difference": differences}


def export_spandrel(
    upsampler: ResidualShiftUpsampler, path: str | Path, *, name: str = "upsampler", tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Write the weights as one safetensors file that spandrel loads after `upsample.spandrel_arch.register`.

    spandrel calls a model with an image and nothing else, so the file's default strength of the detail
    (`ResidualShiftUpsampler.set_detail`) is what other programs use.

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
    require("spandrel")
    from safetensors.torch import save
    from spandrel import ArchRegistry

    from upsample.spandrel_arch import register

    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} does not end in .safetensors, so spandrel would not read it as such; rename it")
    upsampler = _plain_copy(upsampler)
    state = {key: tensor.contiguous() for key, tensor in upsampler.state_dict().items()}
    registry = ArchRegistry()
    register(registry)
    loaded = registry.load(state)
    differences = _compare(upsampler, lambda lr, _: loaded(lr), tolerance, "spandrel")
    data = save(state, {"format": "pt", **_metadata(upsampler, name)})
    write_atomic(Path(path), data)
    return {"path": str(path), "bytes": len(data), "max_difference": differences}


def _plain_copy(upsampler: ResidualShiftUpsampler) -> ResidualShiftUpsampler:
    """Copy an upsampler as a float32 model on the CPU, in evaluation mode."""
    copy = deepcopy(upsampler).cpu().float().eval().requires_grad_(False)
    copy.set_bf16(False)
    return copy


def _metadata(upsampler: ResidualShiftUpsampler, name: str) -> dict[str, str]:
    told = {"name": name, "scale": str(upsampler.config.scale), "licence": LICENCE}
    return told if upsampler.detail_branch is None else {**told, "detail": f"{upsampler.config.detail:g}"}


def _details(upsampler: ResidualShiftUpsampler) -> tuple[float | None, ...]:
    return (None,) if upsampler.detail_branch is None else CHECKED_DETAILS


def _label(model: Any, upsampler: ResidualShiftUpsampler) -> None:
    """Name the axes, and store the default of the detail."""
    from onnx.numpy_helper import from_array

    scale = upsampler.config.scale
    if upsampler.detail_branch is not None:
        model.graph.initializer.append(from_array(np.array([upsampler.config.detail], np.float32), "detail"))
    name_axes(
        model,
        {"lr": ("batch", "", "height", "width"), "sr": ("batch", "", f"{scale}*height", f"{scale}*width")},
    )


def _compare(
    upsampler: ResidualShiftUpsampler,
    other: Callable[[Tensor, float | None], Tensor],
    tolerance: float,
    kind: str,
    *,
    details: tuple[float | None, ...] = (None,),
) -> dict[str, float]:
    """Compute the largest difference for each shape, such as "2x3x37x50"; raise ValueError above the tolerance."""
    differences = {}
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for shape in CHECKED_SHAPES:
            lr = torch.rand(shape, generator=generator)
            each = [(other(lr, detail) - upsampler(lr, detail=detail)).abs().max() for detail in details]
            differences["x".join(map(str, shape))] = float(torch.stack(each).max())
    worst, largest = max(differences.items(), key=lambda item: item[1])
    if not largest <= tolerance:  # written so that nan is refused too
        raise ValueError(
            f"the {kind} file was not written because its images differ from torch's by {largest:.2g} at {worst}, more "
            f"than {tolerance:g}; try other versions of the packages in the [export] extra, or a larger tolerance"
        )
    return differences
