"""Analogue video as operations of a recipe: interlacing and scan lines."""

from typing import Literal

import torch
from torch import Tensor

from degrade.ops.scan import interlace, scan_lines
from degrade.recipes.ranges import Dice, Fraction, FractionRange, Period, PeriodRange, Shift, ShiftRange, span
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes


class Interlace(BaseStep):
    """Shift every second row sideways: the comb that a moving interlaced picture has."""

    op: Literal["interlace"] = "interlace"
    shift_px: ShiftRange = (-3.0, 3.0)
    """Shift of rows 1, 3, 5, ... to the right in pixels."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnInterlace]":
        return [DrawnInterlace(op="interlace", shift_px=dice.uniform(self.shift_px))]

    def _summary(self) -> str:
        return "interlacing"


class DrawnInterlace(DrawnStep):
    """Shift every second row."""

    op: Literal["interlace"]
    shift_px: Shift

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Shift the odd field of the image."""
        return interlace(image, torch.tensor([self.shift_px], device="cpu"))


class ScanLines(BaseStep):
    """Darken the gaps between the lines of a tube."""

    op: Literal["scan_lines"] = "scan_lines"
    period_px: PeriodRange = (2.0, 4.0)
    """Distance between lines in pixels."""
    strength: FractionRange = (0.1, 0.5)
    """Share of the light that is lost in the middle of a gap."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnScanLines]":
        period_px, strength = dice.uniform(self.period_px), dice.uniform(self.strength)
        return [DrawnScanLines(op="scan_lines", period_px=period_px, strength=strength)]

    def _summary(self) -> str:
        return f"scan lines {span(self.period_px)} px"


class DrawnScanLines(DrawnStep):
    """Darken the gaps between lines."""

    op: Literal["scan_lines"]
    period_px: Period
    strength: Fraction

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Darken the image's rows."""
        period_px, strength = (torch.tensor([value], device="cpu") for value in (self.period_px, self.strength))
        return scan_lines(image, period_px, strength)
