"""Compress images as frames of a video: H.264, HEVC, VP9, MPEG-2, MPEG-4 and Motion JPEG, through PyAV.

A frame that is coded alone looks much like a JPEG. What marks a video are the frames that are predicted from others:
they carry over the blocks of a frame that has moved since, blur by the interpolation of its motion, and drop what is
left of the difference. So each image becomes the aim of a clip of four frames that drift towards it, and the decoded
frame of the wanted type is taken. Only the other frames are moved; the image itself is not resampled.

Encoders have one thread and fixed decisions, so the same build of them gives the same bytes.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from torch import Tensor

from degrade.ops.compress import RGB_TO_YCBCR
from degrade.ops.straight_through import through_pixels

VideoCodec = Literal["h264", "hevc", "vp9", "mpeg2", "mpeg4", "mjpeg"]
FrameType = Literal["i", "p", "b"]

_MACROBLOCK = 16  # px; MPEG-2 and MPEG-4 code whole blocks of this side, and all codecs accept multiples of it
_LEAST_SIDE = 128  # px; x265 writes outside of its memory when a side is not longer than its largest block of 64
_FRAMES = 4
_AIM = {"i": 0, "p": 3, "b": 2}  # with two B frames between the others, the clip is I B B P in the order of display
_MATRIX = np.array(RGB_TO_YCBCR, np.float32)


class _Codec(NamedTuple):
    encoder: str
    decoder: str
    quality: tuple[int, int]  # from the best to the worst
    options: Callable[[int], dict[str, str]]
    frames: tuple[FrameType, ...] = ("i", "p", "b")
    format: str = "yuv420p"


def _quantiser(quality: int) -> dict[str, str]:
    return {"qmin": str(quality), "qmax": str(quality), "b_strategy": "0"}


_CODECS: dict[str, _Codec] = {
    "h264": _Codec(
        "libx264", "h264", (0, 51),
        lambda crf: {"crf": str(crf), "x264-params": "threads=1:cpu-independent=1:scenecut=0:b-adapt=0"},
    ),
    "hevc": _Codec(
        "libx265", "hevc", (0, 51),
        lambda crf: {
            "crf": str(crf), "preset": "fast",
            "x265-params": "pools=none:frame-threads=1:scenecut=0:b-adapt=0:log-level=none",
        },
    ),
    "vp9": _Codec(
        "libvpx-vp9", "vp9", (0, 63),
        lambda crf: {"crf": str(crf), "b": "0", "deadline": "good", "cpu-used": "4", "lag-in-frames": "0"},
        frames=("i", "p"),
    ),
    "mpeg2": _Codec("mpeg2video", "mpeg2video", (1, 31), _quantiser),
    "mpeg4": _Codec("mpeg4", "mpeg4", (1, 31), _quantiser),
    "mjpeg": _Codec("mjpeg", "mjpeg", (1, 31), _quantiser, frames=("i",), format="yuvj420p"),
}  # fmt: skip


def frame_types(codec: VideoCodec) -> tuple[FrameType, ...]:
    """Return the types of frames that a codec has here: "i" (alone), "p" (from the past), "b" (from both sides)."""
    return _CODECS[codec].frames


def video(
    images: Tensor,
    quality: Sequence[int],
    codec: VideoCodec = "h264",
    *,
    frame: FrameType = "p",
    motion_px: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Encode each image as a frame of a short clip, and decode that frame; the gradient passes straight through.

    Args:
        images: RGB, (B, 3, H, W); values outside [0, 1] are clipped. Sides are padded to whole blocks and cropped.
        quality: one integer for each sample, larger is worse: the CRF of "h264" and "hevc" (0..51) and "vp9" (0..63),
            or the quantiser of "mpeg2", "mpeg4" and "mjpeg" (1..31).
        codec: the codec; chroma is 4:2:0 for all.
        frame: how the frame is coded: "i" alone, "p" predicted from earlier frames, "b" from earlier and later ones.
            VP9 has no "b", Motion JPEG has "i" only.
        motion_px: how far the clip moves between two frames, down and to the right. It is the same for all samples.

    Returns:
        Decoded images, (B, 3, H, W), multiples of 1/255.

    Raises:
        ValueError: PyAV is not installed, the number of qualities is not the number of samples, a quality or type of
            frame is not one of the codec, or the images are too large for it.
    """
    known = _CODECS.get(codec)
    if known is None:
        raise ValueError(f"unknown video codec {codec!r}; use {', '.join(get_args(VideoCodec))}")
    if frame not in known.frames:
        raise ValueError(f"{codec} has no {frame!r} frames here; use {' or '.join(known.frames)}")
    if len(quality) != len(images):
        raise ValueError(f"{len(quality)} qualities for {len(images)} images; pass one {codec} quality per sample")
    for value in quality:
        if not known.quality[0] <= value <= known.quality[1]:
            raise ValueError(f"{codec} quality {value} is outside {known.quality[0]}..{known.quality[1]}")
    through = functools.partial(_as_frame, codec=known, frame=frame, motion_px=motion_px)
    return through_pixels(images, [functools.partial(through, quality=value) for value in quality])


def _as_frame(
    rgb: np.ndarray, quality: int, codec: _Codec, frame: FrameType, motion_px: tuple[float, float]
) -> np.ndarray:
    av = _pyav()
    height, width = rgb.shape[:2]
    below, right = (max(-side % _MACROBLOCK, _LEAST_SIDE - side) for side in (height, width))
    padded = cv2.copyMakeBorder(rgb, 0, below, 0, right, borderType=cv2.BORDER_REPLICATE)
    full_range = codec.format == "yuvj420p"
    aim = _AIM[frame]
    clip = [
        _to_planes(_moved(padded, [(number - aim) * step for step in motion_px]), full_range)
        for number in range(1 if frame == "i" else _FRAMES)
    ]
    try:
        decoded = _round_trip(av, clip, codec, codec.options(quality), "2" if frame == "b" else "0")
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{codec.encoder} cannot encode {width}x{height} pixels ({error.strerror}); make the image smaller"
        ) from error
    return _from_planes(decoded[aim].to_ndarray(), full_range)[:height, :width]


def _moved(rgb: np.ndarray, shift_px: list[float]) -> np.ndarray:
    if not any(shift_px):
        return rgb
    matrix = np.array([[1, 0, shift_px[1]], [0, 1, shift_px[0]]], np.float64)
    size = (rgb.shape[1], rgb.shape[0])
    return cv2.warpAffine(rgb, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def _round_trip(av: Any, clip: list[np.ndarray], codec: _Codec, options: dict[str, str], b_frames: str) -> list[Any]:
    """Encode planes of YCbCr 4:2:0, and return the decoded pictures in the order of display."""
    encoder = av.CodecContext.create(codec.encoder, "w")
    encoder.height, encoder.width = clip[0].shape[0] * 2 // 3, clip[0].shape[1]
    encoder.pix_fmt = codec.format
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.thread_count = 1
    encoder.options = options | ({"bf": b_frames} if "b" in codec.frames else {})
    decoder = av.CodecContext.create(codec.decoder, "r")
    decoder.thread_count = 1
    packets = []
    for number, planes in enumerate(clip):
        picture = av.VideoFrame.from_ndarray(planes, format=codec.format)
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    return [picture for packet in packets for picture in decoder.decode(packet)] + decoder.decode(None)


def _pyav() -> Any:
    try:
        import av  # an extra, and slow to import
    except ImportError as error:
        raise ValueError(
            "video codecs need PyAV; pip install 'realistic-degrader[video]', or take the video step out of the recipe"
        ) from error
    return av


def _to_planes(rgb: np.ndarray, full_range: bool) -> np.ndarray:
    """Convert (H, W, 3) to Y, Cb and Cr of 4:2:0 below each other, (3 H / 2, W); limited range is that of video."""
    black, luma, colour = (0, 255, 255) if full_range else (16, 219, 224)
    ycbcr = cv2.transform(rgb.astype(np.float32) / 255, _MATRIX)
    height, width = rgb.shape[:2]
    small = ycbcr[..., 1:].reshape(height // 2, 2, width // 2, 2, 2).mean((1, 3))
    planes = [black + luma * ycbcr[..., 0], 128 + colour * small[..., 0], 128 + colour * small[..., 1]]
    levels = np.concatenate([plane.ravel() for plane in planes])
    return levels.round().clip(0, 255).astype(np.uint8).reshape(height * 3 // 2, width)


def _from_planes(planes: np.ndarray, full_range: bool) -> np.ndarray:
    black, luma, colour = (0, 255, 255) if full_range else (16, 219, 224)
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    y = (planes[:height].astype(np.float32) - black) / luma
    small = ((planes[height:].astype(np.float32) - 128) / colour).reshape(2, height // 2, width // 2)
    cb, cr = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in small)
    rgb = cv2.transform(np.dstack([y, cb, cr]), np.linalg.inv(_MATRIX))
    return (rgb * 255).round().clip(0, 255).astype(np.uint8)
