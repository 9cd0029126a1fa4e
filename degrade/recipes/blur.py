"""Blur, sharpening and halos as operations of a recipe."""

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from degrade.ops.blur import blur, disk_kernel, gaussian_kernel, halo, motion_kernel, sinc_kernel, unsharp_mask
from degrade.recipes.ranges import (
    Angle,
    AngleRange,
    Dice,
    FractionRange,
    KernelSize,
    Length,
    LengthRange,
    OddSizeRange,
    PositiveRange,
    Strength,
    Weights,
    span,
)
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes

KernelName = Literal[
    "iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc", "disk", "motion"
]


class Blur(BaseStep):
    """Blur by one kernel of the chosen family."""

    op: Literal["blur"] = "blur"
    kernels: Weights[KernelName]
    """Kernel families."""
    size_px: OddSizeRange = (7, 21)
    """Side of Gaussian-like and sinc kernels: the odd sizes of the range, equally likely."""
    sigma_px: PositiveRange = (0.2, 3.0)
    """Standard deviation; aniso families draw two."""
    uniform_in: Literal["sigma", "variance"] = "sigma"
    """Whether sigma or its square is uniform over the range (BSRGAN's anisotropic kernels: variance)."""
    angle_deg: AngleRange = (-180.0, 180.0)
    """Rotation of aniso and motion kernels."""
    beta_generalized: PositiveRange = (0.5, 4.0)
    """Exponent of generalized families: half the draws below 1, half above."""
    beta_plateau: PositiveRange = (1.0, 2.0)
    """Exponent of plateau families: half the draws below 1 (or at the lower end, when that is 1), half above."""
    cutoff_nyquist: FractionRange | None = None
    """Cut-off of sinc kernels, 1 = Nyquist; null is Real-ESRGAN's rule: from 1/3 below 13 px, from 1/5 above, to 1."""
    radius_px: LengthRange = (1.0, 4.0)
    """Radius of disk kernels."""
    length_px: LengthRange = (3.0, 15.0)
    """Length of motion kernels."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnBlur]":
        family = dice.pick(self.kernels)
        angle_rad = math.radians(dice.uniform(self.angle_deg))
        match family:
            case "disk":
                return [DrawnDiskBlur(op="blur", kernel="disk", radius_px=dice.uniform(self.radius_px))]
            case "motion":
                length_px = max(1.0, dice.uniform(self.length_px))
                return [DrawnMotionBlur(op="blur", kernel="motion", length_px=length_px, angle_rad=angle_rad)]
        size_px = dice.integer(self.size_px, step=2)
        if family == "sinc":
            cutoff = self.cutoff_nyquist or ((1 / 3, 1.0) if size_px < 13 else (1 / 5, 1.0))
            cutoff_rad = max(0.01, dice.uniform(cutoff)) * math.pi
            return [DrawnSincBlur(op="blur", kernel="sinc", size_px=size_px, cutoff_rad=cutoff_rad)]
        drawn: dict[str, Any] = {"kernel": "gaussian", "sigma_px": [self._sigma_px(dice)]}
        if family.endswith("aniso"):
            drawn["sigma_px"].append(self._sigma_px(dice))
            drawn["angle_rad"] = angle_rad
        if family.startswith(("generalized", "plateau")):
            drawn["kernel"] = family.split("_")[0]
            low, high = self.beta_generalized if drawn["kernel"] == "generalized" else self.beta_plateau
            drawn["beta"] = dice.uniform((low, max(1.0, low)) if dice.chance(0.5) else (min(1.0, high), high))
        return [DrawnGaussianBlur(op="blur", size_px=size_px, **drawn)]

    def _sigma_px(self, dice: Dice) -> float:
        if self.uniform_in == "sigma":
            return dice.uniform(self.sigma_px)
        return math.sqrt(dice.uniform((self.sigma_px[0] ** 2, self.sigma_px[1] ** 2)))

    def _summary(self) -> str:
        name = "blur" if len(self.kernels) > 1 else f"{next(iter(self.kernels))} blur"
        return name if set(self.kernels) <= {"sinc", "disk", "motion"} else f"{name} {span(self.sigma_px)} px"


class DrawnGaussianBlur(DrawnStep):
    """Blur by a Gaussian, generalized Gaussian or plateau kernel, isotropic or turned."""

    op: Literal["blur"]
    kernel: Literal["gaussian", "generalized", "plateau"]
    size_px: KernelSize
    sigma_px: Annotated[list[Strength], Field(min_length=1, max_length=2)]
    angle_rad: Angle = 0.0
    beta: Strength = 1.0

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Convolve the image with the kernel.

        Raises:
            ValueError: a record without ``beta`` asks for another kernel than a Gaussian.
        """
        sigma_px, angle_rad = _batch_of_one(self.sigma_px), _batch_of_one(self.angle_rad)
        beta = _batch_of_one(self.beta) if "beta" in self.model_fields_set else None
        return blur(image, gaussian_kernel(self.size_px, sigma_px, angle_rad, shape=self.kernel, beta=beta))


class DrawnSincBlur(DrawnStep):
    """Blur by a sinc kernel."""

    op: Literal["blur"]
    kernel: Literal["sinc"]
    size_px: KernelSize
    cutoff_rad: Annotated[float, Field(gt=0, le=4)]

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Convolve the image with the kernel."""
        return blur(image, sinc_kernel(self.size_px, _batch_of_one(self.cutoff_rad)))


class DrawnDiskBlur(DrawnStep):
    """Blur by a disk."""

    op: Literal["blur"]
    kernel: Literal["disk"]
    radius_px: Length

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Convolve the image with the kernel."""
        return blur(image, disk_kernel(_batch_of_one(self.radius_px)))


class DrawnMotionBlur(DrawnStep):
    """Blur along a straight segment."""

    op: Literal["blur"]
    kernel: Literal["motion"]
    length_px: Annotated[float, Field(ge=1, le=100)]
    angle_rad: Angle

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Convolve the image with the kernel."""
        return blur(image, motion_kernel(_batch_of_one(self.length_px), _batch_of_one(self.angle_rad)))


DrawnBlur = Annotated[
    DrawnGaussianBlur | DrawnSincBlur | DrawnDiskBlur | DrawnMotionBlur, Field(discriminator="kernel")
]


def _batch_of_one(value: float | list[float]) -> Tensor:
    return torch.tensor([value], dtype=torch.float64, device="cpu")


class Sharpen(BaseStep):
    """Sharpen by an unsharp mask; the defaults are Real-ESRGAN's."""

    op: Literal["sharpen"] = "sharpen"
    amount: PositiveRange = (0.5, 0.5)
    """Factor on the detail that is added."""
    sigma_px: LengthRange = (8.0, 8.0)
    """Standard deviation of the blur whose difference to the image is the detail."""
    threshold_255: PositiveRange = (10.0, 10.0)
    """Detail weaker than this, in 8-bit levels, is left alone."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnSharpen]":
        amount, sigma_px = dice.uniform(self.amount), dice.uniform(self.sigma_px)
        threshold_255 = dice.uniform(self.threshold_255)
        return [DrawnSharpen(op="sharpen", amount=amount, sigma_px=sigma_px, threshold_255=threshold_255)]

    def _summary(self) -> str:
        return f"sharpen {span(self.amount)}"


class DrawnSharpen(DrawnStep):
    """Sharpen by an unsharp mask."""

    op: Literal["sharpen"]
    amount: Strength
    sigma_px: Length
    threshold_255: Strength

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Sharpen the image where its detail is strong."""
        amount, sigma_px, threshold_255 = (
            torch.tensor([value], device="cpu") for value in (self.amount, self.sigma_px, self.threshold_255)
        )
        return unsharp_mask(image, amount, sigma_px, threshold_255 / 255)


class Halo(BaseStep):
    """Draw bright and dark lines along edges, as edge enhancement does: an unsharp mask of the luma with a limit."""

    op: Literal["halo"] = "halo"
    amount: PositiveRange = (1.0, 4.0)
    """Factor on the detail that is added."""
    sigma_px: LengthRange = (1.0, 2.5)
    """Standard deviation of the blur whose difference to the image is the detail; the lines are about as wide."""
    limit_255: PositiveRange = (15.0, 60.0)
    """Largest change of a pixel in 8-bit levels."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnHalo]":
        amount, sigma_px = dice.uniform(self.amount), dice.uniform(self.sigma_px)
        return [DrawnHalo(op="halo", amount=amount, sigma_px=sigma_px, limit_255=dice.uniform(self.limit_255))]

    def _summary(self) -> str:
        return f"halo {span(self.amount)}"


class DrawnHalo(DrawnStep):
    """Draw halos along edges."""

    op: Literal["halo"]
    amount: Strength
    sigma_px: Length
    limit_255: Strength

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Add the limited overshoot to the image."""
        numbers = (self.amount, self.sigma_px, self.limit_255)
        amount, sigma_px, limit_255 = (torch.tensor([value], device="cpu") for value in numbers)
        return halo(image, amount, sigma_px, limit_255 / 255)
