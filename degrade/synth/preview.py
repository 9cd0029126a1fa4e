"""Contact sheets of pairs: of a data set that exists, or of what a job would make."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from degrade.files.sources import Source, list_sources
from degrade.files.store import Store, write_atomic
from degrade.files.tars import HR_ROLES, LR_ROLES, split_member, tar_members
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb, centre_crop, reduce_by
from degrade.shards.layout import shard_is_done
from degrade.synth.job import Job
from degrade.synth.plan import PlannedSource, examine, order_of, plan_units
from degrade.synth.unit_maker import UnitMaker

MAX_COLUMNS = 5  # of LR images
VIEW_PX = 256  # of HR shown, from the middle of larger crops: an integer zoom of LR pixels stays visible
SCANNED_PAIRS = 2000


def job_preview(hr_dir: Path, job: Job, out: Path, *, rows: int) -> None:
    """Make a few crops of different images in all their variants, and draw them beside the clean downsampling.

    Args:
        hr_dir: where HR images are.
        job: what `synth` would work with.
        out: the png to write.
        rows: crops to show.

    Raises:
        ValueError: no image is usable.
    """
    settings = job.settings
    listed = sorted(list_sources(hr_dir), key=lambda source: order_of(source.name, settings.seed))
    usable: list[tuple[PlannedSource, Source]] = []
    trouble: list[str] = []
    for source in listed:  # in the order of the plan
        planned = examine(source, settings)
        if isinstance(planned, str):
            trouble.append(f"{source.name}: {planned}")
        else:
            usable.append((planned, source))
        if len(usable) > 2 * rows:  # some may be flat or unreadable
            break
    if not usable:
        raise ValueError(f"none of the {len(listed)} images in {hr_dir} is usable; {trouble[0]}")
    maker = UnitMaker(job)
    shown: list[list[tuple[Rgb, Rgb, str]]] = []
    trouble.clear()
    for image in usable:
        made = maker.make(next(plan_units([image], settings)))
        name = image[1].name
        trouble += [f"{name}: {failure['reason']}" for failure in made.failures]
        crops = [(pair.meta.crop_top, pair.meta.crop_left) for pair in made.pairs]
        if crops:
            first = [pair for pair, crop in zip(made.pairs, crops, strict=True) if crop == crops[0]]
            shown.append([(read_image(pair.hr), read_image(pair.lr), name) for pair in first])
        if len(shown) == rows:
            break
    if not shown:
        raise ValueError(f"none of the first {len(usable)} images in {hr_dir} gives a pair; {trouble[0]}")
    write_atomic(out, _drawn(shown))


def shard_preview(store: Store, name: str, *, rows: int = 10) -> None:
    """Draw crops of different images from the shards in a store, each with all its variants; nothing when empty.

    Args:
        store: of the shards.
        name: of the png to write beside them.
        rows: crops to show.
    """
    crops: dict[str, list[tuple[Rgb, Rgb, str]]] = {}
    spots: dict[str, tuple[int, int]] = {}
    tar = ""
    for now, parts in islice(_stored_pairs(store), SCANNED_PAIRS):
        if now != tar and len(crops) == rows:  # the variants of a crop are mostly in the same tar
            break
        tar = now
        meta = json.loads(parts["json"])
        source, spot = meta["source"], (meta["crop_top"], meta["crop_left"])
        if (source in crops or len(crops) < rows) and spots.setdefault(source, spot) == spot:
            crops.setdefault(source, []).append((read_image(parts["hr"]), read_image(parts["lr"]), source))
    if crops:
        store.write(name, _drawn(list(crops.values())))


def _stored_pairs(store: Store) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The name of the tar and the members of each pair, as ``hr``, ``lr`` and ``json``, of shards that are finished."""
    for tar in store.names():
        found = re.fullmatch(r"pairs-(\d{6,})\.tar", tar)
        if not found or not shard_is_done(store, int(found[1])):
            continue
        pairs: dict[str, dict[str, bytes]] = {}
        with store.open(tar) as file:
            for member in tar_members(store.place(tar), file):
                key, role, extension = split_member(member.name)
                kind = "json" if extension == "json" else "lr" if role in LR_ROLES else "hr" if role in HR_ROLES else ""
                file.seek(member.offset)
                pairs.setdefault(key, {})[kind] = file.read(member.size)
                if {"hr", "lr", "json"} <= pairs[key].keys():
                    yield tar, pairs.pop(key)


def _drawn(crops: list[list[tuple[Rgb, Rgb, str]]]) -> bytes:
    """A png of HR, clean downsampling, then the variants of each crop."""
    rows, titles = [], []
    for variants in crops:
        hr, lr, name = variants[0]
        scale = hr.shape[0] // lr.shape[0]
        images = [hr, reduce_by(hr, scale), *(lr for _, lr, _ in variants[:MAX_COLUMNS])]
        rows.append([centre_crop(image, VIEW_PX if at == 0 else VIEW_PX // scale) for at, image in enumerate(images)])
        titles.append(name)
    columns = max(map(len, rows))
    heads = ["HR", "clean", *(f"LR {i + 1}" for i in range(columns - 2))]
    return encode_image(contact_sheet(rows, column_titles=heads, row_titles=titles, cell_px=VIEW_PX), "png")
