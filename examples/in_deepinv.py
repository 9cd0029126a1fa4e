"""Use the learned degrader as a forward operator of deepinv: y = A(x), with a fixed look and fixed noise.

python examples/in_deepinv.py
"""

from typing import Any

import torch
import torch.nn.functional as F
from deepinv.physics import Physics
from torch import Tensor

from degrade import RealisticDegrader


class LearnedDegradation(Physics):
    """Degrade images the same way in every call, differentiably.

    The degrader's own noise is a part of A and stays fixed; a ``noise_model`` would add another one.

    Args:
        degrader: the learned degrader; its weights are frozen.
        code: how to degrade, (1 or B, code_dim), such as ``degrader.encode(lr)``.
        seed: seed of the noise.
        **options: passed on to `Physics`, such as ``noise_model`` or ``max_iter``.
    """

    def __init__(self, degrader: RealisticDegrader, code: Tensor, *, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.degrader = degrader.requires_grad_(False)
        self.register_buffer("code", code.detach())
        self.seed = seed

    def A(self, x: Tensor, code: Tensor | None = None, **_: Any) -> Tensor:  # noqa: N802
        """Degrade images, (B, 3, H, W) -> (B, 3, H/scale, W/scale).

        Values outside [0, 1], as solvers make them between their steps, count as 0 or 1, and their gradient passes.
        A ``code`` that is given is kept, as deepinv keeps the parameters of its operators.
        """
        self.update_parameters(code=code)
        generators = [torch.Generator().manual_seed(self.seed + i) for i in range(len(x))]
        return self.degrader(x, self.code, generator=generators, out_of_range="clamp")

    def A_dagger(self, y: Tensor, x_init: Tensor | None = None) -> Tensor:  # noqa: N802
        """Find an image that degrades to ``y`` by gradient descent, from its bicubic enlargement by default."""
        start = F.interpolate(y, scale_factor=self.degrader.config.scale, mode="bicubic") if x_init is None else x_init
        return super().A_dagger(y, start)


if __name__ == "__main__":
    degrader = RealisticDegrader.from_pretrained("tiny-x4").eval()
    physics = LearnedDegradation(degrader, degrader.sample_codes(1), max_iter=20)
    y = physics(F.interpolate(torch.rand(1, 3, 8, 8), scale_factor=16.0, mode="bicubic").clamp(0, 1))
    start = F.interpolate(y, scale_factor=4.0, mode="bicubic")
    for name, x in {"enlarged": start, "fitted": physics.A_dagger(y)}.items():
        print(f"A({name}) differs from y by {float((physics(x) - y).abs().mean()):.4f}")
