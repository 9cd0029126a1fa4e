"""Plan an upscaling run: which input image becomes which output file, and in which format."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from degrade.errors import ImageError
from degrade.files.names import IMAGE_SUFFIXES
from degrade.files.sources import Source, list_sources
from degrade.files.store import check_output_folder
from degrade.images.codec import probe_image
from upsample.upscaling.pictures import OUTPUT_SUFFIXES, output_ext


@dataclass(frozen=True)
class UpscaleTask:
    """Name one image to upscale.

    Attributes:
        source: the input image.
        output: the file to write.
        ext: the format to write: "png", "jpg" or "webp".
    """

    source: Source
    output: Path
    ext: str


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
        source: an image, or anything else that `list_sources` accepts: a folder, a text list or tars.
        out: a folder, which gets the same subfolders as the source; for a single image, an image file also works.
        ext: "png", "jpg", "webp", or "auto" for the format of each input; an image that the format cannot hold becomes
            png.
        suffix: text added to every file name, before the extension.
        keep_alpha: whether the outputs keep transparency.
        overwrite: upscale images again whose output exists.

    Raises:
        ValueError: there is no input, two inputs would be written to one file, or an output would replace an input.
    """
    single = source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES
    named = out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir()
    check_output_folder(out.parent if named else out, "output", source, "input")
    if named:
        _check_named(source, out, single, ext)
    tasks: list[UpscaleTask] = []
    failures: list[str] = []
    turned_png = 0
    for each in list_sources(source):
        name = PurePosixPath(each.name)
        try:
            if ".." in name.parts:
                raise ImageError("its name contains '..', which leads out of the output folder; rename it")
            info = probe_image(each.head())
        except (OSError, ImageError) as err:
            failures.append(f"{each.name}: {err}")
            continue
        wanted = OUTPUT_SUFFIXES[out.suffix.lower()] if named else ext
        chosen = output_ext(info, wanted, keep_alpha=keep_alpha)
        if named and chosen != wanted:
            raise ValueError(f"{each.name} has transparency or 16 bits, which a {wanted} cannot hold; name a .png")
        turned_png += ext not in ("auto", chosen)
        output = out if named else out / name.parent / f"{name.stem}{suffix}.{chosen}"
        tasks.append(UpscaleTask(each, output, chosen))
    _check_collisions(tasks)
    remaining = [task for task in tasks if overwrite or not task.output.exists()]
    notes = [f"images with transparency or 16 bits, written as png instead: {turned_png}"] if turned_png else []
    return UpscalePlan(remaining, len(tasks) - len(remaining), failures, notes)


def _check_named(source: Path, out: Path, single: bool, ext: str) -> None:
    if not single:
        raise ValueError(f"output {out} is the name of one image, but {source} may hold many; give a folder")
    named = OUTPUT_SUFFIXES.get(out.suffix.lower())
    if named is None:
        raise ValueError(f"output {out} cannot be written as {out.suffix[1:]}; use png, jpg or webp")
    if ext not in ("auto", named):
        raise ValueError(f"output {out} and format {ext} contradict each other; give one of them")


def _check_collisions(tasks: list[UpscaleTask]) -> None:
    inputs = {Path(task.source.path).resolve() for task in tasks}
    seen: dict[Path, Source] = {}
    for task in tasks:
        if task.output.resolve() in inputs:
            raise ValueError(f"{task.output} would replace an input; give another folder or a suffix")
        if task.output in seen:
            raise ValueError(
                f"{seen[task.output].name} and {task.source.name} would both be written to {task.output}; rename one"
            )
        seen[task.output] = task.source
