"""Define DegradationMix, which degrades images with the learned degrader or a classical recipe.

A degradation is first drawn, as a record that describes it completely, and then applied. So the same seed gives the
same LR in a training loop and in a shard, for one sample or for a batch, and a record from a shard reproduces its LR.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from degrade.adjustment import NEUTRAL, Adjustment
from degrade.errors import ImageError, PassedOverError, failure_reason
from degrade.files.sources import list_sources
from degrade.images.codec import read_image
from degrade.images.tensors import to_tensor
from degrade.networks.backend import Backend
from degrade.ops.compress import quantise
from degrade.ops.out_of_range import OutOfRange, bounded
from degrade.recipes.file import validated
from degrade.recipes.ranges import Number, Seed
from degrade.recipes.recipe import DrawnRecipe, Recipe
from degrade.recipes.steps import StrictModel
from degrade.seeds import draw_seeds, torch_seed

if TYPE_CHECKING:  # a mix of recipes only needs no diffusers
    from degrade.degrader import RealisticDegrader

Record = dict[str, Any]

MAX_REFERENCE_SIDE = 1024  # px; larger reference photographs are cropped to this before they are encoded


class DegradationMix(nn.Module):
    """Draw the degradation of each sample from the learned degrader or from a recipe, and apply it.

    Args:
        degrader: the learned degrader, or None.
        recipe: the classical recipe, or None.
        mix: probability of the recipe, 0..1, if both are given.
        scale: HR side / LR side, at most that of the degrader.
        steps: network calls of the learned degrader.
        codes: (N, code_dim) codes to draw from instead of the degrader's bank, such as those of reference photographs.
        adjustment: how drawn looks are changed before they are applied; only for a degrader without a recipe.

    Raises:
        ValueError: neither a degrader nor a recipe is given, an argument is out of range, or an adjustment is given for
            a recipe.

    Example:
        >>> mix = DegradationMix(None, Recipe.preset("bicubic"), scale=4)
        >>> mix(torch.rand(1, 3, 64, 64), seeds=[7]).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(
        self,
        degrader: "RealisticDegrader | None",
        recipe: Recipe | None,
        *,
        mix: float = 0.5,
        scale: int = 4,
        steps: int = 1,
        codes: Tensor | None = None,
        adjustment: Adjustment = NEUTRAL,
    ) -> None:
        super().__init__()
        if degrader is None and recipe is None:
            raise ValueError("neither a degrader nor a recipe was given; give at least one")
        if not 0 <= mix <= 1:
            raise ValueError(f"mix {mix} is not a probability; use 0 (learned only) to 1 (recipe only)")
        if degrader is not None and not 1 <= scale <= degrader.config.scale:
            raise ValueError(
                f"the degrader is for scales up to {degrader.config.scale}, not {scale}; use another one or a recipe"
            )
        if degrader is not None and not 1 <= steps <= degrader.config.num_train_timesteps:
            raise ValueError(f"steps {steps} is outside 1..{degrader.config.num_train_timesteps}, the degrader's chain")
        if adjustment != NEUTRAL:
            if degrader is None or (recipe is not None and mix > 0):
                raise ValueError(
                    "strength, grain, blur, noise and jpeg change learned looks, but a recipe has ranges of its own; "
                    "leave the recipe out, or edit a copy of it (`degrade presets --show NAME`)"
                )
            degrader.move(degrader.bank[:1], **adjustment.moves())  # raises the error now if it has no directions
        self.degrader, self.recipe, self.scale, self.steps, self.codes = degrader, recipe, scale, steps, codes
        self.adjustment = adjustment
        self.recipe_share = 0.0 if recipe is None else 1.0 if degrader is None else mix

    def draw(self, seeds: Sequence[int]) -> list[Record]:
        """Draw one degradation per seed, as records of plain JSON types that `degrade` can apply."""
        return [self._draw(seed) for seed in seeds]

    def _draw(self, seed: int) -> Record:
        generator = torch.Generator().manual_seed(torch_seed(seed))
        if self.recipe is not None and _chance(generator) < self.recipe_share:
            return {
                "kind": "recipe",
                "recipe": self.recipe.name,
                "params": self.recipe.draw(seed, self.scale).to_dict(),
            }
        assert self.degrader is not None
        if self.codes is None:
            code = self.degrader.sample_codes(1, generator=generator)[0]
        else:
            code = self.codes[int(torch.randint(len(self.codes), (), generator=generator, device="cpu"))]
        noise_seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
        code = self.degrader.move(code[None], **self.adjustment.moves())[0]
        strength = self.adjustment.strength_at(_chance(generator))
        return self.learned_record(code.tolist(), noise_seed, strength)

    def learned_record(self, code: list[float], noise_seed: int, strength: float = 1.0) -> Record:
        """Return the record of a learned degradation with a given code and noise.

        It names the backend and the precision of the degrader where they are not torch and float32.
        """
        backend, bf16 = ("torch", False) if self.degrader is None else self.degrader.computed_by
        return {
            "kind": "learned",
            "code": code,
            "steps": self.steps,
            "noise_seed": noise_seed,
            "scale": self.scale,
            "strength": strength,
            "grain": self.adjustment.grain,
            **({} if backend == "torch" else {"backend": backend}),
            **({"bf16": True} if bf16 else {}),
        }

    def degrade(self, hr: Tensor, records: Sequence[Record]) -> Tensor:
        """Call `apply_records` with the learned degrader of this mix."""
        return apply_records(hr, records, self.degrader)

    def degrade_exactly(self, hr: Tensor, records: Sequence[Record]) -> Tensor:
        """Call `apply_records_exactly` with the learned degrader of this mix."""
        return apply_records_exactly(hr, records, self.degrader)

    def forward(
        self,
        hr: Tensor,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
        *,
        out_of_range: OutOfRange = "refuse",
    ) -> Tensor:
        """Draw degradations and apply them.

        Args:
            hr: (B, 3, H, W), range [0, 1]; H and W are multiples of the scale.
            seeds: B non-negative integers; None draws them.
            generator: draws the seeds; None takes them from the operating system's entropy. ``torch.default_generator``
                is the global one, and follows ``torch.manual_seed``.
            out_of_range: what to do with values of ``hr`` outside [0, 1]: "refuse", "clamp" or "pass", as
                `RealisticDegrader` does.

        Returns:
            lr: (B, 3, H/scale, W/scale), multiples of 1/255.

        Raises:
            ValueError: there is not one seed per image, or ``hr`` does not fit.
        """
        records = self.draw(draw_seeds(len(hr), generator) if seeds is None else seeds)
        return apply_records(hr, records, self.degrader, out_of_range=out_of_range)


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, device="cpu"))


def apply_records(
    hr: Tensor,
    records: Sequence[Record],
    degrader: "RealisticDegrader | None" = None,
    *,
    out_of_range: OutOfRange = "refuse",
) -> Tensor:
    """Degrade each image as its record says.

    Args:
        hr: (B, 3, H, W), range [0, 1].
        records: one record per image, from `DegradationMix.draw` or from a shard.
        degrader: the degrader that the learned records were drawn from; None if all records are of recipes.
        out_of_range: what to do with values of ``hr`` outside [0, 1]: "refuse", "clamp" or "pass".

    Returns:
        lr: (B, 3, H/scale, W/scale), multiples of 1/255; the rounding passes gradients straight through.

    Raises:
        ValueError: there is not one record per image, or a learned record but no degrader, or ``hr`` does not fit.
    """
    if len(records) != len(hr):
        raise ValueError(f"{len(records)} records for {len(hr)} images; pass one each")
    hr = bounded(hr, "hr", out_of_range)
    parts: dict[int, Tensor] = {}
    learned = [i for i, record in enumerate(records) if record["kind"] == "learned"]
    classical = [i for i, record in enumerate(records) if record["kind"] == "recipe"]
    for steps in sorted({records[i]["steps"] for i in learned}):
        rows = [i for i in learned if records[i]["steps"] == steps]
        parts |= zip(rows, _apply_learned(_rows(hr, rows), [records[i] for i in rows], degrader), strict=True)
    if classical:
        lr = Recipe.apply(_rows(hr, classical), [DrawnRecipe.from_dict(records[i]["params"]) for i in classical])
        parts |= zip(classical, lr, strict=True)
    return torch.stack([parts[i] for i in range(len(hr))])


def _rows(hr: Tensor, rows: list[int]) -> Tensor:
    """Take some images of a batch; all of them without a copy, because a whole photograph may take a gigabyte."""
    return hr if len(rows) == len(hr) else hr[rows]


def apply_records_exactly(hr: Tensor, records: Sequence[Record], degrader: "RealisticDegrader | None" = None) -> Tensor:
    """Call `apply_records` without gradients, to the same bytes for every batch size and every number of threads.

    On a CPU, both change the order in which convolutions add up, and a difference of 1e-7 sometimes changes how a
    value is rounded. So there, this degrades one image at a time on one thread; use several processes for speed.
    """
    with torch.inference_mode():
        if hr.device.type != "cpu":
            return apply_records(hr, records, degrader)
        with one_thread():
            each = zip(hr.split(1), records, strict=True)
            return torch.cat([apply_records(image, [record], degrader) for image, record in each])


def _apply_learned(hr: Tensor, records: list[Record], degrader: "RealisticDegrader | None") -> Tensor:
    """Apply learned records that have the same steps and the same scale."""
    if degrader is None:
        raise ValueError("a learned degradation needs the degrader that drew it; none was given")
    code = torch.tensor([record["code"] for record in records], device=hr.device, dtype=hr.dtype)
    strength, grain = (
        torch.tensor([record[name] for record in records], device="cpu").to(hr) for name in ("strength", "grain")
    )
    generator = [torch.Generator().manual_seed(record["noise_seed"]) for record in records]
    first = records[0]
    options = {"scale": first["scale"], "steps": first["steps"], "strength": strength, "grain": grain}
    return quantise(degrader(hr, code, **options, generator=generator, out_of_range="pass"))  # checked as a whole


class _RecipeRecord(StrictModel):
    """Hold a degradation by a recipe, as `DegradationMix.draw` records it."""

    kind: Literal["recipe"]
    recipe: str
    params: DrawnRecipe


class _LearnedRecord(StrictModel):
    """Hold a learned degradation, as `DegradationMix.draw` records it."""

    kind: Literal["learned"]
    code: list[Number]
    steps: Annotated[int, Field(ge=1, le=1000)]
    noise_seed: Seed
    scale: Annotated[int, Field(ge=1, le=4)]
    strength: Annotated[Number, Field(ge=0, le=2)]
    grain: Annotated[Number, Field(ge=0, le=2)]
    backend: Backend = "torch"
    bf16: bool = False


def check_record(record: Record, source: str) -> None:
    """Check a record that comes back from a file, before anything is computed from it.

    Args:
        record: plain types, as `DegradationMix.draw` returns them.
        source: where the record comes from, for the error message.

    Raises:
        ValueError: the record is not valid; the message says where.
    """
    validated(_LearnedRecord if record.get("kind") == "learned" else _RecipeRecord, record, source=source)


@contextmanager
def one_thread() -> Iterator[None]:
    """Make torch compute on one thread inside the ``with`` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fingerprint(module: nn.Module) -> str:
    """Hash the names and bytes of a module's weights (sha256), so that equal weights from any source compare equal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def reference_codes(degrader: "RealisticDegrader", folder: str | Path) -> list[list[float]]:
    """Encode every photograph in a folder, in the order of their names.

    Raises:
        ValueError: an image cannot be read, or is smaller than 16 px.
    """
    from degrade.degrader import MIN_REFERENCE_SIDE

    codes = []
    for source in list_sources(folder):
        try:
            image = read_image(source.read())
            if min(image.shape[:2]) < MIN_REFERENCE_SIDE:
                raise ImageError(
                    f"{image.shape[1]}x{image.shape[0]} is too small to tell its degradation; "
                    f"use {MIN_REFERENCE_SIDE} or more"
                )
        except PassedOverError:
            continue
        except (ImageError, OSError) as err:
            raise ValueError(f"reference {source.name}: {failure_reason(err)}") from err
        # On one thread, because a code that differs in its last bit between machines would make another data set.
        with torch.inference_mode(), one_thread():
            codes.append(degrader.encode(to_tensor(image[:MAX_REFERENCE_SIDE, :MAX_REFERENCE_SIDE]))[0].tolist())
    if not codes:
        raise ValueError(f"{folder} holds no photograph to degrade like; pass a folder that does")
    return codes
