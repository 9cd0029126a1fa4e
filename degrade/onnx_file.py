"""Export the learned degrader for other software, as one ONNX file."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from degrade.degrader import RealisticDegrader
from degrade.files.store import write_atomic
from degrade.networks.backend import require
from degrade.networks.onnx_trace import OPSET, TOLERANCE, check_opset, name_axes, trace_onnx
from degrade.networks.runtimes import start_onnxruntime

CHECKED_SHAPES = ((1, 24, 24), (2, 37, 50), (3, 70, 41))  # batch and sides of LR; some no multiples of a block
TURNED = 0.05  # share of values that may differ more, because JPEG's rounding of a block may fall to the other side
_WHOLE = 1 << 40  # LR pixels; no image is larger, so the network is traced without tiles
LICENCE = "network: Apache-2.0 (realistic-degrader); weights: as their trainer says"


class OneStepDegrader(nn.Module):
    """Compute `RealisticDegrader.forward` for one step in operations that torch can trace.

    Args:
        degrader: the model; its weights are shared, not copied.
    """

    def __init__(self, degrader: RealisticDegrader) -> None:
        super().__init__()
        self.degrader = degrader
        self.last = degrader.config.num_train_timesteps - 1

    def forward(self, hr: Tensor, code: Tensor, noise: Tensor) -> Tensor:
        """Degrade a batch; nothing is checked.

        Args:
            hr: (B, 3, scale * h, scale * w), range [0, 1].
            code: (B, code_dim).
            noise: standard normal noise, (B, 3, h, w).

        Returns:
            lr: (B, 3, h, w), range [0, 1].
        """
        degrader, hr = self.degrader, hr * 2 - 1
        anchor = F.avg_pool2d(hr, degrader.config.scale)
        xt = degrader.scheduler.prior_sample(anchor, noise)
        x0 = degrader.predict_x0(xt, self.last, hr, anchor, code, torch.zeros_like(xt), tile=_WHOLE)
        return ((x0 + 1) / 2).clamp(0, 1)  # includes the scheduler's clipping


def export_onnx(
    degrader: RealisticDegrader,
    path: str | Path,
    *,
    name: str = "degrader",
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Write one step of the degrader as an ONNX file: ``hr``, ``code`` and ``noise`` in, ``lr`` out, of any B, h and w.

    ``code`` comes from `RealisticDegrader.sample_codes` or `encode`; ``noise`` is drawn from the standard normal
    distribution.

    Args:
        degrader: on any device, in any precision and with any backend; the file is float32.
        path: the file, which is written only after onnxruntime has given the same images as torch.
        name: the name in the file's metadata, which also holds the scale and the licence.
        opset: version of the ONNX operator set, 18 or above.
        tolerance: largest accepted difference between onnxruntime and torch, in 0..1.

    Returns:
        ``path``, ``bytes``, ``opset``, and by shape of HR ``difference``, the largest one, and ``turned``, the share of
        values that differ by more than the tolerance because JPEG's rounding fell to the other side.

    Raises:
        ValueError: the opset cannot be written, a package is missing, or the difference is too large.
    """
    require("onnx", "onnxscript", "onnxruntime")
    from onnx.helper import set_model_props

    check_opset(opset)
    degrader = deepcopy(degrader).cpu().float().eval().requires_grad_(False)
    degrader.use_backend("torch")
    scale, traceable = degrader.config.scale, OneStepDegrader(degrader)
    inputs = _example(degrader, *CHECKED_SHAPES[1], seed=0)
    any_length: dict[str, Sequence[int]] = {"hr": (0, 2, 3), "code": (0,), "noise": (0, 2, 3)}
    model = trace_onnx(traceable, inputs, ["lr"], any_length=any_length, opset=opset)
    small = ("batch", "", "height", "width")
    large = ("batch", "", f"{scale}*height", f"{scale}*width")
    name_axes(model, {"hr": large, "code": ("batch",), "noise": small, "lr": small})
    set_model_props(model, {"name": name, "scale": str(scale), "licence": LICENCE})
    data = model.SerializeToString()
    session = start_onnxruntime(data)
    differences, turned = {}, {}
    for seed, shape in enumerate(CHECKED_SHAPES):
        inputs = _example(degrader, *shape, seed=seed)
        with torch.inference_mode():
            exact = degrader(**inputs)
        lr = torch.from_numpy(session.run(None, {key: tensor.numpy() for key, tensor in inputs.items()})[0])
        difference, called = (lr - exact).abs(), "x".join(map(str, inputs["hr"].shape))
        differences[called] = float(difference.max())
        turned[called] = float((~(difference <= tolerance)).float().mean())  # written so that nan counts too
        if turned[called] > TURNED:
            raise ValueError(
                f"the ONNX file was not written because {turned[called]:.0%} of its images differ from torch's by more "
                f"than {tolerance:g} at {called}; try other versions of the packages in the [export] extra, or a "
                "larger tolerance"
            )
    write_atomic(Path(path), data)
    return {"path": str(path), "bytes": len(data), "opset": opset, "difference": differences, "turned": turned}


def _example(degrader: RealisticDegrader, n: int, height: int, width: int, *, seed: int) -> dict[str, Tensor]:
    """Draw inputs for a number of LR images of this size."""
    generator, scale = torch.Generator().manual_seed(seed), degrader.config.scale
    return {
        "hr": torch.rand(n, 3, scale * height, scale * width, generator=generator),
        "code": degrader.sample_codes(n, generator=generator),
        "noise": torch.randn(n, 3, height, width, generator=generator),
    }
