"""Few levels or colours as operations of a recipe: banding and dithering."""

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from degrade.ops.levels import band, dither_diffused, dither_ordered, dither_palette
from degrade.recipes.ranges import Dice, LevelRange, Levels, Weights, span
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes

DitherMethod = Literal["bayer", "floyd_steinberg", "palette"]
BayerMatrix = Literal["2x2", "4x4", "8x8"]


class Banding(BaseStep):
    """Round each channel to a few levels, so that smooth gradients turn into bands."""

    op: Literal["banding"] = "banding"
    levels: LevelRange = (16, 64)
    """Levels of each channel; every integer of the range is equally likely, and 2^n stands for n bits."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnBanding]":
        return [DrawnBanding(op="banding", levels=dice.integer(self.levels))]

    def _summary(self) -> str:
        return f"banding {span(self.levels)} levels"


class DrawnBanding(DrawnStep):
    """Round to a few levels."""

    op: Literal["banding"]
    levels: Levels

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Round the image."""
        return band(image, [self.levels])


class Dither(BaseStep):
    """Reduce an image to few levels or colours, and hide that with a pattern."""

    op: Literal["dither"] = "dither"
    methods: Weights[DitherMethod] = Field(default={"bayer": 1.0, "floyd_steinberg": 1.0, "palette": 1.0})
    """A fixed pattern, diffused errors, or a palette of the image's own colours with diffused errors, as in a GIF."""
    levels: LevelRange = (2, 8)
    """Levels of each channel for bayer and floyd_steinberg."""
    matrices: Weights[BayerMatrix] = Field(default={"2x2": 1.0, "4x4": 1.0, "8x8": 1.0})
    """Patterns of bayer."""
    colours: LevelRange = (8, 128)
    """Colours of palette."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnDither]":
        match dice.pick(self.methods):
            case "palette":
                return [DrawnPalette(op="dither", method="palette", colours=dice.integer(self.colours))]
            case "bayer":
                levels, matrix = dice.integer(self.levels), dice.pick(self.matrices)
                return [DrawnBayer(op="dither", method="bayer", levels=levels, matrix=matrix)]
        return [DrawnDiffusion(op="dither", method="floyd_steinberg", levels=dice.integer(self.levels))]

    def _summary(self) -> str:
        return f"{'|'.join(self.methods)} dither"


class DrawnBayer(DrawnStep):
    """Round to a few levels with a pattern of thresholds."""

    op: Literal["dither"]
    method: Literal["bayer"]
    levels: Levels
    matrix: BayerMatrix

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Dither the image."""
        return dither_ordered(image, [self.levels], int(self.matrix[0]))


class DrawnDiffusion(DrawnStep):
    """Round to a few levels and diffuse the errors."""

    op: Literal["dither"]
    method: Literal["floyd_steinberg"]
    levels: Levels

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Dither the image."""
        return dither_diffused(image, [self.levels])


class DrawnPalette(DrawnStep):
    """Reduce to a palette and diffuse the errors."""

    op: Literal["dither"]
    method: Literal["palette"]
    colours: Levels

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Dither the image."""
        return dither_palette(image, [self.colours])


DrawnDither = Annotated[DrawnBayer | DrawnDiffusion | DrawnPalette, Field(discriminator="method")]
