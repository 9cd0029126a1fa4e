"""The steps a recipe is made of: what may be written in the file, and how one sample's parameters are drawn from it.

Free of torch: a step only turns its ranges into numbers. ``degrade.recipes.recipe`` applies the numbers to images.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from degrade.recipes.ranges import (
    AngleRange,
    Dice,
    Direction,
    FactorRange,
    FractionRange,
    LengthRange,
    OddSizeRange,
    PositiveRange,
    Probability,
    QualityRange,
    Weights,
)

Drawn: TypeAlias = dict[str, Any]
KernelName = Literal[
    "iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc", "disk", "motion"
]
ModeName = Literal["area", "bilinear", "bicubic", "lanczos", "nearest"]
ChromaName = Literal["4:4:4", "4:2:2", "4:2:0", "4:1:1"]


class StrictModel(BaseModel):
    """A frozen model that refuses keys it does not know; attribute docstrings become the JSON schema's descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BaseStep(StrictModel, ABC):
    """What every step has."""

    probability: Probability = 1.0
    """Chance that the step happens at all, drawn per sample."""

    def draw(self, dice: Dice, scale: int) -> list[Drawn]:
        """Parameters of one sample: the operations that happen, in their order."""
        return self._draw(dice, scale) if dice.chance(self.probability) else []

    @abstractmethod
    def _draw(self, dice: Dice, scale: int) -> list[Drawn]: ...

    def summary(self) -> str:
        """A few words for a one-line description."""
        return f"{self._summary()} ({self.probability:g})" if self.probability < 1 else self._summary()

    @abstractmethod
    def _summary(self) -> str: ...


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
    """Which of the two is uniform over the range (BSRGAN's anisotropic kernels are uniform in variance)."""
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

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        family = dice.pick(self.kernels)
        angle_rad = math.radians(dice.uniform(self.angle_deg))
        match family:
            case "disk":
                return [{"op": "blur", "kernel": "disk", "radius_px": dice.uniform(self.radius_px)}]
            case "motion":
                length_px = max(1.0, dice.uniform(self.length_px))
                return [{"op": "blur", "kernel": "motion", "length_px": length_px, "angle_rad": angle_rad}]
        size_px = dice.integer(self.size_px, step=2)
        if family == "sinc":
            cutoff = self.cutoff_nyquist or ((1 / 3, 1.0) if size_px < 13 else (1 / 5, 1.0))
            cutoff_rad = max(0.01, dice.uniform(cutoff)) * math.pi
            return [{"op": "blur", "kernel": "sinc", "size_px": size_px, "cutoff_rad": cutoff_rad}]
        drawn: Drawn = {"op": "blur", "kernel": "gaussian", "size_px": size_px, "sigma_px": [self._sigma_px(dice)]}
        if family.endswith("aniso"):
            drawn["sigma_px"].append(self._sigma_px(dice))
            drawn["angle_rad"] = angle_rad
        if family.startswith(("generalized", "plateau")):
            drawn["kernel"] = family.split("_")[0]
            low, high = self.beta_generalized if drawn["kernel"] == "generalized" else self.beta_plateau
            drawn["beta"] = dice.uniform((low, max(1.0, low)) if dice.chance(0.5) else (min(1.0, high), high))
        return [drawn]

    def _sigma_px(self, dice: Dice) -> float:
        if self.uniform_in == "sigma":
            return dice.uniform(self.sigma_px)
        return math.sqrt(dice.uniform((self.sigma_px[0] ** 2, self.sigma_px[1] ** 2)))

    def _summary(self) -> str:
        name = "blur" if len(self.kernels) > 1 else f"{next(iter(self.kernels))} blur"
        return name if set(self.kernels) <= {"sinc", "disk", "motion"} else f"{name} {_span(self.sigma_px)} px"


class Resize(BaseStep):
    """Resize by a factor of the current size, or of the final LR size: ``{op: resize, of: lr}`` is that size."""

    op: Literal["resize"] = "resize"
    factor: FactorRange = (1.0, 1.0)
    """Target side over reference side."""
    of: Literal["input", "lr"] = "input"
    """Reference of the factor: the image as it comes in, or HR / scale."""
    direction: Weights[Direction] | None = None
    """Weights of up (factor from 1 up), down (to 1) and keep (1); null draws over the whole range."""
    uniform_in: Literal["factor", "divisor"] = "factor"
    """Which is uniform: the factor, or its inverse (BSRGAN)."""
    modes: Weights[ModeName] = Field(default={"bicubic": 1.0})
    """Interpolations."""
    antialias: bool = False
    """Widen the kernel when reducing (MATLAB, PIL); false samples and aliases (Real-ESRGAN)."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        low, high = self.factor
        match dice.pick(self.direction) if self.direction else None:
            case "up":
                low, high = 1.0, max(1.0, high)
            case "down":
                low, high = min(low, 1.0), 1.0
            case "keep":
                low = high = 1.0
        by_factor = self.uniform_in == "factor"
        factor = dice.uniform((low, high)) if by_factor else 1 / dice.uniform((1 / high, 1 / low))
        mode = dice.pick(self.modes)
        return [{"op": "resize", "of": self.of, "factor": factor, "mode": mode, "antialias": self.antialias}]

    def _summary(self) -> str:
        if self.of == "lr" and self.factor == (1.0, 1.0):
            return "to LR"
        return f"resize {_span(self.factor)}" + (" of LR" if self.of == "lr" else "")


class Noise(BaseStep):
    """Gaussian, Poisson or spatially correlated Gaussian noise; the result is clipped."""

    op: Literal["noise"] = "noise"
    families: Weights[Literal["gaussian", "poisson", "correlated"]] = Field(default={"gaussian": 1.0})
    """Noise families; "correlated" is Gaussian noise smoothed to ``correlation_px``, at the full ``sigma_255``."""
    sigma_255: PositiveRange = (1.0, 30.0)
    """Standard deviation of Gaussian noise in 8-bit levels."""
    poisson_scale: PositiveRange = (0.05, 3.0)
    """Factor on the deviation of a 256-photon count."""
    correlation_px: LengthRange = (0.5, 1.5)
    """Sigma of the smoothing of correlated noise."""
    grey_probability: Probability = 0.0
    """Chance that the three channels share one noise."""
    mixed_channels: bool = False
    """Gaussian noise, where not grey, whose channel covariance has random axes and eigenvalues uniform in [0, 1]
    (BSRGAN)."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        family = dice.pick(self.families)
        grey = dice.chance(self.grey_probability)
        drawn: Drawn = {"op": "noise", "family": family, "grey": grey, "seed": dice.seed()}
        if family == "poisson":
            return [drawn | {"scale": dice.uniform(self.poisson_scale)}]
        drawn["sigma_255"] = dice.uniform(self.sigma_255)
        if family == "correlated":
            drawn["correlation_px"] = dice.uniform(self.correlation_px)
        if self.mixed_channels and not grey:
            drawn["mixing"] = _random_mixing(dice)
        return [drawn]

    def _summary(self) -> str:
        return f"{'|'.join(self.families)} noise"


class Camera(BaseStep):
    """Shot and read noise on a Bayer sensor before a simple ISP (Brooks et al., CVPR 2019)."""

    op: Literal["camera"] = "camera"
    shot: PositiveRange = (1e-4, 1.2e-2)
    """Shot noise variance per unit of raw light, log-uniform; the read noise follows it with Brooks' regression."""
    gain_red: FactorRange = (1.9, 2.4)
    """White balance gain of red against green."""
    gain_blue: FactorRange = (1.5, 1.9)
    """White balance gain of blue against green."""
    mosaic_probability: Probability = 1.0
    """Chance of sampling and interpolating an RGGB mosaic."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        shot = dice.log_uniform((max(self.shot[0], 1e-8), max(self.shot[1], 1e-8)))
        return [
            {
                "op": "camera",
                "shot": shot,
                "read": math.exp(2.18 * math.log(shot) + 1.20 + 0.26 * dice.normal()),  # Brooks et al., section 3.1
                "gains": [dice.uniform(self.gain_red), dice.uniform(self.gain_blue)],
                "mosaic": dice.chance(self.mosaic_probability),
                "seed": dice.seed(),
            }
        ]

    def _summary(self) -> str:
        return "camera noise"


class Jpeg(BaseStep):
    """JPEG compression."""

    op: Literal["jpeg"] = "jpeg"
    quality: QualityRange = (30, 95)
    """libjpeg quality, integers of the range equally likely."""
    chroma: Weights[ChromaName] = Field(default={"4:2:0": 1.0})
    """Chroma subsampling of the file."""
    codec: Literal["libjpeg", "kornia"] = "libjpeg"
    """The real codec with a straight-through gradient, or kornia's differentiable one (slow, 4:2:0)."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        quality, chroma = dice.integer(self.quality), dice.pick(self.chroma)
        return [{"op": "jpeg", "quality": quality, "chroma": chroma, "codec": self.codec}]

    @model_validator(mode="after")
    def _kornia_knows_420_only(self) -> "Jpeg":
        if self.codec == "kornia" and set(self.chroma) != {"4:2:0"}:
            raise ValueError(f"kornia's JPEG has chroma 4:2:0 only, got {list(self.chroma)}; use codec libjpeg")
        return self

    def _summary(self) -> str:
        return f"JPEG {_span(self.quality)}"


class Webp(BaseStep):
    """Lossy WebP compression."""

    op: Literal["webp"] = "webp"
    quality: QualityRange = (40, 100)
    """libwebp quality, integers of the range equally likely."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        return [{"op": "webp", "quality": dice.integer(self.quality)}]

    def _summary(self) -> str:
        return f"WebP {_span(self.quality)}"


class Chroma(BaseStep):
    """Chroma subsampling alone, without the codec's blocks."""

    op: Literal["chroma"] = "chroma"
    modes: Weights[ChromaName] = Field(default={"4:2:0": 1.0})
    """Subsampling patterns."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        return [{"op": "chroma", "chroma": dice.pick(self.modes)}]

    def _summary(self) -> str:
        return f"chroma {'|'.join(self.modes)}"


class Sharpen(BaseStep):
    """Unsharp mask; the defaults are Real-ESRGAN's."""

    op: Literal["sharpen"] = "sharpen"
    amount: PositiveRange = (0.5, 0.5)
    """Strength."""
    sigma_px: LengthRange = (8.0, 8.0)
    """Width of the mask's blur."""
    threshold_255: PositiveRange = (10.0, 10.0)
    """Detail weaker than this, in 8-bit levels, is left alone."""

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        fields = ("amount", "sigma_px", "threshold_255")
        return [{"op": "sharpen"} | {name: dice.uniform(getattr(self, name)) for name in fields}]

    def _summary(self) -> str:
        return f"sharpen {_span(self.amount)}"


class Quantise(BaseStep):
    """Rounding to 8 bits in the middle of a chain; the end of every chain is rounded anyway."""

    op: Literal["quantise"] = "quantise"

    def _draw(self, dice: Dice, scale: int) -> list[Drawn]:
        return [{"op": "quantise"}]

    def _summary(self) -> str:
        return "8 bits"


def _span(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g}-{bounds[1]:g}"


def _random_mixing(dice: Dice) -> list[list[float]]:
    """Rotation times the roots of three eigenvalues: M with M M^T of random axes, variances between 0 and 1."""
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
