"""Plan an upscaling run: which input image becomes which output file, and in which format."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from degrade.errors import ImageError, PassedOverError
from degrade.files.names import IMAGE_SUFFIXES
from degrade.files.outputs import OUTPUT_SUFFIXES, check_collisions, output_in
from degrade.files.sources import Source, list_sources
from degrade.files.store import check_output_folder
from degrade.images.codec import probe_image
from upsample.upscaling.pictures import output_ext

_HEAD_BYTES = 1024


@dataclass(frozen=True)
class UpscaleTask:
    """Name one image to upscale.

    Attributes:
        source: the input image.
        output: the file to write.
        ext: the format to write: "png", "jpg" or "webp".
        width: width of the input, upright, in pixels.
        height: height of the input, upright, in pixels.
    """

    source: Source
    output: Path
    ext: str
    width: int
    height: int


@dataclass(frozen=True)
class UpscalePlan:
    """List what a run will do.

    Attributes:
        tasks: the images to upscale.
        skipped: number of images that are left out because their output exists.
        failures: one sentence for each input that cannot be used.
        notes: sentences about choices that the user may not expect.
    """

    tasks: list[UpscaleTask]
    skipped: int
    failures: list[str]
    notes: list[str]


def plan_upscaling(
    source: Path, out: Path, *, ext: str = "auto", suffix: str = "", keep_alpha: bool = True, overwrite: bool = False
) -> UpscalePlan:
    """Choose the name and format of every output; only the headers of the inputs are read.

    Args:
        source: an image with any file name, or anything else that `list_sources` accepts: a folder, a text list or
            tars.
        out: a folder, which gets the same subfolders as the source; for a single image, an image file also works.
        ext: "png", "jpg", "webp", or "auto" for the format of each input; an image that the format cannot hold becomes
            png.
        suffix: text added to every file name, before the extension.
        keep_alpha: whether the outputs keep transparency.
        overwrite: upscale images again whose output exists.

    Raises:
        ValueError: there is no input, two inputs would be written to one file, or an output would replace an input.
    """
    sources, single = _inputs(source)  # first, because a mistake here makes those about the output beside the point
    named = out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir()
    check_output_folder(out.parent if named else out, "output", source, "input")
    if named:
        _check_named(source, out, single, ext)
    tasks: list[UpscaleTask] = []
    failures: list[str] = []
    notes: list[str] = []
    turned_png = first_of_several = 0
    for each in sources:
        try:
            info = probe_image(each.head())
        except (OSError, ImageError) as err:
            passed_over = isinstance(err, PassedOverError) and not single
            (notes if passed_over else failures).append(f"{each.name}: {err}")
            continue
        wanted = OUTPUT_SUFFIXES[out.suffix.lower()] if named else ext
        chosen = output_ext(info, wanted, keep_alpha=keep_alpha)
        if named and chosen != wanted:
            raise ValueError(f"{each.name} has transparency or 16 bits, which a {wanted} cannot hold; name a .png")
        turned_png += ext not in ("auto", chosen)
        first_of_several += info.more_frames
        try:
            output = out if named else output_in(out, each, suffix, chosen)
        except ImageError as err:
            failures.append(f"{each.name}: {err}")
            continue
        tasks.append(UpscaleTask(each, output, chosen, info.width, info.height))
    check_collisions((task.source, task.output) for task in tasks)
    remaining = [task for task in tasks if overwrite or not task.output.exists()]
    if turned_png:
        notes.append(f"images with transparency or 16 bits, written as png instead: {turned_png}")
    if first_of_several:
        notes.append(f"animations or files of several pages, of which the first image is taken: {first_of_several}")
    return UpscalePlan(remaining, len(tasks) - len(remaining), failures, notes)


def _inputs(source: Path) -> tuple[list[Source], bool]:
    """List the inputs, and tell whether the source is a single image.

    Raises:
        ValueError: the source does not exist, is in a format that is not read, or holds no image.
    """
    if source.is_file() and source.suffix.lower() not in (*IMAGE_SUFFIXES, ".tar"):
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if not _is_text(head):
            try:
                probe_image(source)  # some programs save images as .jpg_large, .jpe or without any suffix
            except ImageError as err:
                raise ValueError(f"input {err}") from err
            return [Source(source.name, source.stat().st_size, str(source))], True
    sources = list_sources(source)
    return sources, source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES


def _is_text(head: bytes) -> bool:
    """Tell whether a file may be a list of images by its first bytes: text of any encoding, UTF-16 with its mark."""
    return b"\0" not in head or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _check_named(source: Path, out: Path, single: bool, ext: str) -> None:
    if not single:
        raise ValueError(f"output {out} is the name of one image, but {source} may hold many; give a folder")
    named = OUTPUT_SUFFIXES.get(out.suffix.lower())
    if named is None:
        raise ValueError(f"output {out} cannot be written as {out.suffix[1:]}; use png, jpg or webp")
    if ext not in ("auto", named):
        raise ValueError(f"output {out} and format {ext} contradict each other; give one of them")
