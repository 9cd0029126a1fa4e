"""Noise as operations of a recipe: additive, signal-dependent, film grain, and that of a camera."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from degrade.ops.noise import camera_noise, film_grain, gaussian_noise, poisson_noise
from degrade.recipes.ranges import (
    Dice,
    Factor,
    FactorRange,
    Length,
    LengthRange,
    Number,
    PositiveRange,
    Probability,
    Seed,
    Strength,
    Weights,
    span,
)
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes


class Noise(BaseStep):
    """Add Gaussian, Poisson or spatially correlated Gaussian noise; the result is clipped."""

    op: Literal["noise"] = "noise"
    families: Weights[Literal["gaussian", "poisson", "correlated"]] = Field(default={"gaussian": 1.0})
    """Noise families; "correlated" is Gaussian noise smoothed to ``correlation_px``, at the full ``sigma_255``."""
    sigma_255: PositiveRange = (1.0, 30.0)
    """Standard deviation of Gaussian noise in 8-bit levels."""
    poisson_scale: PositiveRange = (0.05, 3.0)
    """Factor on the standard deviation that a count of 256 photons at white has."""
    correlation_px: LengthRange = (0.5, 1.5)
    """Standard deviation of the Gaussian that smooths correlated noise."""
    grey_probability: Probability = 0.0
    """Chance that the three channels share one noise."""
    mixed_channels: bool = False
    """Mix the channels of Gaussian noise that is not grey: a covariance with random axes and eigenvalues uniform in
    [0, 1] (BSRGAN)."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnNoise]":
        family = dice.pick(self.families)
        grey, seed = dice.chance(self.grey_probability), dice.seed()
        if family == "poisson":
            strength = dice.uniform(self.poisson_scale)
            return [DrawnPoissonNoise(op="noise", family="poisson", grey=grey, seed=seed, scale=strength)]
        drawn: dict[str, Any] = {"family": family, "sigma_255": dice.uniform(self.sigma_255)}
        if family == "correlated":
            drawn["correlation_px"] = dice.uniform(self.correlation_px)
        if self.mixed_channels and not grey:
            drawn["mixing"] = _random_mixing(dice)
        return [DrawnGaussianNoise(op="noise", grey=grey, seed=seed, **drawn)]

    def _summary(self) -> str:
        return f"{'|'.join(self.families)} noise"


class DrawnPoissonNoise(DrawnStep):
    """Add Poisson noise."""

    op: Literal["noise"]
    family: Literal["poisson"]
    grey: bool
    seed: Seed
    scale: Strength

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Add the noise and clip."""
        return poisson_noise(image, torch.tensor([self.scale], device="cpu"), [self.seed], grey=self.grey).clamp(0, 1)


class DrawnGaussianNoise(DrawnStep):
    """Add Gaussian noise: white or smoothed; the same in all channels, independent, or mixed between them."""

    op: Literal["noise"]
    family: Literal["gaussian", "correlated"]
    grey: bool
    seed: Seed
    sigma_255: Strength
    correlation_px: Length = 0.0
    mixing: Annotated[list[Annotated[list[Number], Field(min_length=3, max_length=3)]], Field(min_length=3)] | None = (
        Field(default=None, max_length=3)
    )

    @model_validator(mode="after")
    def _grey_has_nothing_to_mix(self) -> "DrawnGaussianNoise":
        if self.grey and self.mixing is not None:
            raise ValueError("grey noise has one channel and cannot have them mixed")
        return self

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Add the noise and clip."""
        noisy = gaussian_noise(
            image,
            torch.tensor([self.sigma_255 / 255], device="cpu"),
            [self.seed],
            correlation_px=self.correlation_px,
            mixing=None if self.mixing is None else torch.tensor(self.mixing, device="cpu"),
            grey=self.grey,
        )
        return noisy.clamp(0, 1)


DrawnNoise = Annotated[DrawnPoissonNoise | DrawnGaussianNoise, Field(discriminator="family")]


class Grain(BaseStep):
    """Add film grain: clumps of a few pixels, strongest in the mid-tones; the result is clipped."""

    op: Literal["grain"] = "grain"
    sigma_255: PositiveRange = (3.0, 15.0)
    """Standard deviation at mid-grey in 8-bit levels."""
    size_px: LengthRange = (0.4, 1.2)
    """Standard deviation of the Gaussian that forms the clumps; 0 gives single pixels."""
    grey_probability: Probability = 0.5
    """Chance of one grain for the three channels, as in black-and-white film."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnGrain]":
        sigma_255, size_px = dice.uniform(self.sigma_255), dice.uniform(self.size_px)
        grey = dice.chance(self.grey_probability)
        return [DrawnGrain(op="grain", sigma_255=sigma_255, size_px=size_px, grey=grey, seed=dice.seed())]

    def _summary(self) -> str:
        return f"grain {span(self.sigma_255)}"


class DrawnGrain(DrawnStep):
    """Add film grain."""

    op: Literal["grain"]
    sigma_255: Strength
    size_px: Length
    grey: bool
    seed: Seed

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Add the grain and clip."""
        sigma = torch.tensor([self.sigma_255 / 255], device="cpu")
        return film_grain(image, sigma, [self.seed], size_px=self.size_px, grey=self.grey).clamp(0, 1)


class Camera(BaseStep):
    """Add shot and read noise on a Bayer sensor, before a simple ISP (Brooks et al., CVPR 2019)."""

    op: Literal["camera"] = "camera"
    shot: PositiveRange = (1e-4, 1.2e-2)
    """Shot noise variance per unit of raw light, log-uniform; the read noise follows it with Brooks' regression."""
    gain_red: FactorRange = (1.9, 2.4)
    """White balance gain of red against green."""
    gain_blue: FactorRange = (1.5, 1.9)
    """White balance gain of blue against green."""
    mosaic_probability: Probability = 1.0
    """Chance of sampling and interpolating an RGGB mosaic."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnCamera]":
        shot = dice.log_uniform((max(self.shot[0], 1e-8), max(self.shot[1], 1e-8)))
        return [
            DrawnCamera(
                op="camera",
                shot=shot,
                read=math.exp(2.18 * math.log(shot) + 1.20 + 0.26 * dice.normal()),  # Brooks et al., section 3.1
                gains=(dice.uniform(self.gain_red), dice.uniform(self.gain_blue)),
                mosaic=dice.chance(self.mosaic_probability),
                seed=dice.seed(),
            )
        ]

    def _summary(self) -> str:
        return "camera noise"


class DrawnCamera(DrawnStep):
    """Add the shot and read noise of one exposure."""

    op: Literal["camera"]
    shot: Strength
    read: Annotated[float, Field(ge=0, le=1e9)]
    gains: tuple[Factor, Factor]
    mosaic: bool
    seed: Seed

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Take the image back to raw light, add the noise there, and develop it again."""
        shot, read, gains = (torch.tensor([value], device="cpu") for value in (self.shot, self.read, self.gains))
        return camera_noise(image, shot, read, gains, [self.seed], mosaic=self.mosaic)


def _random_mixing(dice: Dice) -> list[list[float]]:
    """Draw a 3x3 matrix M, a rotation times the roots of three eigenvalues in [0, 1], so that M M^T is a covariance."""
    quaternion = [dice.normal() for _ in range(4)]
    norm = math.sqrt(sum(part * part for part in quaternion))
    w, x, y, z = (part / norm for part in quaternion)
    rotation = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    roots = [math.sqrt(dice.uniform((0, 1))) for _ in range(3)]
    return [[entry * root for entry, root in zip(row, roots, strict=True)] for row in rotation]
