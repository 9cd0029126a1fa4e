"""Define the preset recipes, with the numbers that the published code really uses.

| name | source |
|---|---|
| bicubic | MATLAB's imresize: antialiased bicubic, 8 bits |
| real-esrgan | Real-ESRGAN x4plus (arXiv 2107.10833), the same numbers as OSEDiff's ``params_realesrgan.yml`` |
| real-esrgan-light | StableSR, also S3Diff |
| bsrgan | BSRGAN (arXiv 2103.14006), with our camera model in the place of the ISP that it does not ship |
| neosr | neosr's on-the-fly options |
| resshift | ResShift (arXiv 2307.12348), also SinSR: Real-ESRGAN with half of the second orders, other kernels |
| redux | traiNNer-redux' defaults: resizes and JPEG; its blurs stand at probability 0, ready to be raised in a file |

``degrade/recipes/media_presets.py`` has those of web pages, video, film and print.

Real-ESRGAN sharpens its HR (``l1_gt_usm``) and degrades the sharpened image. A pair must hold the HR that its LR was
made from, so the presets degrade the HR as it is; sharpen the HR folder itself for targets with halos.
"""

import difflib
from collections.abc import Callable
from typing import Literal

from degrade.ops.resize import ResizeMode
from degrade.recipes import media_presets
from degrade.recipes.blur import Blur
from degrade.recipes.compress import Jpeg
from degrade.recipes.groups import ByScale, Chain, OneOf, Shuffle, Step
from degrade.recipes.noise import Camera, Noise
from degrade.recipes.real_esrgan import RealEsrganOptions
from degrade.recipes.resize import Resize

_CV2_MODES: dict[ResizeMode, float] = {"bilinear": 1.0, "bicubic": 1.0, "area": 1.0}
_REDUX_MODES: dict[ResizeMode, float] = {"bilinear": 1.0, "bicubic": 1.0, "nearest": 1.0, "lanczos": 1.0}

REAL_ESRGAN = RealEsrganOptions()
REAL_ESRGAN_LIGHT = RealEsrganOptions(
    resize_range=(0.3, 1.5),
    noise_range=(1, 15),
    poisson_scale_range=(0.05, 2),
    jpeg_range=(60, 95),
    blur_sigma=(0.2, 1.5),
    betag_range=(0.5, 2),
    betap_range=(1, 1.5),
    second_blur_prob=0.5,
    resize_range2=(0.6, 1.2),
    noise_range2=(1, 12),
    poisson_scale_range2=(0.05, 1),
    jpeg_range2=(60, 100),
    blur_sigma2=(0.2, 1),
    betag_range2=(0.5, 2),
    betap_range2=(1, 1.5),
)
RESSHIFT = RealEsrganOptions(second_order_prob=0.5, kernel_size=(3, 19), kernel_size2=(3, 13))
NEOSR = RealEsrganOptions(
    resize_prob=(0.3, 0.4, 0.3),
    resize_range=(0.5, 1.5),
    gaussian_noise_prob=0.2,
    noise_range=(0, 2),
    poisson_scale_range=(0.05, 0.25),
    gray_noise_prob=0.1,
    jpeg_range=(40, 95),
    second_blur_prob=0.4,
    resize_range2=(0.3, 1.5),
    gaussian_noise_prob2=0.2,
    noise_range2=(0, 2),
    poisson_scale_range2=(0.05, 0.1),
    gray_noise_prob2=0.1,
    jpeg_range2=(35, 95),
)


def preset_steps(name: str) -> tuple[str, tuple[Step, ...]]:
    """Return the description and the steps of a preset.

    Args:
        name: one of ``PRESET_NAMES``.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in _PRESETS:
        near = difflib.get_close_matches(name, PRESET_NAMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"there is no preset {name!r}; {hint}presets: {', '.join(PRESET_NAMES)}")
    description, build = _PRESETS[name]
    return description, build()


def _bicubic() -> tuple[Step, ...]:
    return (Resize(of="lr", modes={"bicubic": 1.0}, antialias=True),)


def _bsrgan() -> tuple[Step, ...]:
    half = OneOf(
        steps=(
            Resize(factor=(0.5, 0.5), modes=dict(_CV2_MODES)),
            Resize(factor=(0.5, 0.5), modes={"bicubic": 1.0}, antialias=True),
        )
    )
    # the pre-downsampling by 2 belongs to x4 only; what follows it has the numbers of x2
    x4 = OneOf(steps=(Chain(steps=(half, _bsrgan_shuffle(2))), _bsrgan_shuffle(4)), weights=(0.25, 0.75))
    # no chain for scale 1, for which nothing was published
    chains: dict[Literal[1, 2, 3, 4], tuple[Step, ...]] = {2: (_bsrgan_shuffle(2),), 3: (_bsrgan_shuffle(3),), 4: (x4,)}
    return (ByScale(steps=chains), Jpeg(quality=(30, 95)))


def _bsrgan_shuffle(scale: int) -> Shuffle:
    blur = OneOf(
        steps=(
            Blur(
                kernels={"aniso": 1.0},
                size_px=(7, 25),
                sigma_px=(0.0, (4.0 + scale) ** 0.5),  # eigenvalues of the covariance up to 4 + scale
                uniform_in="variance",
                angle_deg=(0, 180),
            ),
            Blur(kernels={"iso": 1.0}, size_px=(7, 25), sigma_px=(0.0, 2.0 + 0.2 * scale)),
        )
    )
    any_size = Resize(factor=(1 / (2 * scale), 1.0), uniform_in="divisor", modes=dict(_CV2_MODES))
    # Gaussian, then every scale-th pixel of a kernel shifted to the centre: bilinear sampling is that shift
    blurred_sampling = Chain(
        steps=(
            Blur(kernels={"iso": 1.0}, size_px=(25, 25), sigma_px=(0.1, 0.6 * scale)),
            Resize(factor=(1 / scale, 1 / scale), modes={"bilinear": 1.0}),
        )
    )
    noise = OneOf(
        steps=(
            Noise(sigma_255=(2, 25)),
            Noise(sigma_255=(2, 25), grey_probability=1.0),
            Noise(sigma_255=(25, 25), mixed_channels=True),
        ),
        weights=(0.4, 0.4, 0.2),
    )
    return Shuffle(
        steps=(
            blur,
            blur,
            OneOf(steps=(any_size, blurred_sampling), weights=(0.75, 0.25)),
            Resize(of="lr", modes=dict(_CV2_MODES)),
            noise,
            Jpeg(quality=(30, 95), probability=0.9),
            Camera(probability=0.25),
        )
    )


def _redux() -> tuple[Step, ...]:
    kernels = RealEsrganOptions(sinc_prob=0).kernels("")
    jpeg = Jpeg(quality=(75, 95))
    return (
        Blur(kernels=kernels, size_px=(5, 17), sigma_px=(0.2, 2), probability=0),
        Resize(
            factor=(0.4, 1.5), direction={"up": 0.2, "down": 0.7, "keep": 0.1}, modes=dict(_REDUX_MODES), antialias=True
        ),
        jpeg,
        Blur(kernels=kernels, size_px=(5, 17), sigma_px=(0.2, 1), probability=0),
        Resize(
            factor=(0.6, 1.2),
            direction={"up": 0.3, "down": 0.4, "keep": 0.3},
            of="lr",
            modes=dict(_REDUX_MODES),
            antialias=True,
        ),
        Shuffle(steps=(Resize(of="lr", modes=dict(_REDUX_MODES), antialias=True), jpeg)),
    )


_PRESETS: dict[str, tuple[str, Callable[[], tuple[Step, ...]]]] = {
    "bicubic": ("antialiased bicubic as MATLAB, 8 bits", _bicubic),
    "real-esrgan": ("Real-ESRGAN x4plus: second order, sigma 0.2-3 px, noise 1-30, JPEG 30-95", REAL_ESRGAN.steps),
    "real-esrgan-light": ("StableSR, S3Diff: sigma 0.2-1.5 px, noise 1-15, JPEG 60-95", REAL_ESRGAN_LIGHT.steps),
    "bsrgan": ("BSRGAN: two blurs, resizes, noise 2-25, JPEG 30-95, camera noise in random order", _bsrgan),
    "neosr": ("neosr on the fly: sigma 0.2-3 px, noise 0-2, JPEG 40-95", NEOSR.steps),
    "resshift": ("ResShift, SinSR: Real-ESRGAN, second order in half of the draws, kernels 3-19 px", RESSHIFT.steps),
    "redux": ("traiNNer-redux defaults: resizes and JPEG 75-95", _redux),
    "wtp-codecs": ("wtp_dataset_destroyer: JPEG, WebP, H.264, HEVC, VP9, MPEG-2, MPEG-4", media_presets.wtp_codecs),
    "web-photo": ("ours: reduced by some program, sharpened, saved twice", media_presets.web_photo),
    "web-video": ("ours: H.264 upload, encoded again as H.264, VP9 or HEVC", media_presets.web_video),
    "dvd": ("ours: edge enhancement, combing, MPEG-2", media_presets.dvd),
    "vhs": ("ours: soft luma, softer colour, noise, halos, combing, capture codec", media_presets.vhs),
    "film": ("ours: soft scan with film grain 4-20", media_presets.film),
    "print": ("ours: scan of a four-colour halftone", media_presets.print_),
    "manga": ("ours: scan of grey printed as screentone", media_presets.manga),
}
PRESET_NAMES = tuple(_PRESETS)
