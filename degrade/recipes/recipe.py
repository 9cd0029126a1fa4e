"""Recipes: ordered chains of classical degradations with ranges, drawn anew for every sample.

A recipe file is YAML or TOML. Every step names its ``op``; ranges are ``[low, high]`` or one number, choices a name, a
list or a mapping of names to weights; ``probability`` stands on any step. Groups nest: ``chain``, ``one_of``
(weighted), ``shuffle`` (random order; a step after it is pinned to the end) and ``by_scale``. For example:

    name: old-phone
    steps:
      - {op: blur, kernels: {iso: 0.6, aniso: 0.3, motion: 0.1}, sigma_px: [0.2, 2], probability: 0.8}
      - {op: resize, factor: [0.3, 1.2], of: lr, modes: [area, bicubic]}
      - op: one_of
        weights: [0.7, 0.3]
        steps:
          - {op: camera}
          - {op: noise, families: {gaussian: 1, poisson: 1}, sigma_255: [1, 15], grey_probability: 0.4}
      - op: shuffle
        steps:
          - {op: sharpen, amount: [0.2, 0.8], sigma_px: [0.8, 2], probability: 0.5}
          - {op: resize, of: lr}
      - {op: jpeg, quality: [40, 90]}

``{op: resize, of: lr}`` is the LR size; a chain that does not end at it gets an antialiased bicubic resize. The end is
always rounded to 8 bits.

>>> recipe = Recipe.preset("real-esrgan")
>>> params = [recipe.draw(seed, scale=4) for seed in (0, 1)]
>>> recipe.apply(torch.rand(2, 3, 64, 64), params).shape
torch.Size([2, 3, 16, 16])
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from degrade.ops.blur import blur, disk_kernel, gaussian_kernel, motion_kernel, sinc_kernel, unsharp_mask
from degrade.ops.compress import jpeg, jpeg_differentiable, quantise, subsample_chroma, webp
from degrade.ops.noise import camera_noise, gaussian_noise, poisson_noise
from degrade.ops.resize import resize
from degrade.recipes.file import read_recipe_file, validated
from degrade.recipes.groups import Step, draw_chain, summarise
from degrade.recipes.presets import PRESET_NAMES, preset_steps
from degrade.recipes.ranges import Dice
from degrade.recipes.steps import Drawn, StrictModel

__all__ = ["PRESET_NAMES", "ClassicalDegrader", "Recipe"]

_SCALES = (2, 3, 4)
_ROOM, _GROWTH = 1 << 24, 16  # a step may make this many pixels, or this many times those of the HR image


class Recipe(StrictModel):
    """An ordered chain of degradations with ranges.

    ``draw`` turns ranges into the numbers of one sample, ``apply`` turns those numbers and an HR image into its LR: the
    numbers alone make the LR again, to the byte.
    """

    name: str = "recipe"
    """Short name, for reports."""
    description: str = ""
    """One line about what it imitates."""
    steps: tuple[Step, ...] = Field(min_length=1)
    """The steps, in order."""
    notes: tuple[str, ...] = ()
    """What an import had to say, such as keys without effect."""

    @classmethod
    def preset(cls, name: str) -> "Recipe":
        """A recipe by name, one of ``PRESET_NAMES``.

        Raises:
            ValueError: there is no such preset; the sentence lists them.
        """
        description, steps = preset_steps(name)
        return cls(name=name, description=description, steps=steps)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Build a recipe from plain types, the inverse of ``to_dict``.

        Raises:
            ValueError: an unknown key or an impossible value, in one sentence that says where.
        """
        return validated(cls, data)

    @classmethod
    def from_file(cls, path: str | Path) -> "Recipe":
        """Read a .yaml, .yml or .toml recipe, or an existing Real-ESRGAN options file (see ``notes`` then).

        Raises:
            ValueError: not such a file, an unknown key or an impossible value, in one sentence that names the file.
        """
        return validated(cls, read_recipe_file(Path(path)), source=str(path))

    @classmethod
    def load(cls, name_or_file: str | Path) -> "Recipe":
        """A preset by name, or a recipe from a file: what a command line takes.

        Raises:
            ValueError: it is neither, or the file is not a recipe.
        """
        if Path(name_or_file).suffix or Path(name_or_file).exists():
            return cls.from_file(name_or_file)
        return cls.preset(str(name_or_file))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, with every default written out."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """One line: the description, or the chain."""
        return self.description or summarise(self.steps)

    def draw(self, seed: int, scale: int) -> Drawn:
        """Draw the degradation of one sample; a pure function of recipe, seed and scale.

        Args:
            seed: non-negative integer.
            scale: HR side / LR side: 2, 3 or 4.

        Returns:
            ``{"scale": scale, "steps": [...]}`` of JSON types, with the seeds of the pixel noise.

        Raises:
            ValueError: an unsupported scale or a negative seed.
        """
        if scale not in _SCALES:
            raise ValueError(f"scale {scale} is not supported; use 2, 3 or 4")
        steps = draw_chain(self.steps, Dice(seed), scale)
        resizes = [step for step in steps if step["op"] == "resize"]
        if not resizes or (resizes[-1]["of"], resizes[-1]["factor"]) != ("lr", 1.0):
            steps.append({"op": "resize", "of": "lr", "factor": 1.0, "mode": "bicubic", "antialias": True})
        return {"scale": scale, "steps": steps}

    @staticmethod
    def apply(hr: Tensor, params_list: Sequence[Drawn]) -> Tensor:
        """Degrade a batch, every sample by its own parameters.

        The bytes depend on the sample and its parameters only: not on its neighbours in the batch, on global random
        state or on the number of threads.

        Args:
            hr: RGB, (B, 3, H, W) in [0, 1], sides multiples of the scale.
            params_list: B results of ``draw``, all of one scale.

        Returns:
            LR, (B, 3, H / scale, W / scale) in [0, 1], multiples of 1/255; differentiable in ``hr`` (codecs and
            rounding straight-through).

        Raises:
            ValueError: shapes, scales or parameters do not fit.
        """
        _check_batch(hr, params_list)
        work = hr if hr.dtype == torch.float64 else hr.float()
        lr = torch.cat([_degrade(image[None], params) for image, params in zip(work, params_list, strict=True)])
        return quantise(lr).to(hr.dtype)


class ClassicalDegrader(nn.Module):
    """A recipe as a layer: every call, and every sample of the batch, is degraded anew.

    Args:
        recipe: a recipe, or the name of a preset.
        scale: HR side / LR side: 2, 3 or 4.
    """

    def __init__(self, recipe: Recipe | str, scale: int = 4) -> None:
        super().__init__()
        self.recipe = Recipe.preset(recipe) if isinstance(recipe, str) else recipe
        self.scale = scale
        self.recipe.draw(0, scale)  # an unsupported scale fails here, not in the training loop

    def forward(
        self, hr: Tensor, seeds: Sequence[int] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Degrade a batch.

        Args:
            hr: RGB, (B, 3, H, W) in [0, 1], sides multiples of the scale.
            seeds: B non-negative integers; None draws them.
            generator: CPU generator to draw the seeds from; None takes fresh entropy from the system.

        Returns:
            LR, (B, 3, H / scale, W / scale) in [0, 1], multiples of 1/255.

        Raises:
            ValueError: not one seed per sample, or ``hr`` does not fit.
        """
        if seeds is None:
            seeds = _fresh_seeds(len(hr), generator)
        return self.recipe.apply(hr, [self.recipe.draw(int(seed), self.scale) for seed in seeds])

    def extra_repr(self) -> str:
        """What ``print(layer)`` shows."""
        return f"recipe={self.recipe.name!r}, scale={self.scale}"


def _fresh_seeds(count: int, generator: torch.Generator | None) -> list[int]:
    if generator is None:
        return [secrets.randbits(63) for _ in range(count)]
    return cast(list[int], torch.randint(2**63 - 1, (count,), generator=generator).tolist())


def _check_batch(hr: Tensor, params_list: Sequence[Drawn]) -> None:
    if hr.dim() != 4 or hr.shape[1] != 3 or not hr.is_floating_point() or not len(hr):
        raise ValueError(f"hr is {hr.dtype} {tuple(hr.shape)}; pass float RGB of shape (B, 3, H, W) in [0, 1]")
    if len(params_list) != len(hr):
        raise ValueError(f"{len(params_list)} parameters for {len(hr)} images; draw one per sample")
    scales = sorted({params["scale"] for params in params_list})
    if len(scales) > 1:
        raise ValueError(f"one batch has the scales {scales}; apply each scale to a batch of its own")
    for name, side in zip(("height", "width"), hr.shape[-2:], strict=True):
        if side < scales[0] or side % scales[0]:
            fix = f"crop to {side - side % scales[0]}" if side >= scales[0] else f"use at least {scales[0]}"
            raise ValueError(f"hr {name} {side} is not a multiple of scale {scales[0]}; {fix}")


def _degrade(hr: Tensor, params: Drawn) -> Tensor:
    lr_size = (hr.shape[-2] // params["scale"], hr.shape[-1] // params["scale"])
    image = hr
    room = max(_ROOM, _GROWTH * hr.shape[-2] * hr.shape[-1])
    for step in params["steps"]:
        image = _resize(image, step, lr_size, room) if step["op"] == "resize" else _apply_step(image, step)
    if tuple(image.shape[-2:]) != lr_size:
        raise ValueError(f"the drawn steps end at {tuple(image.shape[-2:])}, not at LR size {lr_size}; draw them again")
    return image


def _resize(image: Tensor, step: Drawn, lr_size: tuple[int, int], room: int) -> Tensor:
    height, width = lr_size if step["of"] == "lr" else image.shape[-2:]
    size = (max(1, int(height * step["factor"])), max(1, int(width * step["factor"])))
    if size[0] * size[1] > room:
        raise ValueError(f"a resize by factor {step['factor']:.3g} makes {size[1]}x{size[0]} pixels; lower its factor")
    return resize(image, size, step["mode"], antialias=step["antialias"])


def _apply_step(image: Tensor, step: Drawn) -> Tensor:
    match step["op"]:
        case "blur":
            return blur(image, _kernel(step))
        case "noise":
            return _noisy(image, step).clamp(0, 1)
        case "camera":
            shot, read, gains = (torch.tensor([step[key]]) for key in ("shot", "read", "gains"))
            return camera_noise(image, shot, read, gains, [step["seed"]], mosaic=step["mosaic"])
        case "jpeg" if step["codec"] == "kornia":
            return jpeg_differentiable(image, [step["quality"]])
        case "jpeg":
            return jpeg(image, [step["quality"]], step["chroma"])
        case "webp":
            return webp(image, [step["quality"]])
        case "chroma":
            return subsample_chroma(image, step["chroma"]).clamp(0, 1)
        case "sharpen":
            amount, sigma_px, threshold_255 = (torch.tensor([step[k]]) for k in ("amount", "sigma_px", "threshold_255"))
            return unsharp_mask(image, amount, sigma_px, threshold_255 / 255)
        case "quantise":
            return quantise(image)
    raise ValueError(f"unknown operation {step['op']!r} in the drawn parameters; draw them again with this version")


def _kernel(step: Drawn) -> Tensor:
    def value(key: str) -> Tensor:
        return torch.tensor([step[key]], dtype=torch.float64)

    match step["kernel"]:
        case "sinc":
            return sinc_kernel(step["size_px"], value("cutoff_rad"))
        case "disk":
            return disk_kernel(value("radius_px"))
        case "motion":
            return motion_kernel(value("length_px"), value("angle_rad"))
    angle = value("angle_rad") if "angle_rad" in step else None
    beta = value("beta") if "beta" in step else None
    return gaussian_kernel(step["size_px"], value("sigma_px"), angle, shape=step["kernel"], beta=beta)


def _noisy(image: Tensor, step: Drawn) -> Tensor:
    seeds = [step["seed"]]
    if step["family"] == "poisson":
        return poisson_noise(image, torch.tensor([step["scale"]]), seeds, grey=step["grey"])
    sigma = torch.tensor([step["sigma_255"] / 255])
    mixing = torch.tensor(step["mixing"]) if "mixing" in step else None
    correlation_px = step.get("correlation_px", 0.0)
    return gaussian_noise(image, sigma, seeds, correlation_px=correlation_px, mixing=mixing, grey=step["grey"])
