"""Define presets of where pictures come from: web pages, video, film and print.

| name | source of the numbers |
|---|---|
| wtp-codecs | wtp_dataset_destroyer's ``full.hcl``: JPEG, WebP 40-100, H.264 23-32, HEVC 20-34, VP9 20-35, MPEG 2-20 |
| web-photo, web-video, dvd, vhs, film, print, manga | ours: chosen by eye, measured on nothing |

The resize and the motion of wtp-codecs are ours too. Each preset comes to the LR size first, because codecs, grain and
dots belong to the picture that people have, not to the HR that it stands for.
"""

from degrade.ops.resize import ResizeMode
from degrade.recipes.blur import Blur, Halo, Sharpen
from degrade.recipes.chroma import Chroma
from degrade.recipes.compress import Jpeg, Webp
from degrade.recipes.groups import OneOf, Step
from degrade.recipes.noise import Grain, Noise
from degrade.recipes.resize import Resize
from degrade.recipes.scan import Interlace
from degrade.recipes.screens import Halftone, Screentone
from degrade.recipes.video import Video

_MODES: dict[ResizeMode, float] = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 1.0, "mitchell": 1.0, "box": 1.0}


def _to_lr(factor: float = 1.0) -> Resize:
    return Resize(of="lr", factor=(factor, factor), modes=dict(_MODES), antialias=True)


def wtp_codecs() -> tuple[Step, ...]:
    """Compress by one codec of wtp_dataset_destroyer's ``full.hcl``, each equally often."""
    moving = Video(
        codecs={"h264": 1.0, "hevc": 1.0, "vp9": 1.0, "mpeg2": 1.0, "mpeg4": 1.0},
        crf_h264=(23, 32),
        crf_hevc=(20, 34),
        crf_vp9=(20, 35),
        quantiser_mpeg2=(2, 20),
        quantiser_mpeg4=(2, 20),
    )
    still = (Jpeg(quality=(40, 100)), Webp(quality=(40, 100)))
    return (_to_lr(), OneOf(steps=(*still, moving), weights=(1, 1, 5)))


def web_photo() -> tuple[Step, ...]:
    """Save a photograph, reduce it by some program, sharpen it perhaps, and save it again."""
    return (
        Jpeg(quality=(75, 95), probability=0.5),
        Resize(of="lr", modes=dict(_MODES), antialias=True, linear_light_probability=0.2),
        Sharpen(amount=(0.2, 1.0), sigma_px=(0.5, 1.5), threshold_255=(0, 0), probability=0.4),
        OneOf(
            steps=(Jpeg(quality=(40, 95), chroma={"4:2:0": 3.0, "4:4:4": 1.0}), Webp(quality=(40, 95))),
            weights=(0.7, 0.3),
        ),
    )


def web_video() -> tuple[Step, ...]:
    """Record H.264, upload it, and let the site encode it again."""
    return (
        _to_lr(),
        Noise(sigma_255=(0, 6), grey_probability=0.5, probability=0.5),
        Video(crf_h264=(17, 26), probability=0.6),
        Video(codecs={"h264": 0.5, "vp9": 0.3, "hevc": 0.2}, crf_h264=(24, 35), crf_hevc=(24, 36), crf_vp9=(32, 56)),
    )


def dvd() -> tuple[Step, ...]:
    """Enhance edges, comb some pictures, and encode as MPEG-2."""
    return (
        _to_lr(),
        Halo(amount=(0.5, 2.5), sigma_px=(0.8, 1.8), limit_255=(10, 40), probability=0.6),
        Interlace(shift_px=(-2, 2), probability=0.2),
        Video(codecs={"mpeg2": 1.0}, quantiser_mpeg2=(2, 14)),
    )


def vhs() -> tuple[Step, ...]:
    """Lose horizontal detail and most of the colour's, add noise in streaks, sharpen, and capture with a codec."""
    return (
        _to_lr(),
        Blur(kernels={"motion": 1.0}, length_px=(1.5, 4.0), angle_deg=(0, 0)),
        Chroma(modes={"4:1:1": 1.0}, siting={"left": 1.0}, enlarge={"bilinear": 1.0}),
        Noise(families={"correlated": 1.0}, sigma_255=(3, 14), correlation_px=(0.4, 1.0), grey_probability=0.4),
        Halo(amount=(0.5, 2.0), sigma_px=(1.0, 2.5), limit_255=(10, 50), probability=0.7),
        Interlace(shift_px=(-2, 2), probability=0.4),
        Video(codecs={"mpeg2": 0.5, "mpeg4": 0.2, "h264": 0.3}, crf_h264=(20, 32), quantiser_mpeg2=(2, 12)),
    )


def film() -> tuple[Step, ...]:
    """Soften by lens and scanner, add grain, and save the scan."""
    return (
        _to_lr(),
        Blur(kernels={"iso": 1.0}, sigma_px=(0.3, 1.2), probability=0.7),
        Grain(sigma_255=(4, 20), size_px=(0.3, 1.0)),
        Jpeg(quality=(70, 98), probability=0.7),
    )


def print_() -> tuple[Step, ...]:
    """Print in four colours at twice the size, scan it, reduce the scan, and save it."""
    return (
        _to_lr(2.0),
        Halftone(period_px=(3, 8)),
        Blur(kernels={"iso": 1.0}, sigma_px=(0.5, 1.5)),
        _to_lr(),
        Jpeg(quality=(60, 95), probability=0.8),
    )


def manga() -> tuple[Step, ...]:
    """Print the grey with black dots at twice the size, scan it, reduce the scan, and save it."""
    return (
        _to_lr(2.0),
        Screentone(period_px=(4, 10)),
        Blur(kernels={"iso": 1.0}, sigma_px=(0.3, 1.0)),
        _to_lr(),
        Jpeg(quality=(50, 95), probability=0.8),
    )
