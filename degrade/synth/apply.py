"""Degrade whole images: the same names in another folder, and a log from which they can be made again."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from degrade.errors import ImageError, PassedOverError, failure_reason, one_sentence, shown
from degrade.files.names import IMAGE_SUFFIXES
from degrade.files.outputs import OUTPUT_SUFFIXES, check_collisions, output_in
from degrade.files.sources import Source, list_sources
from degrade.files.store import check_output_folder, write_atomic
from degrade.images.codec import encode_image, probe_image, read_image
from degrade.images.encoder import check_side
from degrade.images.geometry import Rgb, shrink_to, shrunk_size
from degrade.images.tensors import to_image, to_tensor
from degrade.mix import Record, apply_records_exactly, check_record
from degrade.shards.layout import json_line
from degrade.synth.job import Job
from degrade.synth.replay import load_degrader
from degrade.synth.settings import UNSTATED, SynthSettings, digest, pair_seed
from degrade.synth.workers import results_in_order

if TYPE_CHECKING:
    from degrade.degrader import RealisticDegrader

LOG = "log.jsonl"  # in an output folder; a single picture has its own beside it


@dataclass(frozen=True, kw_only=True)
class PictureLine:
    """Hold one line of the log: all that is needed to make a picture again from its source.

    Attributes:
        picture: file that was written, relative to the output folder.
        picture_sha256: its hash.
        source: name of the input image.
        source_sha256: hash of its file.
        variant: number of the degradation of this image, from 0.
        height: rows of the HR image that were degraded, a multiple of ``scale``.
        width: columns, likewise.
        scale: HR side / LR side.
        seed: seed that the degradation was drawn from.
        degrader: name and beginning of the hash of the learned degrader; "" for a recipe.
        made_with: hash of all settings that decide the picture.
        ext: format of the picture.
        jpg_quality: its quality, if it is a jpg.
        max_hr_side: see `SynthSettings`.
        alpha: see `SynthSettings`.
        device: where the degrader ran; another one may give other last bits.
        params: what was drawn, as `degrade.mix.apply_records` takes it.
    """

    picture: str
    picture_sha256: str
    source: str
    source_sha256: str
    variant: int
    height: int
    width: int
    scale: int
    seed: int
    degrader: str
    made_with: str
    ext: str
    jpg_quality: int
    max_hr_side: int
    alpha: str
    device: str
    params: Record

    def __post_init__(self) -> None:
        for name, expected in type(self).__annotations__.items():
            if name != "params" and type(getattr(self, name)) is not expected:
                raise TypeError(f"{name} is {shown(getattr(self, name))}, not of type {expected.__name__}")


class PictureTask(NamedTuple):
    """Name the pictures to make from one image: the number of each variant, and its file."""

    source: Source
    outputs: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class PicturePlan:
    """List what a run will do.

    Attributes:
        folder: the output folder.
        log: the log file.
        tasks: the images to degrade.
        skipped: number of pictures that exist already.
        failures: one sentence for each input that cannot be used.
        notes: sentences about inputs that are passed over on purpose.
    """

    folder: Path
    log: Path
    tasks: list[PictureTask]
    skipped: int
    failures: list[str]
    notes: list[str]


class MadePicture(NamedTuple):
    """Hold one picture, or the reason why there is none."""

    output: str
    data: bytes
    line: PictureLine | None
    failure: str = ""


def plan_pictures(source: Path, out: Path, settings: SynthSettings, *, overwrite: bool = False) -> PicturePlan:
    """Choose the name of every picture; only the headers of the images are read.

    Args:
        source: an image, or anything else that `list_sources` accepts.
        out: a folder, which gets the same subfolders as the source; for a single image and one variant, an image file
            also works.
        settings: how images are degraded; ``lr_ext`` is the format of the pictures.
        overwrite: make pictures again that exist.

    Raises:
        ValueError: there is no input, two pictures would have the same name, a picture would replace an input, or
            ``out`` holds pictures that were made with other settings.
    """
    sources = list_sources(source)
    single = source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES
    named = out.suffix.lower() in IMAGE_SUFFIXES and not out.is_dir()
    if named and not (single and settings.variants == 1):
        raise ValueError(f"output {out} is the name of one image, but there may be many; give a folder")
    if named and OUTPUT_SUFFIXES.get(out.suffix.lower()) != settings.lr_ext:
        raise ValueError(f"output {out} is no {settings.lr_ext}; give --ext, or another name")
    folder = out.parent if named else out
    check_output_folder(folder, "--out", source, "--input")
    log = out.with_suffix(".jsonl") if named else out / LOG
    wanted: list[tuple[Source, int, Path]] = []
    failures: list[str] = []
    notes: list[str] = []
    for each in sources:
        try:
            _check_header(each, settings)
            for variant in range(settings.variants):
                suffix = f"_{variant + 1}" if settings.variants > 1 else ""
                wanted.append((each, variant, out if named else output_in(out, each, suffix, settings.lr_ext)))
        except (ImageError, OSError) as err:
            (notes if isinstance(err, PassedOverError) else failures).append(f"{each.name}: {failure_reason(err)}")
    check_collisions((each, output) for each, _, output in wanted)
    logged = {} if overwrite else {line.picture: line for line in read_log(log)} if log.exists() else {}
    if not overwrite:
        _refuse_other_settings(log, logged.values(), settings)
    missing: dict[Source, list[tuple[int, str]]] = {}
    for each, variant, output in wanted:
        if overwrite or not output.exists():
            missing.setdefault(each, []).append((variant, output.relative_to(folder).as_posix()))
    tasks = [PictureTask(each, tuple(outputs)) for each, outputs in missing.items()]
    made = sum(len(task.outputs) for task in tasks)
    unknown = [out for _, _, out in wanted if out.exists() and out.relative_to(folder).as_posix() not in logged]
    if unknown and not overwrite:
        notes.append(f"{len(unknown)} pictures exist that the log does not know, such as {unknown[0]}; they are kept")
    return PicturePlan(folder, log, tasks, len(wanted) - made, failures, notes)


def _check_header(source: Source, settings: SynthSettings) -> None:
    info = probe_image(source.head())
    height, width = shrunk_size((info.height, info.width), settings.max_hr_side)
    if info.height * info.width > settings.max_pixels:
        raise ImageError(
            f"{info.width}x{info.height} is more than {settings.max_pixels} pixels; raise --max-pixels, or reduce it"
        )
    if min(height, width) < settings.scale:
        raise ImageError(f"{width}x{height} is smaller than one LR pixel at scale {settings.scale}")
    way_out = "choose another --ext, or reduce the image"
    check_side(width // settings.scale, height // settings.scale, settings.lr_ext, way_out)


def _refuse_other_settings(log: Path, lines: Iterable[PictureLine], settings: SynthSettings) -> None:
    now = made_with(settings)
    if other := next((line for line in lines if line.made_with != now), None):
        raise ValueError(
            f"{log} says that {shown(other.picture)} was made with other settings or another seed; give another --out, "
            "or --overwrite to make all pictures again"
        )


def made_with(settings: SynthSettings) -> str:
    """Return a hash of the settings that decide a picture, given its source and variant."""
    adjustment = list(asdict(settings.adjustment).values())
    quality = settings.jpg_quality if settings.lr_ext == "jpg" else 0
    rest = (settings.seed, settings.lr_ext, quality, settings.max_hr_side, settings.alpha)
    chosen = {name: value for name, value in settings.stated().items() if name in UNSTATED}
    return digest(settings.degradation_hash(), adjustment, *rest, *sorted(chosen.items()))


class PictureMaker:
    """Make the pictures of one image after another.

    Args:
        job: settings and model.
    """

    def __init__(self, job: Job) -> None:
        self.settings, self._made_with = job.settings, made_with(job.settings)
        self._mix = job.mix().to(job.settings.device)

    def make(self, task: PictureTask) -> list[MadePicture]:
        """Make all pictures of an image. An image that turns out unusable gives failures, never an exception."""
        settings = self.settings
        try:
            data = task.source.read()
            hr = read_hr(
                data,
                max_pixels=settings.max_pixels,
                alpha=settings.alpha,
                max_hr_side=settings.max_hr_side,
                scale=settings.scale,
            )
            return [self._one(task.source.name, data, hr, variant, output) for variant, output in task.outputs]
        except (ImageError, OSError) as err:
            return [MadePicture(output, b"", None, failure_reason(err)) for _, output in task.outputs]

    def _one(self, name: str, data: bytes, hr: Rgb, variant: int, output: str) -> MadePicture:
        settings = self.settings
        seed = pair_seed(settings.degradation_hash(), settings.seed, name, (0, 0, *hr.shape[:2]), variant)
        record = self._mix.draw([seed])[0]
        learned = record["kind"] == "learned"
        line = PictureLine(
            picture=output,
            picture_sha256="",
            source=name,
            source_sha256=hashlib.sha256(data).hexdigest(),
            variant=variant,
            height=hr.shape[0],
            width=hr.shape[1],
            scale=settings.scale,
            seed=seed,
            degrader=f"{settings.degrader}@{settings.degrader_sha256[:12]}" if learned else "",
            made_with=self._made_with,
            ext=settings.lr_ext,
            jpg_quality=settings.jpg_quality,
            max_hr_side=settings.max_hr_side,
            alpha=settings.alpha,
            device=settings.device,
            params=record,
        )
        return finished_picture(line, hr, self._mix.degrader)


def read_hr(data: bytes, *, max_pixels: int, alpha: Any, max_hr_side: int, scale: int) -> Rgb:
    """Decode an HR image, and cut the last rows and columns that the scale does not divide."""
    image = shrink_to(read_image(data, alpha=alpha, max_pixels=max_pixels), max_hr_side)
    height, width = (side // scale * scale for side in image.shape[:2])
    return image[:height, :width]


def finished_picture(line: PictureLine, hr: Rgb, degrader: "RealisticDegrader | None") -> MadePicture:
    """Degrade and encode one picture, as its line says."""
    lr = apply_records_exactly(to_tensor(hr).to(line.device), [line.params], degrader)[0]
    data = encode_image(to_image(lr), line.ext, line.jpg_quality if line.ext == "jpg" else None)
    hashed = {**asdict(line), "picture_sha256": hashlib.sha256(data).hexdigest()}
    return MadePicture(line.picture, data, PictureLine(**hashed))


def apply_job(
    plan: PicturePlan, job: Job, *, workers: int = 0, on_progress: Callable[[int], object] = lambda count: None
) -> dict[str, Any]:
    """Make the pictures of a plan, and append a line to the log for each.

    Args:
        plan: from `plan_pictures`, with the settings of ``job``.
        job: settings and model.
        workers: number of worker processes; 0 works in this process.
        on_progress: called with the number of images that are done.

    Returns:
        pictures, skipped, seconds, hr_megapixels, hr_megapixels_per_second, log, failures.

    Raises:
        ShardError: the disk is full or not writable, or a process died.
    """
    with results_in_order(partial(_picture_maker, job), plan.tasks, workers) as results:
        made = ((task.source.name, task_pictures) for task, task_pictures in results)
        return _write_all(made, plan, on_progress)


def _picture_maker(job: Job) -> Callable[[PictureTask], list[MadePicture]]:
    return PictureMaker(job).make


def _write_all(
    results: Iterator[tuple[str, list[MadePicture]]], plan: PicturePlan, on_progress: Callable[[int], object]
) -> dict[str, Any]:
    began, pictures, pixels, failures = time.monotonic(), 0, 0, list(plan.failures)
    for done, (name, made) in enumerate(results, start=1):
        for picture in made:
            if picture.line is None:
                failures.append(f"{name}: {picture.failure}")
                continue
            output = plan.folder / picture.output
            with one_sentence(str(output)):
                output.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(output, picture.data)
                with plan.log.open("ab") as log:  # after the picture: a line stands for a file that is whole
                    log.write(json_line(asdict(picture.line)) + b"\n")
            pictures, pixels = pictures + 1, pixels + picture.line.height * picture.line.width
        on_progress(done)
    seconds = time.monotonic() - began
    return {
        "pictures": pictures,
        "skipped": plan.skipped,
        "seconds": seconds,
        "hr_megapixels": pixels / 1e6,
        "hr_megapixels_per_second": pixels / 1e6 / seconds if seconds else 0.0,
        "log": str(plan.log),
        "failures": list(dict.fromkeys(failures)),
    }


def read_log(log: Path) -> list[PictureLine]:
    """Read a log. Of several lines for one picture, the last counts; a last line without its end is left out.

    Raises:
        ValueError: a line is not one of these.
    """
    lines: dict[str, PictureLine] = {}
    whole = log.read_bytes().splitlines(keepends=True)
    for number, text in enumerate(whole, start=1):
        if not text.endswith(b"\n"):
            continue  # a run was killed while it wrote
        try:
            content = json.loads(text)
            differing = set(content) ^ set(PictureLine.__annotations__)
            if differing:
                raise ValueError(f"{', '.join(sorted(map(shown, differing)))} missing or unknown")
            check_record(content["params"], f"{log}, line {number}")
            line = PictureLine(**content)
        except (ValueError, TypeError, AttributeError, RecursionError) as err:
            raise ValueError(f"{log}, line {number} is not a line of `degrade apply` ({err})") from err
        lines[line.picture] = line
    return list(lines.values())


def replay_log(
    log: Path,
    source: Path,
    out: Path,
    *,
    degrader: str | None = None,
    workers: int = 0,
    on_progress: Callable[[int], object] = lambda count: None,
) -> dict[str, Any]:
    """Make all pictures of a log again, and check that they have the same bytes.

    Args:
        log: the log of `apply_job`.
        source: the images that were degraded.
        out: a folder, which gets the pictures under their names and a log of its own; pictures that exist are skipped.
        degrader: name or folder of the weights, if the name in the log does not find them.
        workers: number of worker processes; 0 works in this process.
        on_progress: called with the number of pictures that are done.

    Returns:
        The same as `apply_job`; a picture with other bytes counts as a failure, and is not written.

    Raises:
        ValueError: the log is damaged, or the degrader is not that of the log.
        ShardError: the disk is full or not writable, or a process died.
    """
    check_output_folder(out, "--out", source, "--input")
    lines = read_log(log)
    if not lines:
        raise ValueError(f"{log} holds no picture")
    known = {each.name: each for each in list_sources(source)}
    failures = [f"{line.source}: is not in {source}" for line in lines if line.source not in known]
    for line in lines:
        output_in(out, Source(line.picture, 0, ""), "", line.ext)  # refuses names that lead out of the folder
    wanted = [(known[line.source], line) for line in lines if line.source in known]
    missing = [(each, line) for each, line in wanted if not (out / line.picture).exists()]
    plan = PicturePlan(out, out / LOG, [], len(wanted) - len(missing), failures, [])
    with results_in_order(partial(_replayer, degrader), missing, workers) as results:
        return _write_all(((each.name, [picture]) for (each, _), picture in results), plan, on_progress)


def _replayer(given: str | None) -> Callable[[tuple[Source, PictureLine]], MadePicture]:
    models: dict[tuple[Any, ...], RealisticDegrader] = {}

    def replay(task: tuple[Source, PictureLine]) -> MadePicture:
        source, line = task
        wanted = line.degrader, line.params.get("backend"), line.params.get("bf16")
        if line.degrader and wanted not in models:
            models[wanted] = load_degrader(line.degrader, given, line.params).to(torch.device(line.device))
        try:
            data = source.read()
            if hashlib.sha256(data).hexdigest() != line.source_sha256:
                raise ImageError("is not the file that was degraded")
            # Its hash says that it is a file that was read before, so no limit on its size is needed.
            hr = read_hr(data, max_pixels=sys.maxsize, alpha=line.alpha, max_hr_side=line.max_hr_side, scale=line.scale)
            made = finished_picture(line, hr, models.get(wanted))
        except (ImageError, OSError) as err:
            return MadePicture(line.picture, b"", None, failure_reason(err))
        if made.line is not None and made.line.picture_sha256 != line.picture_sha256:
            return MadePicture(line.picture, b"", None, f"{line.picture} comes out with other bytes than the log says")
        return made

    return replay
