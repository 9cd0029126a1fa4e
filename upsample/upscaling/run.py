"""Upscale image files: which file becomes which, and the run over them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import torch
from torch import Tensor

from degrade.errors import ImageError
from degrade.files.sources import IMAGE_SUFFIXES, Source, list_sources
from degrade.files.store import write_atomic
from degrade.images.codec import probe_image
from upsample.bicubic import enlarge
from upsample.model import ResidualShiftUpsampler
from upsample.upscaling.color_fix import ColorFix, color_fix
from upsample.upscaling.pictures import (
    OUTPUT_SUFFIXES,
    Picture,
    check_side,
    encode_picture,
    fill_hidden,
    keep_flat,
    on_white,
    output_ext,
    read_picture,
)
from upsample.upscaling.tiling import OVERLAP, TILE, is_out_of_memory, upscale_in_tiles

Alpha = Literal["network", "bicubic", "drop"]


@dataclass(frozen=True)
class RunSettings:
    """How an image is upscaled.

    Attributes:
        outscale: side of the result / side of the input; None for the model's scale, smaller ones are area-reduced.
        tile: longest side of a tile in LR pixels; 0 for whole images.
        overlap: LR pixels that neighbouring tiles share.
        color_fix: "none", "wavelet" or "adain".
        alpha: transparency by the network, as a grey image; bicubic; or dropped, laying the image on white.
        steps: network calls; None for the number that the model was trained for.
    """

    outscale: int | None = None
    tile: int = TILE
    overlap: int = OVERLAP
    color_fix: ColorFix = "none"
    alpha: Alpha = "network"
    steps: int | None = None


@dataclass(frozen=True)
class Task:
    """One image to make: from what, where, and in which format."""

    source: Source
    output: Path
    ext: str


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Attributes:
        tasks: images to make.
        skipped: how many exist already.
        failures: inputs that cannot be used, a sentence each.
        notes: what the user may not expect.
    """

    tasks: list[Task]
    skipped: int
    failures: list[str]
    notes: list[str]


def plan_run(
    source: Path, out: Path, *, ext: str = "auto", suffix: str = "", alpha: Alpha = "network", overwrite: bool = False
) -> RunPlan:
    """Choose the name and format of every output, from the headers of the inputs alone.

    Args:
        source: an image, or what else `list_sources` takes: a folder, a text list, tars.
        out: a folder, in which subfolders of the source are kept; or, for one image, an image file.
        ext: "png", "jpg", "webp", or "auto" for the input's own; what that cannot hold becomes png.
        suffix: added to every name, before the extension.
        alpha: as in `RunSettings`: whether transparency has to be held.
        overwrite: make images again that exist.

    Raises:
        ValueError: nothing is there, two inputs would be written to one file, or one over its input.
    """
    one = source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES
    named = out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir()
    _check_places(source, out.parent if named else out)
    if named:
        _check_named(source, out, one, ext)
    tasks: list[Task] = []
    failures: list[str] = []
    turned_png = 0
    for each in list_sources(source):
        try:
            if ".." in PurePosixPath(each.name).parts:
                raise ImageError("its name leads out of the folder; rename it")
            info = probe_image(each.head())
        except (OSError, ImageError) as err:
            failures.append(f"{each.name}: {err}")
            continue
        wanted = OUTPUT_SUFFIXES[out.suffix.lower()] if named else ext
        chosen = output_ext(info, wanted, keep_alpha=alpha != "drop")
        if named and chosen != wanted:
            raise ValueError(f"{each.name} has transparency or 16 bits, which a {wanted} cannot hold; name a .png")
        turned_png += ext not in ("auto", chosen)
        place = PurePosixPath(each.name)
        tasks.append(Task(each, out if named else out / place.parent / f"{place.stem}{suffix}.{chosen}", chosen))
    _check_collisions(tasks)
    left = [task for task in tasks if overwrite or not task.output.exists()]
    notes = [f"{turned_png} images have transparency or 16 bits and become png"] if turned_png else []
    return RunPlan(left, len(tasks) - len(left), failures, notes)


def load_upsampler(
    name: str | Path, *, device: str = "cpu", seed: int | None = None, bf16: bool = False
) -> ResidualShiftUpsampler:
    """Load an upsampler for running.

    Args:
        name: shipped name, folder, or hub id.
        device: where it runs.
        seed: draws another fixed noise; None keeps the model's own.
        bf16: run the network, not what surrounds it, in bfloat16.

    Raises:
        ValueError: there is nothing of this name.
    """
    upsampler = ResidualShiftUpsampler.from_pretrained(name).to(device).eval()
    if seed is not None:
        upsampler.set_noise(seed)
    upsampler.set_bf16(bf16)
    return upsampler


def upscale_picture(
    upsampler: ResidualShiftUpsampler,
    picture: Picture,
    settings: RunSettings,
    *,
    on_tile: Callable[[float], object] = lambda done: None,
    on_halved: Callable[[int], object] = lambda tile: None,
) -> Picture:
    """Upscale one image with its transparency.

    Args:
        upsampler: the network.
        picture: the image.
        settings: how.
        on_tile: see `upscale_in_tiles`.
        on_halved: see `upscale_in_tiles`.

    Raises:
        ValueError: the settings do not fit the model, or not even the smallest tile fits in memory.
    """
    scale = _checked_scale(upsampler, settings)
    lr, lr_alpha = picture.color, picture.alpha
    if lr_alpha is not None and settings.alpha == "drop":
        lr, lr_alpha = on_white(lr, lr_alpha), None
    elif lr_alpha is not None:
        lr = fill_hidden(lr, lr_alpha)
    by_network = lr_alpha is not None and settings.alpha == "network"
    sr = upscale_in_tiles(
        upsampler,
        torch.cat([lr, lr_alpha.expand(-1, 3, -1, -1)]) if lr_alpha is not None and by_network else lr,
        tile=settings.tile,
        overlap=settings.overlap,
        steps=settings.steps,
        on_tile=on_tile,
        on_halved=on_halved,
    )
    color, alpha = sr[:1], None
    if settings.color_fix != "none":
        color = color_fix(color, enlarge(lr, upsampler.config.scale), settings.color_fix)
    if lr_alpha is not None:
        larger = sr[1:].mean(1, keepdim=True) if by_network else enlarge(lr_alpha, upsampler.config.scale)
        alpha = keep_flat(larger, lr_alpha)
    if scale != upsampler.config.scale:
        height, width = (side * scale for side in lr.shape[-2:])
        color, alpha = _reduce(color, height, width), None if alpha is None else _reduce(alpha, height, width)
    return replace(picture, color=color, alpha=alpha)


def run_plan(
    plan: RunPlan,
    upsampler: ResidualShiftUpsampler,
    settings: RunSettings,
    *,
    on_progress: Callable[[float], object] = lambda done: None,
    on_note: Callable[[str], object] = lambda sentence: None,
) -> dict[str, Any]:
    """Make the images of a plan; one that cannot be made is left out, and the rest goes on.

    Args:
        plan: of `plan_run`, made for the same ``alpha``.
        upsampler: of `load_upsampler`.
        settings: how images are upscaled.
        on_progress: told how many images are done, in fractions.
        on_note: told what happens meanwhile, a sentence each.

    Returns:
        images, skipped, seconds, hr_megapixels, hr_megapixels_per_second, tile (the last), tile_halvings, failures.

    Raises:
        ValueError: the settings do not fit the model, or not even the smallest tile fits in memory.
        ShardError: the disk is full or not writable.
    """
    scale = _checked_scale(upsampler, settings)
    began = time.perf_counter()
    failures, made, pixels, halvings = list(plan.failures), 0, 0, 0

    def halve(tile: int) -> None:
        nonlocal settings, halvings
        settings, halvings = replace(settings, tile=tile), halvings + 1  # the images that follow would not fit either
        on_note(f"memory is short: going on with tiles of {tile} px")

    def advance(done: float) -> None:
        on_progress(index + done)

    for index, task in enumerate(plan.tasks):  # noqa: B007 - `advance` reads it
        advance(0)
        try:
            picture = read_picture(task.source.read())
            height, width = (side * scale for side in picture.color.shape[-2:])
            check_side(width, height, task.ext)
            picture = upscale_picture(upsampler, picture, settings, on_tile=advance, on_halved=halve)
            data = encode_picture(picture, task.ext)
        except (OSError, ImageError) as err:
            failures.append(f"{task.source.name}: {err}")
            continue
        except (MemoryError, RuntimeError) as err:
            if isinstance(err, RuntimeError) and not is_out_of_memory(err):
                raise
            failures.append(f"{task.source.name}: the result does not fit in memory; cut the image into parts")
            continue
        task.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(task.output, data)
        made, pixels = made + 1, pixels + height * width
    on_progress(len(plan.tasks))
    seconds = time.perf_counter() - began
    return {
        "images": made,
        "skipped": plan.skipped,
        "seconds": seconds,
        "hr_megapixels": pixels / 1e6,
        "hr_megapixels_per_second": pixels / 1e6 / seconds,
        "tile": settings.tile,
        "tile_halvings": halvings,
        "failures": failures,
    }


def _checked_scale(upsampler: ResidualShiftUpsampler, settings: RunSettings) -> int:
    scale = int(upsampler.config.scale)
    if settings.outscale is not None and not 1 <= settings.outscale <= scale:
        raise ValueError(
            f"outscale {settings.outscale} is outside 1..{scale}, the scale of the model; use another model"
        )
    return scale if settings.outscale is None else settings.outscale


def _reduce(images: Tensor, height: int, width: int) -> Tensor:
    """Area-reduce (1, C, H, W), by fractions too: torch's own area takes whole pixels and so shifts at 4 to 3."""
    pixels = cv2.resize(images[0].permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pixels.reshape(height, width, -1)).permute(2, 0, 1)[None]


def _check_places(source: Path, folder: Path) -> None:
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"output {folder} cannot be a folder, since {place} is a file; give another")
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise ValueError(
            f"output {folder} lies inside input {source}, whose images would then include ours; give a folder beside it"
        )


def _check_named(source: Path, out: Path, one: bool, ext: str) -> None:
    if not one:
        raise ValueError(f"output {out} is the name of one image, but {source} may hold many; give a folder")
    named = OUTPUT_SUFFIXES.get(out.suffix.lower())
    if named is None:
        raise ValueError(f"output {out} cannot be written as {out.suffix[1:]}; use png, jpg or webp")
    if ext not in ("auto", named):
        raise ValueError(f"output {out} and format {ext} contradict each other; give one of them")


def _check_collisions(tasks: list[Task]) -> None:
    inputs = {Path(task.source.path).resolve() for task in tasks}
    seen: dict[Path, Source] = {}
    for task in tasks:
        if task.output.resolve() in inputs:
            raise ValueError(f"{task.output} would be written over an input; give another folder or a suffix")
        if task.output in seen:
            raise ValueError(
                f"{seen[task.output].name} and {task.source.name} would both be written to {task.output}; rename one"
            )
        seen[task.output] = task.source
