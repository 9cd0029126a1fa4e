"""Draw contact sheets of pairs: of an existing data set, or of what a job would make."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from degrade.files.names import split_member
from degrade.files.sources import Source, list_sources
from degrade.files.store import Store, write_atomic
from degrade.files.tars import read_member, tar_members
from degrade.images.codec import read_image
from degrade.images.contact_sheet import contact_sheet, encode_sheet
from degrade.images.geometry import Rgb, centre_crop, reduce_by
from degrade.shards.folder_writer import SIDES, disk_folder
from degrade.shards.layout import json_line, marker_index, read_marker, shard_is_done
from degrade.synth.job import Job
from degrade.synth.plan import LeftOut, PlannedSource, examine, order_of, plan_units
from degrade.synth.unit_maker import UnitMaker

ROWS = 10  # crops on the sheet of a data set
MAX_COLUMNS = 5  # LR images in a row
VIEW_PX = 256  # part of HR that is shown, from the middle of larger crops, so that LR pixels are shown enlarged
SCANNED_PAIRS = 2000  # pairs of a data set that are looked at, at most


class _Row(NamedTuple):
    """Hold one HR crop and its LR variants, decoded."""

    source: str
    hr: Rgb
    lr: list[Rgb]


def job_preview(hr_dir: Path, job: Job, out: Path, *, rows: int) -> list[str]:
    """Make crops of a few images in all their variants, and draw them beside the clean downsampling.

    Args:
        hr_dir: where the HR images are.
        job: settings and model, as for `degrade synth`.
        out: the PNG file to write.
        rows: number of crops to show, each from another image.

    Returns:
        One sentence for each image that was met and could not be used, and for each file of another format.

    Raises:
        ValueError: no image is usable.
    """
    usable, left_out = _usable_images(hr_dir, job, count=2 * rows + 1)  # some may be flat or unreadable
    maker = UnitMaker(job)
    sheet: list[_Row] = []
    failures: list[str] = []
    for planned, source in usable:
        pairs = planned.crops * job.settings.variants
        result = maker.make(next(plan_units([(planned, source)], [pairs], job.settings)))
        failures += [f"{source.name}: {failure['reason']}" for failure in result.failures]
        if result.pairs:
            first = result.pairs[0]
            place = (first.meta.crop_top, first.meta.crop_left)
            lr = [pair.lr for pair in result.pairs if (pair.meta.crop_top, pair.meta.crop_left) == place]
            sheet.append(_Row(source.name, read_image(first.hr), [read_image(data) for data in lr]))
        if len(sheet) == rows:
            break
    if not sheet:
        raise ValueError(f"none of the first {len(usable)} images in {hr_dir} gives a pair; {failures[0]}")
    write_atomic(out, _draw(sheet))
    return left_out + failures


def _usable_images(hr_dir: Path, job: Job, *, count: int) -> tuple[list[tuple[PlannedSource, Source]], list[str]]:
    """Return the first images of the plan, with where they are, and why others cannot be used.

    Raises:
        ValueError: there is none.
    """
    listed = sorted(list_sources(hr_dir), key=lambda source: order_of(source.name, job.settings.seed))
    usable: list[tuple[PlannedSource, Source]] = []
    reasons: list[str] = []
    for source in listed:
        if len(usable) == count and not source.flaw:
            continue
        planned = examine(source, job.settings).found
        if isinstance(planned, LeftOut):
            reasons.append(f"{source.name}: {planned.reason}")
        else:
            usable.append((planned, source))
    if not usable:
        raise ValueError(f"none of the {len(listed)} images in {hr_dir} is usable; {reasons[0]}")
    return usable, reasons


def shard_preview(store: Store, name: str) -> None:
    """Draw crops of different images from the pairs in a store, each with all its variants.

    Nothing is drawn if there are no pairs.

    Args:
        store: where the data set is.
        name: name of the PNG file to write beside the pairs.
    """
    rows: dict[str, _Row] = {}
    places: dict[str, tuple[int, int]] = {}
    last_tar = ""
    for tar, files in islice(_stored_pairs(store), SCANNED_PAIRS):
        if tar != last_tar and len(rows) == ROWS:  # the variants of a crop are mostly in the same tar
            break
        last_tar = tar
        meta = json.loads(files["json"])
        source, place = meta["source"], (meta["crop_top"], meta["crop_left"])
        if (source in rows or len(rows) < ROWS) and places.setdefault(source, place) == place:
            if source not in rows:
                rows[source] = _Row(source, read_image(files["hr"]), [])
            rows[source].lr.append(read_image(files["lr"]))
    if rows:
        store.write(name, _draw(list(rows.values())))


def _stored_pairs(store: Store) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield, for each pair of the finished shards, the name of its part and the files: hr, lr and json."""
    for name in store.names():
        shard = marker_index(name)
        marker = None if shard is None or not shard_is_done(store, shard) else read_marker(store, shard)
        if marker is None or not marker.count:
            continue
        place = store.place(marker.file)
        with store.open(marker.file) as file:
            for pair in _in_tar(place, file) if place.endswith(".tar") else _in_folders(store, file):
                yield place, pair


def _in_tar(tar: str, file: BinaryIO) -> Iterator[dict[str, bytes]]:
    pairs: dict[str, dict[str, bytes]] = {}
    for member in tar_members(tar, file):
        key, part, _ = split_member(member.name)
        if not part:
            continue
        pairs.setdefault(key, {})[part] = read_member(file, member)
        if {"hr", "lr", "json"} <= pairs[key].keys():
            yield pairs.pop(key)


def _in_folders(store: Store, file: BinaryIO) -> Iterator[dict[str, bytes]]:
    for line in map(json.loads, file):
        images = {side: (disk_folder(store) / line[f"{side}_file_name"]).read_bytes() for side in SIDES}
        yield {**images, "json": json_line(line["record"])}


def _draw(rows: list[_Row]) -> bytes:
    """Draw HR, clean downsampling, and then the variants of each crop, as a PNG file."""
    cells = []
    for row in rows:
        scale = row.hr.shape[0] // row.lr[0].shape[0]
        small = [reduce_by(row.hr, scale), *row.lr[:MAX_COLUMNS]]
        cells.append([centre_crop(row.hr, VIEW_PX), *(centre_crop(image, VIEW_PX // scale) for image in small)])
    columns = max(map(len, cells))
    titles = ["HR", "clean", *(f"LR {i + 1}" for i in range(columns - 2))]
    names = [row.source for row in rows]
    return encode_sheet(contact_sheet(cells, column_titles=titles, row_titles=names, cell_px=VIEW_PX))
