"""Degrade images by recipes: ordered chains of classical degradations whose numbers are drawn for every image.

A recipe file is YAML or TOML. Every step names its ``op`` and may have a ``probability``. A range is ``[low, high]`` or
one number; a choice is a name, a list of names, or a mapping of names to weights. Groups nest: ``chain``, ``one_of``
(weighted), ``shuffle`` (random order; a step that must come last is written after it) and ``by_scale``. For example:

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

``{op: resize, of: lr}`` resizes to the LR size. A chain whose last resize does not, gets an antialiased bicubic one at
its end. The result is always rounded to 8 bits.

>>> recipe = Recipe.preset("real-esrgan")
>>> params = [recipe.draw(seed, scale=4) for seed in (0, 1)]
>>> recipe.apply(torch.rand(2, 3, 64, 64), params).shape
torch.Size([2, 3, 16, 16])
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from degrade.ops.compress import quantise
from degrade.ops.out_of_range import OutOfRange, bounded
from degrade.recipes.file import read_recipe_file, validated
from degrade.recipes.groups import Step, draw_chain, summarise
from degrade.recipes.operations import DrawnOperation
from degrade.recipes.presets import PRESET_NAMES, preset_steps
from degrade.recipes.ranges import Dice
from degrade.recipes.resize import DrawnResize
from degrade.recipes.steps import DrawnStep, Sizes, StrictModel
from degrade.seeds import draw_seeds

__all__ = ["PRESET_NAMES", "ClassicalDegrader", "DrawnRecipe", "Recipe"]

_SCALES = (1, 2, 3, 4)


class DrawnRecipe(StrictModel):
    """Say what a recipe does to one image: the operations in order, with their numbers and the seeds of pixel noise.

    With the HR image, this is enough to make the LR again to the byte. Shards store ``to_dict``.
    """

    scale: Literal[1, 2, 3, 4]
    """HR side / LR side."""
    steps: list[DrawnOperation]
    """The operations, in order."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DrawnRecipe":
        """Read drawn steps back from the plain types of ``to_dict``.

        Raises:
            ValueError: an unknown operation or key, or a number out of bounds, in one sentence that says where.
        """
        return validated(cls, data, source="params")

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"scale": ..., "steps": [...]}`` of JSON types, with the numbers that were drawn and no others."""
        return self.model_dump(mode="json", exclude_unset=True)

    def apply(self, hr: Tensor) -> Tensor:
        """Degrade one image.

        Args:
            hr: RGB, (1, 3, H, W) in [0, 1], sides multiples of the scale.

        Returns:
            LR, (1, 3, H / scale, W / scale), not yet rounded to 8 bits.

        Raises:
            ValueError: a resize is far too large, or the last does not end at the LR size.
        """
        height, width = hr.shape[-2:]
        sizes = Sizes((height, width), (height // self.scale, width // self.scale))
        image = hr
        for step in self.steps:
            image = step.apply(image, sizes)
        if tuple(image.shape[-2:]) != sizes.lr:
            raise ValueError(
                f"the drawn steps end at {tuple(image.shape[-2:])}, not at LR size {sizes.lr}; draw them again"
            )
        return image


class Recipe(StrictModel):
    """Define an ordered chain of degradations with ranges.

    ``draw`` turns the ranges into the numbers of one image; ``apply`` turns an HR image and those numbers into its LR.
    """

    name: str = "recipe"
    """Short name, for reports."""
    description: str = ""
    """One line that says what the recipe imitates."""
    steps: tuple[Step, ...] = Field(min_length=1)
    """The steps, in order."""
    notes: tuple[str, ...] = ()
    """Remarks of an import, for example about keys that have no effect."""

    @classmethod
    def preset(cls, name: str) -> "Recipe":
        """Build a preset by its name, one of ``PRESET_NAMES``.

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
        """Read a recipe file (.yaml, .yml, .toml), or an options file of Real-ESRGAN; see ``notes`` for the latter.

        Raises:
            ValueError: it is no such file, or has an unknown key or an impossible value; one sentence names the file.
        """
        return validated(cls, read_recipe_file(Path(path)), source=str(path))

    @classmethod
    def load(cls, name_or_file: str | Path) -> "Recipe":
        """Return the preset of this name, or read the recipe from this file.

        Raises:
            ValueError: it is neither, or the file is not a recipe.
        """
        if Path(name_or_file).suffix or Path(name_or_file).exists():
            return cls.from_file(name_or_file)
        return cls.preset(str(name_or_file))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain types, with every default written out."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """Describe the recipe in one line: its description if it has one, otherwise its chain."""
        return self.description or summarise(self.steps)

    def draw(self, seed: int, scale: int) -> DrawnRecipe:
        """Draw the degradation of one image: a pure function of the recipe, the seed and the scale.

        Args:
            seed: non-negative integer.
            scale: HR side / LR side: 1, 2, 3 or 4.

        Raises:
            ValueError: an unsupported scale or a negative seed.
        """
        if scale not in _SCALES:
            raise ValueError(f"scale {scale} is not supported; use 1, 2, 3 or 4")
        steps: list[DrawnStep] = draw_chain(self.steps, Dice(seed), scale)
        resizes = [step for step in steps if isinstance(step, DrawnResize)]
        if not resizes or not resizes[-1].to_lr_size:
            steps.append(DrawnResize(op="resize", of="lr", factor=1.0, mode="bicubic", antialias=True))
        return DrawnRecipe.model_validate({"scale": scale, "steps": steps})

    @staticmethod
    def apply(hr: Tensor, params_list: Sequence[DrawnRecipe]) -> Tensor:
        """Degrade a batch, each image by its own drawn numbers.

        The result depends on the image and its numbers only, to the byte: not on the other images of the batch, on
        global random state or on the number of threads.

        Args:
            hr: RGB, (B, 3, H, W) in [0, 1], sides multiples of the scale.
            params_list: B results of ``draw``, all for the same scale.

        Returns:
            LR, (B, 3, H / scale, W / scale) in [0, 1], multiples of 1/255; differentiable in ``hr`` (gradients pass
            straight through codecs and rounding).

        Raises:
            ValueError: shapes, scales or numbers do not fit together.
        """
        _check_batch(hr, params_list)
        work = hr if hr.dtype == torch.float64 else hr.float()
        lr = torch.cat([params.apply(image[None]) for image, params in zip(work, params_list, strict=True)])
        return quantise(lr).to(hr.dtype)


class ClassicalDegrader(nn.Module):
    """Wrap a recipe as a layer that draws a new degradation for every image of every call.

    Args:
        recipe: a recipe, or the name of a preset.
        scale: HR side / LR side: 1, 2, 3 or 4.
    """

    def __init__(self, recipe: Recipe | str, scale: int = 4) -> None:
        super().__init__()
        self.recipe = Recipe.preset(recipe) if isinstance(recipe, str) else recipe
        self.scale = scale
        self.recipe.draw(0, scale)  # an unsupported scale fails here, not in the training loop

    def forward(
        self,
        hr: Tensor,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        *,
        out_of_range: OutOfRange = "refuse",
    ) -> Tensor:
        """Degrade a batch.

        Args:
            hr: RGB, (B, 3, H, W) in [0, 1], sides multiples of the scale.
            seeds: B non-negative integers; None draws them.
            generator: draws the seeds; None takes them from the operating system's entropy. ``torch.default_generator``
                is the global one, and follows ``torch.manual_seed``.
            out_of_range: what to do with values of ``hr`` outside [0, 1]: "refuse", "clamp" or "pass", as
                `RealisticDegrader` does.

        Returns:
            LR, (B, 3, H / scale, W / scale) in [0, 1], multiples of 1/255.

        Raises:
            ValueError: there is not one seed per image, or ``hr`` does not fit.
        """
        hr = bounded(hr, "hr", out_of_range)
        if seeds is None:
            seeds = draw_seeds(len(hr), generator)
        return self.recipe.apply(hr, [self.recipe.draw(int(seed), self.scale) for seed in seeds])

    def extra_repr(self) -> str:
        """Return what ``print(layer)`` shows between the brackets."""
        return f"recipe={self.recipe.name!r}, scale={self.scale}"


def _check_batch(hr: Tensor, params_list: Sequence[DrawnRecipe]) -> None:
    if hr.dim() != 4 or hr.shape[1] != 3 or not hr.is_floating_point() or not len(hr):
        raise ValueError(f"hr is {hr.dtype} {tuple(hr.shape)}; pass float RGB of shape (B, 3, H, W) in [0, 1]")
    if len(params_list) != len(hr):
        raise ValueError(f"{len(params_list)} parameters for {len(hr)} images; draw one per sample")
    scales = sorted({params.scale for params in params_list})
    if len(scales) > 1:
        raise ValueError(f"one batch has the scales {scales}; apply each scale to a batch of its own")
    for name, side in zip(("height", "width"), hr.shape[-2:], strict=True):
        if side < scales[0] or side % scales[0]:
            fix = f"crop to {side - side % scales[0]}" if side >= scales[0] else f"use at least {scales[0]}"
            raise ValueError(f"hr {name} {side} is not a multiple of scale {scales[0]}; {fix}")
