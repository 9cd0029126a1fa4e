"""Find the directions in which codes change when an image becomes softer, noisier or more compressed."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from degrade.degrader import RealisticDegrader
from degrade.networks.block_quantiser import coarseness_of_quality
from degrade.ops.blur import blur, gaussian_kernel
from degrade.ops.compress import jpeg
from degrade.ops.noise import gaussian_noise
from degrade.recipes.ranges import Dice

SAMPLES = 300
BLUR_PX = (0.3, 2.0)  # standard deviation in LR pixels
NOISE_LEVELS = (1.0, 20.0)  # standard deviation of 0..255
JPEG_QUALITY = (30, 95)
KERNEL_PX = 15


def find_directions(degrader: RealisticDegrader, hr: Tensor, *, samples: int = SAMPLES, seed: int = 0) -> Tensor:
    """Fit how codes depend on blur, noise and JPEG, whose values are known because they are applied here.

    Clean downsamplings are blurred by a Gaussian, given white noise and compressed, all with drawn values, and encoded.
    A linear least-squares fit on the logarithms of the three values gives a direction for each, with the other two held
    fixed. Each is scaled to one standard deviation of the bank's codes along it.

    Args:
        degrader: the encoder and the bank of codes, which must not be empty.
        hr: images, (N, 3, H, W) in [0, 1]; sides divisible by the degrader's scale, LR sides of 16 or more.
        samples: LR images to make.
        seed: seed of the drawn values.

    Returns:
        (3, code_dim), in the order of `DIRECTIONS`.

    Raises:
        ValueError: the degrader has no bank.
    """
    if len(degrader.bank) < 2:
        raise ValueError("the bank has less than two codes, so its spread is not known; call set_bank first")
    clean = F.avg_pool2d(hr, degrader.config.scale)
    rows, codes = [], []
    with torch.no_grad():
        for number in range(samples):
            dice = Dice(seed * samples + number)
            sigma_px, level = dice.log_uniform(BLUR_PX), dice.log_uniform(NOISE_LEVELS)
            quality = dice.integer(JPEG_QUALITY)
            lr = blur(clean[number % len(clean)][None], gaussian_kernel(KERNEL_PX, torch.tensor([sigma_px])))
            lr = gaussian_noise(lr, torch.tensor([level / 255]), [number]).clamp(0, 1)
            codes.append(degrader.encode(jpeg(lr, [quality]).to(hr.device))[0])
            rows.append([1.0, math.log(sigma_px), math.log(level), math.log(coarseness_of_quality(quality))])
    causes = torch.tensor(rows, dtype=torch.float64)
    effects = torch.stack(codes).double().cpu()
    slopes = torch.linalg.lstsq(causes, effects).solution[1:]  # (3, code_dim)
    bank = degrader.bank.double().cpu()
    along = torch.linalg.lstsq(slopes.T, (bank - bank.mean(0)).T).solution  # (3, bank): each code in these directions
    return (slopes * along.std(1, keepdim=True)).float()
