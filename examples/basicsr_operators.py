"""Run BasicSR's own degradation operators in Real-ESRGAN's order, to compare with them.

Nothing of BasicSR is here: three of its files are loaded from an unpacked source distribution, which
`pip download --no-deps --no-build-isolation basicsr==1.4.2` fetches. They need scipy and torchvision.
"""

import math
import random
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.recipes.presets import REAL_ESRGAN

FILES = ("data/degradations.py", "utils/diffjpeg.py", "utils/img_process_util.py")
HOW_TO_GET_IT = (
    "run `pip download --no-deps --no-build-isolation basicsr==1.4.2 && tar xf basicsr-1.4.2.tar.gz`, "
    "and give --basicsr basicsr-1.4.2"
)
SINC_SIZE = 21  # px; smaller kernels are padded to it
KERNEL_SIZES = range(7, SINC_SIZE + 1, 2)


class Kernels(NamedTuple):
    """Hold the kernels of a batch, (B, 21, 21) each: of both blurs, and of the last filter."""

    first: Tensor
    second: Tensor
    last: Tensor


class BasicsrRealEsrgan:
    """Degrade batches as BasicSR's RealESRGANModel does, with the published numbers of Real-ESRGAN x4plus.

    Its random numbers come from the global generators of Python, NumPy and torch, as in BasicSR. The choices of sizes,
    kinds of noise and order are shared by a batch.

    Args:
        folder: the unpacked source distribution.

    Raises:
        ValueError: its files are not there.
    """

    def __init__(self, folder: Path) -> None:
        from torchvision.transforms import functional

        # BasicSR imports one function by a name that torchvision no longer has.
        sys.modules.setdefault("torchvision.transforms.functional_tensor", functional)
        self._draw, jpeg, self._filters = (_load(folder / "basicsr" / name) for name in FILES)
        self._jpeg = jpeg.DiffJPEG(differentiable=False)

    def kernels(self, n: int) -> Kernels:
        """Draw the kernels of a batch, which BasicSR's data set does in the workers of its loader."""
        options = REAL_ESRGAN
        first = [self._kernel(options.sinc_prob, options.blur_sigma) for _ in range(n)]
        second = [self._kernel(options.sinc_prob2, options.blur_sigma2) for _ in range(n)]
        return Kernels(*(torch.stack(each) for each in (first, second, [self._last_kernel() for _ in range(n)])))

    def _kernel(self, sinc_prob: float, sigma: tuple[float, float]) -> Tensor:
        options, size = REAL_ESRGAN, random.choice(KERNEL_SIZES)
        if np.random.uniform() < sinc_prob:
            cutoff = np.random.uniform(np.pi / (3 if size < 13 else 5), np.pi)
            kernel = self._draw.circular_lowpass_kernel(cutoff, size, pad_to=False)
        else:
            kernel = self._draw.random_mixed_kernels(
                options.kernel_list, options.kernel_prob, size, sigma, sigma, (-math.pi, math.pi),
                options.betag_range, options.betap_range, noise_range=None,
            )  # fmt: skip
        return torch.from_numpy(np.pad(kernel, (SINC_SIZE - size) // 2)).float()

    def _last_kernel(self) -> Tensor:
        if np.random.uniform() < REAL_ESRGAN.final_sinc_prob:
            size, cutoff = random.choice(KERNEL_SIZES), np.random.uniform(np.pi / 3, np.pi)
            return torch.from_numpy(self._draw.circular_lowpass_kernel(cutoff, size, pad_to=SINC_SIZE)).float()
        return F.pad(torch.ones(1, 1), (SINC_SIZE // 2,) * 4)

    @torch.no_grad()
    def __call__(self, hr: Tensor, kernels: Kernels) -> Tensor:
        """Degrade a batch: (B, 3, H, W) in [0, 1] -> (B, 3, H/4, W/4), multiples of 1/255."""
        options, (height, width) = REAL_ESRGAN, (side // 4 for side in hr.shape[-2:])
        factor = _resize_factor(options.resize_prob, options.resize_range)
        image = F.interpolate(self._filter(hr, kernels.first), scale_factor=factor, mode=_mode())
        image = self._compressed(self._noisy(image, options.noise_range, options.poisson_scale_range))
        if np.random.uniform() < options.second_blur_prob:
            image = self._filter(image, kernels.second)
        factor = _resize_factor(options.resize_prob2, options.resize_range2)
        image = F.interpolate(image, size=(int(height * factor), int(width * factor)), mode=_mode())
        image = self._noisy(image, options.noise_range2, options.poisson_scale_range2)
        if np.random.uniform() < 0.5:
            image = F.interpolate(image, size=(height, width), mode=_mode())
            image = self._compressed(self._filter(image, kernels.last))
        else:
            image = F.interpolate(self._compressed(image), size=(height, width), mode=_mode())
            image = self._filter(image, kernels.last)
        return (image * 255).round().clamp(0, 255) / 255

    def _filter(self, image: Tensor, kernels: Tensor) -> Tensor:
        # On a CPU its padding keeps the channels innermost, as its JPEG returns them, and then its filter fails.
        return self._filters.filter2D(image.contiguous(), kernels)

    def _noisy(self, image: Tensor, sigma: tuple[float, float], poisson: tuple[float, float]) -> Tensor:
        common = {"clip": True, "rounds": False, "gray_prob": REAL_ESRGAN.gray_noise_prob}
        if np.random.uniform() < REAL_ESRGAN.gaussian_noise_prob:
            return self._draw.random_add_gaussian_noise_pt(image, sigma_range=sigma, **common)
        return self._draw.random_add_poisson_noise_pt(image, scale_range=poisson, **common)

    def _compressed(self, image: Tensor) -> Tensor:
        quality = image.new_zeros(len(image)).uniform_(*REAL_ESRGAN.jpeg_range)
        return self._jpeg(image.clamp(0, 1), quality=quality)


def seed_everything(seed: int) -> None:
    """Seed the global generators that BasicSR draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _mode() -> str:
    return random.choice(("area", "bilinear", "bicubic"))


def _resize_factor(shares: tuple[float, float, float], span: tuple[float, float]) -> float:
    kind = random.choices(("up", "down", "keep"), shares)[0]
    return {"up": np.random.uniform(1, span[1]), "down": np.random.uniform(span[0], 1), "keep": 1.0}[kind]


def _load(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{path} is not there; {HOW_TO_GET_IT}")
    spec = spec_from_file_location(f"basicsr_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
