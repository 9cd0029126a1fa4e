"""Video compression as an operation of a recipe."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from degrade.ops.video import FrameType, VideoCodec, frame_types, video
from degrade.recipes.ranges import (
    Angle,
    CrfRange,
    Dice,
    Length,
    LengthRange,
    QuantiserRange,
    Vp9CrfRange,
    Weights,
)
from degrade.recipes.steps import BaseStep, DrawnStep, Sizes


class Video(BaseStep):
    """Compress as a frame of a short clip by a video codec (extra video)."""

    op: Literal["video"] = "video"
    codecs: Weights[VideoCodec] = Field(default={"h264": 1.0})
    """Video codecs; chroma is 4:2:0 for all."""
    frames: Weights[FrameType] = Field(default={"p": 1.0, "b": 1.0})
    """How the frame is coded: i alone, p predicted from earlier frames, b from both sides. VP9 takes p in place of b,
    Motion JPEG always takes i."""
    crf_h264: CrfRange = (23, 38)
    """CRF of H.264, 0-51, larger is worse; here and below every integer of the range is equally likely."""
    crf_hevc: CrfRange = (23, 38)
    """CRF of HEVC, 0-51."""
    crf_vp9: Vp9CrfRange = (30, 55)
    """CRF of VP9, 0-63."""
    quantiser_mpeg2: QuantiserRange = (2, 20)
    """Quantiser of MPEG-2, 1-31, larger is worse; the b frames of both MPEG codecs are a little coarser."""
    quantiser_mpeg4: QuantiserRange = (2, 20)
    """Quantiser of MPEG-4 part 2 (DivX, Xvid), 1-31."""
    quantiser_mjpeg: QuantiserRange = (2, 20)
    """Quantiser of Motion JPEG, 1-31."""
    motion_px: LengthRange = (0.0, 3.0)
    """How far the clip moves between two frames in pixels, in a random direction; the image itself stays in place."""

    def _draw(self, dice: Dice, scale: int) -> "list[DrawnVideo]":
        codec, wanted = dice.pick(self.codecs), dice.pick(self.frames)
        frame = wanted if wanted in frame_types(codec) else frame_types(codec)[-1]
        name = "crf" if codec in ("h264", "hevc", "vp9") else "quantiser"
        quality = dice.integer(getattr(self, f"{name}_{codec}"))
        motion_px, angle_rad = dice.uniform(self.motion_px), dice.uniform((-math.pi, math.pi))
        return [
            DrawnVideo(op="video", codec=codec, frame=frame, quality=quality, motion_px=motion_px, angle_rad=angle_rad)
        ]

    def _summary(self) -> str:
        return f"{'|'.join(self.codecs)} video"


class DrawnVideo(DrawnStep):
    """Compress as a frame of a clip and decompress."""

    op: Literal["video"]
    codec: VideoCodec
    frame: FrameType
    quality: Annotated[int, Field(ge=0, le=63)]
    motion_px: Length
    angle_rad: Angle

    def apply(self, image: Tensor, sizes: Sizes) -> Tensor:
        """Pass the image through the codec.

        Raises:
            ValueError: PyAV is not installed, or a record asks for a frame or quality that the codec does not have.
        """
        motion = (self.motion_px * math.sin(self.angle_rad), self.motion_px * math.cos(self.angle_rad))
        return video(image, [self.quality], self.codec, frame=self.frame, motion_px=motion)
