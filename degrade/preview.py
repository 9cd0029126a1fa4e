"""Contact sheets of pairs: of a data set that exists, or of what a job would make."""

import json
from pathlib import Path

from degrade.contact_sheet import contact_sheet
from degrade.crops import reduce_by
from degrade.images import Rgb, encode_image, read_image
from degrade.job import Job
from degrade.plan import Unit, plan_sources, plan_units
from degrade.shards import write_atomic
from degrade.sources import list_sources
from degrade.tars import HR_ROLES, LR_ROLES, split_member, tar_members
from degrade.unit_maker import UnitMaker

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
    listed = list_sources(hr_dir)
    planned, left_out = plan_sources(listed, job.settings)
    if not planned:
        raise ValueError(f"none of the {len(listed)} images in {hr_dir} is usable; {left_out[0]['reason']}")
    by_name = {source.name: source for source in listed}
    maker = UnitMaker(job)
    shown: list[list[tuple[Rgb, Rgb, str]]] = []
    trouble: list[object] = []
    first_units: dict[int, Unit] = {}
    for unit in plan_units(planned, job.settings):
        first_units.setdefault(unit.source, unit)
        if len(first_units) > 2 * rows:  # some may be flat or unreadable
            break
    for index, unit in first_units.items():
        source = planned[index]
        made = maker.make(unit, source, by_name[source.name])
        trouble += [f"{source.name}: {failure['reason']}" for failure in made.failures]
        crops = [(pair.meta.crop_top, pair.meta.crop_left) for pair in made.pairs]
        if crops:
            first = [pair for pair, crop in zip(made.pairs, crops, strict=True) if crop == crops[0]]
            shown.append([(read_image(pair.hr), read_image(pair.lr), source.name) for pair in first])
        if len(shown) == rows:
            break
    if not shown:
        raise ValueError(f"none of the first {len(first_units)} images in {hr_dir} gives a pair; {trouble[0]}")
    _draw(shown, out)


def shard_preview(folder: Path, out: Path, *, rows: int = 10) -> None:
    """Draw crops of different images from the shards in a folder, each with all its variants; nothing when empty.

    Args:
        folder: of the shards.
        out: the png to write.
        rows: crops to show.
    """
    crops: dict[str, list[tuple[Rgb, Rgb, str]]] = {}
    spots: dict[str, tuple[int, int]] = {}
    seen = 0
    for tar in sorted(folder.glob("pairs-*.tar")):
        members: dict[str, dict[str, bytes]] = {}
        with tar.open("rb") as file:
            for member in tar_members(tar):
                key, role, extension = split_member(member.name)
                file.seek(member.offset)
                if extension == "json":
                    members.setdefault(key, {})["json"] = file.read(member.size)
                elif role in LR_ROLES | HR_ROLES:
                    members.setdefault(key, {})["lr" if role in LR_ROLES else "hr"] = file.read(member.size)
                if len(members.get(key, ())) == 3:
                    parts = members.pop(key)
                    meta = json.loads(parts["json"])
                    spot = (meta["crop_top"], meta["crop_left"])
                    if (meta["source"] in crops or len(crops) < rows) and spots.setdefault(
                        meta["source"], spot
                    ) == spot:
                        shown = crops.setdefault(meta["source"], [])
                        shown.append((read_image(parts["hr"]), read_image(parts["lr"]), meta["source"]))
                    seen += 1
                if seen >= SCANNED_PAIRS:
                    break
        if len(crops) >= rows or seen >= SCANNED_PAIRS:
            break
    if crops:
        _draw(list(crops.values()), out)


def _draw(crops: list[list[tuple[Rgb, Rgb, str]]], out: Path) -> None:
    """HR, clean downsampling, then the variants of each crop."""
    rows, titles = [], []
    for variants in crops:
        hr, lr, name = variants[0]
        scale = hr.shape[0] // lr.shape[0]
        images = [hr, reduce_by(hr, scale), *(lr for _, lr, _ in variants[:MAX_COLUMNS])]
        rows.append([_middle(image, VIEW_PX if at == 0 else VIEW_PX // scale) for at, image in enumerate(images)])
        titles.append(name)
    columns = max(map(len, rows))
    out.parent.mkdir(parents=True, exist_ok=True)
    heads = ["HR", "clean", *(f"LR {i + 1}" for i in range(columns - 2))]
    write_atomic(out, encode_image(contact_sheet(rows, column_titles=heads, row_titles=titles, cell_px=VIEW_PX), "png"))


def _middle(image: Rgb, side: int) -> Rgb:
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]
