"""Faults of lenses as operations of a recipe: defocus and lateral chromatic aberration."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from degrade.ops.lens import lateral_aberration, lens_blur
from degrade.recipes.ranges import (
    Angle,
    AngleRange,
    Dice,
    FractionRange,
    Length,
    LengthRange,
    Shift,
    ShiftRange,
    Weights,
    span,
)
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes

Aperture = Literal["round", "5", "6", "7", "8", "9"]


class LensBlur(BaseStep):
    """Put the image out of focus in linear light: bright points become disks or polygons."""

    op: Literal["lens_blur"] = "lens_blur"
    radius_px: LengthRange = (1.0, 5.0)
    """Radius of the disk, or distance from the centre of the polygon to its corners."""
    apertures: Weights[Aperture] = Field(default={"round": 1.0, "5": 1.0, "6": 1.0, "8": 1.0})
    """Shapes of the aperture: round, or the number of blades in quotes."""
    angle_deg: AngleRange = (-180.0, 180.0)
    """Rotation of polygons."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnLensBlur]":
        radius_px, aperture = dice.uniform(self.radius_px), dice.pick(self.apertures)
        angle_rad = math.radians(dice.uniform(self.angle_deg))
        return [DrawnLensBlur(op="lens_blur", radius_px=radius_px, aperture=aperture, angle_rad=angle_rad)]

    def _summary(self) -> str:
        return f"lens blur {span(self.radius_px)} px"


class DrawnLensBlur(DrawnStep):
    """Put the image out of focus."""

    op: Literal["lens_blur"]
    radius_px: Length
    aperture: Aperture
    angle_rad: Angle

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Blur the image in linear light."""
        radius_px, angle_rad = torch.tensor([[self.radius_px], [self.angle_rad]], dtype=torch.float64, device="cpu")
        blades = 0 if self.aperture == "round" else int(self.aperture)
        return lens_blur(image, radius_px, blades, angle_rad)


class Aberration(BaseStep):
    """Magnify red and blue differently from green: coloured fringes that grow away from the axis of the lens."""

    op: Literal["aberration"] = "aberration"
    red_px: ShiftRange = (-1.5, 1.5)
    """Displacement of red, outwards if positive, at half a diagonal from the axis."""
    blue_px: ShiftRange = (-1.5, 1.5)
    """The same for blue."""
    off_centre: FractionRange = (0.0, 1.0)
    """Distance of the axis from the centre of the image in half diagonals, in a random direction: 0 for a whole
    photograph, up to 1 for crops."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnAberration]":
        red_px, blue_px = dice.uniform(self.red_px), dice.uniform(self.blue_px)
        distance, direction = dice.uniform(self.off_centre), dice.uniform((0, 2 * math.pi))
        axis = (distance * math.sin(direction), distance * math.cos(direction))
        return [DrawnAberration(op="aberration", red_px=red_px, blue_px=blue_px, axis=axis)]

    def _summary(self) -> str:
        return "chromatic aberration"


class DrawnAberration(DrawnStep):
    """Magnify red and blue differently from green."""

    op: Literal["aberration"]
    red_px: Shift
    blue_px: Shift
    axis: tuple[Annotated[float, Field(ge=-1, le=1)], Annotated[float, Field(ge=-1, le=1)]]

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Move the red and the blue of the image."""
        numbers = (self.red_px, self.blue_px, self.axis)
        red_px, blue_px, axis = (torch.tensor([value], device="cpu") for value in numbers)
        return lateral_aberration(image, red_px, blue_px, axis)
