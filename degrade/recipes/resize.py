"""Resizing as an operation of a recipe."""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from degrade.ops.light import linear_to_srgb, srgb_to_linear
from degrade.ops.resize import ResizeMode, resize
from degrade.recipes.ranges import Dice, Direction, Factor, FactorRange, Probability, Weights, span
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes

_ROOM, _GROWTH = 1 << 24, 16  # a resize may make this many pixels, or this many times those of the HR image


class Resize(BaseStep):
    """Resize by a factor of the current size, or of the LR size: ``{op: resize, of: lr}`` gives the LR size."""

    later_options = ("linear_light_probability",)

    op: Literal["resize"] = "resize"
    factor: FactorRange = (1.0, 1.0)
    """Side of the result / side of the reference."""
    of: Literal["input", "lr"] = "input"
    """Reference: the image as it comes in, or the LR size."""
    direction: Weights[Direction] | None = None
    """Weights of up (factor from 1 up), down (to 1) and keep (1); null draws over the whole range."""
    uniform_in: Literal["factor", "divisor"] = "factor"
    """Whether the factor or its inverse is uniform over the range (BSRGAN: divisor)."""
    modes: Weights[ResizeMode] = Field(default={"bicubic": 1.0})
    """Interpolation modes."""
    antialias: bool = False
    """Widen the kernel when reducing, as MATLAB and PIL do; false lets the result alias, as Real-ESRGAN does."""
    linear_light_probability: Probability = 0.0
    """Chance of resizing linear light, as gamma-aware programs do, in place of display values."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnResize]":
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
        drawn: dict[str, Any] = {"of": self.of, "factor": factor, "mode": mode, "antialias": self.antialias}
        if self.linear_light_probability and dice.chance(self.linear_light_probability):
            drawn["linear_light"] = True
        return [DrawnResize(op="resize", **drawn)]

    def _summary(self) -> str:
        if self.of == "lr" and self.factor == (1.0, 1.0):
            return "to LR"
        return f"resize {span(self.factor)}" + (" of LR" if self.of == "lr" else "")


class DrawnResize(DrawnStep):
    """Resize by a factor."""

    op: Literal["resize"]
    of: Literal["input", "lr"]
    factor: Factor
    mode: ResizeMode
    antialias: bool
    linear_light: bool = False

    @property
    def to_lr_size(self) -> bool:
        """Whether the result has exactly the LR size."""
        return self.of == "lr" and self.factor == 1

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Resize the image.

        Raises:
            ValueError: the result would have far more pixels than the HR image.
        """
        height, width = sizes.lr if self.of == "lr" else image.shape[-2:]
        size = (max(1, int(height * self.factor)), max(1, int(width * self.factor)))
        if size[0] * size[1] > max(_ROOM, _GROWTH * sizes.hr[0] * sizes.hr[1]):
            raise ValueError(f"a resize by factor {self.factor:.3g} makes {size[1]}x{size[0]} pixels; lower its factor")
        if self.linear_light:
            return linear_to_srgb(resize(srgb_to_linear(image), size, self.mode, antialias=self.antialias))
        return resize(image, size, self.mode, antialias=self.antialias)
