"""Compression as operations of a recipe: JPEG, WebP, rounding to 8 bits."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from degrade.ops.compress import ChromaFormat, jpeg, jpeg_differentiable, quantise, webp
from degrade.recipes.ranges import Dice, Quality, QualityRange, Weights, span
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes


class Jpeg(BaseStep):
    """Compress as JPEG."""

    op: Literal["jpeg"] = "jpeg"
    quality: QualityRange = (30, 95)
    """libjpeg quality; every integer of the range is equally likely."""
    chroma: Weights[ChromaFormat] = Field(default={"4:2:0": 1.0})
    """Chroma subsampling of the file."""
    codec: Literal["libjpeg", "kornia"] = "libjpeg"
    """The real codec with a straight-through gradient, or kornia's differentiable one (slow, 4:2:0, extra kornia)."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnJpeg]":
        quality, chroma = dice.integer(self.quality), dice.pick(self.chroma)
        return [DrawnJpeg(op="jpeg", quality=quality, chroma=chroma, codec=self.codec)]

    @model_validator(mode="after")
    def _kornia_knows_420_only(self) -> "Jpeg":
        if self.codec == "kornia" and set(self.chroma) != {"4:2:0"}:
            raise ValueError(f"kornia's JPEG has chroma 4:2:0 only, got {list(self.chroma)}; use codec libjpeg")
        return self

    def _summary(self) -> str:
        return f"JPEG {span(self.quality)}"


class DrawnJpeg(DrawnStep):
    """Compress as JPEG and decompress."""

    op: Literal["jpeg"]
    quality: Quality
    chroma: ChromaFormat
    codec: Literal["libjpeg", "kornia"]

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Pass the image through the codec."""
        if self.codec == "kornia":
            return jpeg_differentiable(image, [self.quality])
        return jpeg(image, [self.quality], self.chroma)


class Webp(BaseStep):
    """Compress as lossy WebP."""

    op: Literal["webp"] = "webp"
    quality: QualityRange = (40, 100)
    """libwebp quality; every integer of the range is equally likely."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnWebp]":
        return [DrawnWebp(op="webp", quality=dice.integer(self.quality))]

    def _summary(self) -> str:
        return f"WebP {span(self.quality)}"


class DrawnWebp(DrawnStep):
    """Compress as WebP and decompress."""

    op: Literal["webp"]
    quality: Quality

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Pass the image through the codec."""
        return webp(image, [self.quality])


class Quantise(BaseStep):
    """Round to 8 bits in the middle of a chain; the end of every chain is rounded anyway."""

    op: Literal["quantise"] = "quantise"

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnQuantise]":
        return [DrawnQuantise(op="quantise")]

    def _summary(self) -> str:
        return "8 bits"


class DrawnQuantise(DrawnStep):
    """Round to 8 bits."""

    op: Literal["quantise"]

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Round the image to multiples of 1/255."""
        return quantise(image)
