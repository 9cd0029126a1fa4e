"""Chroma subsampling as an operation of a recipe."""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from degrade.ops.chroma import ChromaKernel, ChromaMatrix, ChromaSiting, subsample_chroma
from degrade.ops.compress import ChromaFormat
from degrade.recipes.ranges import Dice, Weights
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes


class Chroma(BaseStep):
    """Subsample the chroma channels, without the blocks of a codec."""

    later_options = ("matrix", "siting", "enlarge")

    op: Literal["chroma"] = "chroma"
    modes: Weights[ChromaFormat] = Field(default={"4:2:0": 1.0})
    """Subsampling patterns."""
    matrix: Weights[ChromaMatrix] | None = None
    """What luma and chroma are; null is bt601 (JPEG, DVD), and there are bt709 (HD) and bt2020 (UHD)."""
    siting: Weights[ChromaSiting] | None = None
    """Place of a chroma sample in its block; null is centre (JPEG, MPEG-1), and there is left (MPEG-2, H.264, HEVC)."""
    enlarge: Weights[ChromaKernel] | None = None
    """How chroma gets its size back; null is bilinear, and there is box, which repeats the samples."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnChroma]":
        drawn: dict[str, Any] = {"chroma": dice.pick(self.modes)}
        for name in ("matrix", "siting", "enlarge"):
            if choices := getattr(self, name):
                drawn[name] = dice.pick(choices)
        return [DrawnChroma(op="chroma", **drawn)]

    def _summary(self) -> str:
        return f"chroma {'|'.join(self.modes)}"


class DrawnChroma(DrawnStep):
    """Subsample the chroma channels and enlarge them again."""

    op: Literal["chroma"]
    chroma: ChromaFormat
    matrix: ChromaMatrix = "bt601"
    siting: ChromaSiting = "centre"
    enlarge: ChromaKernel = "bilinear"

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Subsample the image's chroma."""
        subsampled = subsample_chroma(image, self.chroma, matrix=self.matrix, siting=self.siting, enlarge=self.enlarge)
        return subsampled.clamp(0, 1)
