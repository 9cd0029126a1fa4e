"""Printing dots as operations of a recipe: colour halftone and screentone."""

import math
from typing import Literal

from pydantic import model_validator
from torch import Tensor

from degrade.ops.screens import halftone, screentone
from degrade.recipes.ranges import Angle, AngleRange, Dice, Fraction, FractionRange, Period, PeriodRange, span
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes


class Halftone(BaseStep):
    """Print with cyan, magenta, yellow and black dots on four turned screens."""

    op: Literal["halftone"] = "halftone"
    period_px: PeriodRange = (2.5, 6.0)
    """Distance between dots in pixels: 1 / period dots per pixel."""
    angle_deg: AngleRange = (-7.5, 7.5)
    """Rotation of the page, added to 15, 75, 0 and 45 degrees for C, M, Y and K."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnHalftone]":
        period_px, angle_rad = dice.uniform(self.period_px), math.radians(dice.uniform(self.angle_deg))
        return [DrawnHalftone(op="halftone", period_px=period_px, angle_rad=angle_rad)]

    def _summary(self) -> str:
        return f"halftone {span(self.period_px)} px"


class DrawnHalftone(DrawnStep):
    """Print with four inks."""

    op: Literal["halftone"]
    period_px: Period
    angle_rad: Angle

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Print the image."""
        return halftone(image, [self.period_px], [self.angle_rad])


class Screentone(BaseStep):
    """Print the luma with black dots of one screen, as manga does."""

    op: Literal["screentone"] = "screentone"
    period_px: PeriodRange = (3.0, 8.0)
    """Distance between dots in pixels: 1 / period dots per pixel."""
    angle_deg: AngleRange = (45.0, 45.0)
    """Angle of the screen."""
    black: FractionRange = (0.1, 0.3)
    """Luma up to which the print is solid; the range must end below that of white."""
    white: FractionRange = (0.7, 0.95)
    """Luma from which the paper stays clean."""

    @model_validator(mode="after")
    def _black_is_below_white(self) -> "Screentone":
        if self.black[1] >= self.white[0]:
            raise ValueError(f"black reaches {self.black[1]:g}, white begins at {self.white[0]:g}; leave tones between")
        return self

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnScreentone]":
        period_px, angle_rad = dice.uniform(self.period_px), math.radians(dice.uniform(self.angle_deg))
        black, white = dice.uniform(self.black), dice.uniform(self.white)
        return [DrawnScreentone(op="screentone", period_px=period_px, angle_rad=angle_rad, black=black, white=white)]

    def _summary(self) -> str:
        return f"screentone {span(self.period_px)} px"


class DrawnScreentone(DrawnStep):
    """Print with black dots."""

    op: Literal["screentone"]
    period_px: Period
    angle_rad: Angle
    black: Fraction
    white: Fraction

    @model_validator(mode="after")
    def _black_is_below_white(self) -> "DrawnScreentone":
        if self.black >= self.white:
            raise ValueError(f"black {self.black:g} is not below white {self.white:g}")
        return self

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Print the image."""
        return screentone(image, [self.period_px], [self.angle_rad], [self.black], [self.white])
