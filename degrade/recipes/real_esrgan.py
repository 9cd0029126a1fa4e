"""Build recipes from the keys of Real-ESRGAN's second-order degradation, and read existing options files.

The keys are those of ``train_realesrgan_x4plus.yml`` (arXiv 2107.10833), which StableSR, S3Diff, OSEDiff, ResShift,
neosr and many others copied. They are read as Real-ESRGAN's code uses them: the kernel sizes are the odd numbers 7..21
whatever ``blur_kernel_size`` says, and the resizes are not antialiased.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from degrade.errors import shown
from degrade.ops.resize import ResizeMode
from degrade.recipes.blur import Blur, KernelName
from degrade.recipes.compress import Jpeg
from degrade.recipes.groups import Chain, Shuffle, Step
from degrade.recipes.noise import Noise
from degrade.recipes.ranges import (
    FactorRange,
    OddSizeRange,
    PositiveRange,
    Probability,
    QualityRange,
    Shares,
    check_weights,
)
from degrade.recipes.resize import Resize
from degrade.recipes.steps import StrictModel

_ThreeShares = Annotated[tuple[float, float, float], AfterValidator(check_weights)]
_KernelNames = tuple[KernelName, ...]
_SIX_KERNELS: _KernelNames = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
)
_SIX_WEIGHTS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
_MODES: dict[ResizeMode, float] = {"area": 1.0, "bilinear": 1.0, "bicubic": 1.0}


class RealEsrganOptions(StrictModel):
    """Hold the degradation keys of a Real-ESRGAN options file; the defaults are the published numbers of x4plus."""

    resize_prob: _ThreeShares = (0.2, 0.7, 0.1)  # up, down, keep
    resize_range: FactorRange = (0.15, 1.5)
    gaussian_noise_prob: Probability = 0.5  # otherwise Poisson
    noise_range: PositiveRange = (1.0, 30.0)  # standard deviation in 8-bit levels
    poisson_scale_range: PositiveRange = (0.05, 3.0)
    gray_noise_prob: Probability = 0.4
    jpeg_range: QualityRange = (30, 95)
    kernel_list: _KernelNames = _SIX_KERNELS
    kernel_prob: Shares = _SIX_WEIGHTS
    sinc_prob: Probability = 0.1
    blur_sigma: PositiveRange = (0.2, 3.0)
    betag_range: PositiveRange = (0.5, 4.0)
    betap_range: PositiveRange = (1.0, 2.0)

    second_order_prob: Probability = 1.0  # ResShift's key: chance of the whole second degradation
    second_blur_prob: Probability = 0.8
    resize_prob2: _ThreeShares = (0.3, 0.4, 0.3)
    resize_range2: FactorRange = (0.3, 1.2)
    gaussian_noise_prob2: Probability = 0.5
    noise_range2: PositiveRange = (1.0, 25.0)
    poisson_scale_range2: PositiveRange = (0.05, 2.5)
    gray_noise_prob2: Probability = 0.4
    jpeg_range2: QualityRange = (30, 95)
    kernel_list2: _KernelNames = _SIX_KERNELS
    kernel_prob2: Shares = _SIX_WEIGHTS
    sinc_prob2: Probability = 0.1
    blur_sigma2: PositiveRange = (0.2, 1.5)
    betag_range2: PositiveRange = (0.5, 4.0)
    betap_range2: PositiveRange = (1.0, 2.0)

    final_sinc_prob: Probability = 0.8
    kernel_size: OddSizeRange = Field(default=(7, 21), exclude=True)  # hard-coded in the original, no key of its files
    kernel_size2: OddSizeRange = Field(default=(7, 21), exclude=True)

    def steps(self) -> tuple[Step, ...]:
        """Build the recipe: first order, second order, then (to LR + sinc filter) and JPEG in random order."""
        second_order: tuple[Step, ...] = (
            self._blur("2", self.second_blur_prob),
            self._resize("2", of="lr"),
            self._noise("2"),
        )
        if self.second_order_prob < 1:
            second_order = (Chain(steps=second_order, probability=self.second_order_prob),)
        # the final filter draws from Real-ESRGAN's own sizes, and its cut-off does not depend on them
        final_sinc = Blur(kernels={"sinc": 1.0}, cutoff_nyquist=(1 / 3, 1.0), probability=self.final_sinc_prob)
        to_lr = Chain(steps=(Resize(of="lr", modes=dict(_MODES)), final_sinc))
        return (
            self._blur("", 1.0),
            self._resize("", of="input"),
            self._noise(""),
            Jpeg(quality=self.jpeg_range),
            *second_order,
            Shuffle(steps=(to_lr, Jpeg(quality=self.jpeg_range2))),
        )

    def kernels(self, order: Literal["", "2"]) -> dict[KernelName, float]:
        """Return the weight of each kernel family, the sinc filter among them, in the first or the second order."""
        families, weights = self._of("kernel_list", order), self._of("kernel_prob", order)
        if len(families) != len(weights):
            raise ValueError(
                f"kernel_list{order} has {len(families)} names and kernel_prob{order} {len(weights)} numbers; "
                "write one per kernel"
            )
        sinc = self._of("sinc_prob", order)
        total = sum(weights)
        kernels = {name: (1 - sinc) * weight / total for name, weight in zip(families, weights, strict=True)}
        return kernels | ({"sinc": sinc} if sinc else {})

    def _of(self, key: str, order: str) -> Any:
        return getattr(self, key + order)

    def _blur(self, order: Literal["", "2"], probability: float) -> Blur:
        return Blur(
            kernels=self.kernels(order),
            size_px=self._of("kernel_size", order),
            sigma_px=self._of("blur_sigma", order),
            beta_generalized=self._of("betag_range", order),
            beta_plateau=self._of("betap_range", order),
            probability=probability,
        )

    def _resize(self, order: str, of: Literal["input", "lr"]) -> Resize:
        up, down, keep = self._of("resize_prob", order)
        factor = self._of("resize_range", order)
        return Resize(factor=factor, direction={"up": up, "down": down, "keep": keep}, of=of, modes=dict(_MODES))

    def _noise(self, order: str) -> Noise:
        gaussian = self._of("gaussian_noise_prob", order)
        return Noise(
            families={"gaussian": gaussian, "poisson": 1 - gaussian},
            sigma_255=self._of("noise_range", order),
            poisson_scale=self._of("poisson_scale_range", order),
            grey_probability=self._of("gray_noise_prob", order),
        )


_KEYS = frozenset(RealEsrganOptions.model_fields) - {"kernel_size", "kernel_size2"}
_SIZE_KEYS = ("blur_kernel_size", "blur_kernel_size2")
_SECTIONS = (("degradation",), ("degradations",), ("datasets", "train"))


def is_real_esrgan_options(data: Mapping[str, Any]) -> bool:
    """Tell whether a parsed file has Real-ESRGAN's degradation keys, at top level or in a section as its forks do."""
    return any(key in section for section in _sections(data) for key in _KEYS)


def import_real_esrgan_options(data: Mapping[str, Any]) -> tuple[RealEsrganOptions, tuple[str, ...]]:
    """Read a Real-ESRGAN options file by what the original code does, which is not always what a key suggests.

    Args:
        data: the parsed yml or toml; the keys may stand at top level, under ``degradation(s)`` or ``datasets: train``.

    Returns:
        The options, and notes that name the keys without effect, those for training only, and those not given.

    Raises:
        ValueError: a key has an impossible value. The error is one sentence, or pydantic's, which the recipe loader
            turns into one.
    """
    given: dict[str, Any] = {}
    for section in _sections(data):
        given |= {key: value for key, value in section.items() if key in _KEYS or key in _SIZE_KEYS}
    sizes = {key: given.pop(key) for key in _SIZE_KEYS if key in given}
    notes = []
    if "second_order_prob" in given:  # ResShift and SinSR do honour the sizes: odd numbers from 3 to two below the key
        for key, size in sizes.items():
            if type(size) is not int or size < 5 or size % 2 == 0:
                raise ValueError(f"{key} {shown(size)} is no size of kernels; write an odd number from 5 up")
            given[key.removeprefix("blur_")] = (3, size - 2)
    else:
        notes += [f"{key} {shown(size)} has no effect: the sizes drawn are 7..21, odd" for key, size in sizes.items()]
    missing = sorted(_KEYS - given.keys() - {"second_order_prob"})
    if missing:
        notes.append(f"not given, so as published for Real-ESRGAN x4plus: {', '.join(missing)}")
    containers = {path[0] for path in _SECTIONS}
    ignored = {key for section in _sections(data) for key in section} - _KEYS - set(_SIZE_KEYS) - containers
    if ignored:
        notes.append(f"for training only, ignored: {', '.join(sorted(map(shown, ignored)))}")
    return RealEsrganOptions(**given), tuple(notes)


def _sections(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [data]
    for path in _SECTIONS:
        section: Any = data
        for key in path:
            section = section.get(key) if isinstance(section, Mapping) else None
        if isinstance(section, Mapping):
            found.append(section)
    return found
