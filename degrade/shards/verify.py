"""Check a data set of pairs, ours or anyone's: hashes, decoding, sizes, alignment, duplicates, missing partners."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from degrade.errors import ImageError, ShardError, shown
from degrade.files.store import DiskStore
from degrade.files.tars import shard_paths
from degrade.images.alignment import subpixel_shift
from degrade.images.codec import read_image
from degrade.images.geometry import Rgb
from degrade.shards.layout import marker_index, read_marker, tar_name
from degrade.shards.record import read_record
from degrade.shards.tar_pairs import TarPair, find_pairs

MAX_SHIFT_LR_PX = 0.1  # a set of pairs is aligned when the median shift is below this
_SURE = 0.5  # response of subpixel_shift above which the shift of one pair is known to about 0.1 px
_MIN_SIDE = 16  # px; smaller LR images cannot be aligned
_SHOWN = 20  # problems that the text lists
_END = bytes(512)  # a tar ends with blocks of zeros


@dataclass
class VerifyReport:
    """Hold the findings of `verify_shards`.

    Attributes:
        shards: number of tars.
        pairs: number of complete pairs in them.
        checked: pairs that were decoded and measured.
        scale: HR side / LR side of most pairs; 0 if unknown.
        shift_pairs: pairs whose shift could be measured.
        shift_median_px: median length of the shift between LR and the area-reduced HR, in LR pixels.
        shift_max_px: largest length of the shift, in LR pixels.
        shift_x_px: median shift to the right, in LR pixels; far from 0 if LR was resized by another convention.
        shift_y_px: median shift downwards, in LR pixels.
        duplicates: pairs whose images are both the same as those of another pair.
        problems: one sentence for each problem.
    """

    shards: int = 0
    pairs: int = 0
    checked: int = 0
    scale: int = 0
    shift_pairs: int = 0
    shift_median_px: float = 0.0
    shift_max_px: float = 0.0
    shift_x_px: float = 0.0
    shift_y_px: float = 0.0
    duplicates: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Tell whether there are no problems."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, fit for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def text(self) -> str:
        """Return the report as a few lines of text."""
        lines = [f"{self.shards} shards, {self.pairs} pairs, {self.checked} of them decoded; scale {self.scale}"]
        if self.shift_pairs:
            lines.append(
                f"shift of LR against HR: {self.shift_median_px:.3f} LR px (median; at most {self.shift_max_px:.3f}), "
                f"measured on {self.shift_pairs} pairs"
            )
        lines += [f"- {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"- and {len(self.problems) - _SHOWN} more problems")
        return "\n".join([*lines, "all is well" if self.ok else f"{len(self.problems)} problems"])


def verify_shards(path: str | Path, *, sample: int | None = None) -> VerifyReport:
    """Check a data set of pairs.

    Done markers are checked if there are any. Nothing else that only `degrade synth` writes is needed.

    Args:
        path: folder of tars, a tar, or a brace pattern.
        sample: decode only about this many pairs, spread evenly; None = all. Hashes and names are always checked.

    Raises:
        ValueError: there are no shards.
    """
    tars = shard_paths(path)
    report = VerifyReport(shards=len(tars), problems=list(_marker_problems(tars)))
    _measure(_chosen_pairs(tars, sample, report), report)
    if not report.pairs:
        report.problems.append(f"{path} holds no pairs: no sample has an image hr, gt or hq and an image lr or lq")
    return report


def _marker_problems(tars: list[str]) -> Iterator[str]:
    """Compare tars with their done markers, in folders that hold markers."""
    for folder in sorted({Path(tar).parent for tar in tars}):
        indexes = [index for name in DiskStore(folder).names() if (index := marker_index(name)) is not None]
        markers = {tar_name(index): read_marker(folder, index) for index in indexes}
        present = {Path(tar).name for tar in tars if Path(tar).parent == folder}
        for tar in sorted(present) if markers else ():
            marker = markers.get(tar)
            if marker is None:
                yield f"{shown(tar)} has no readable done marker; run synth again or remove the tar"
            elif _sha256(folder / tar) != marker.sha256:
                yield f"{shown(tar)} differs from the hash in its marker; remove both and run synth again"
        if present == {path.name for path in folder.glob("*.tar")}:  # the whole folder is checked
            for tar, marker in markers.items():
                if tar not in present and (marker is None or marker.count):
                    yield f"{tar} is missing, but its marker exists; run synth again"


def _chosen_pairs(tars: list[str], sample: int | None, report: VerifyReport) -> Iterator[TarPair]:
    """Yield the pairs to decode, evenly spread over the tars."""
    for number, tar in enumerate(tars):
        pairs = _find_pairs(tar, report.problems)
        report.pairs += len(pairs)
        share = len(pairs)
        if sample is not None:
            share = min(share, (number + 1) * sample // len(tars) - number * sample // len(tars))
        yield from (pairs[i * len(pairs) // share] for i in range(share))


def _find_pairs(tar: str, problems: list[str]) -> list[TarPair]:
    """Group the members of a tar into pairs; a sample without a partner is a problem."""
    try:
        pairs, incomplete = find_pairs(tar)
        with open(tar, "rb") as file:
            file.seek(-2 * len(_END), os.SEEK_END)
            end = file.read()
            if _END not in (end[: len(_END)], end[len(_END) :]):
                problems.append(
                    f"{shown(tar)} ends without the end mark of a tar, so pairs may be missing; make it again"
                )
    except ShardError as error:
        problems.append(str(error))
        return []
    problems += incomplete
    return pairs


def _measure(pairs: Iterator[TarPair], report: VerifyReport) -> None:
    seen: dict[bytes, str] = {}
    scales: Counter[int] = Counter()
    examples: dict[int, str] = {}
    shifts = []
    for pair in pairs:
        try:
            hr, lr, scale = _decode(pair)
        except (ValueError, OSError) as error:
            report.problems.append(f"{pair}: {error}")
            continue
        report.checked += 1
        scales[scale] += 1
        examples.setdefault(scale, str(pair))
        digest = hashlib.sha256(hr.tobytes() + lr.tobytes()).digest()
        if digest in seen:
            report.duplicates += 1
            report.problems.append(f"{pair} repeats both images of {seen[digest]}")
        seen.setdefault(digest, str(pair))
        if min(lr.shape[:2]) >= _MIN_SIDE:
            clean = cv2.resize(hr, (lr.shape[1], lr.shape[0]), interpolation=cv2.INTER_AREA)
            dx, dy, response = subpixel_shift(np.asarray(clean), lr)
            if response > _SURE:
                shifts.append((dx, dy))
    if scales:
        report.scale = scales.most_common(1)[0][0]
        for scale in sorted(set(scales) - {report.scale}):
            report.problems.append(
                f"{scales[scale]} pairs have scale {scale} instead of {report.scale}, the scale of most; "
                f"one is {examples[scale]}"
            )
    if shifts:
        report.shift_pairs = len(shifts)
        lengths = np.hypot(*np.transpose(shifts))
        report.shift_median_px, report.shift_max_px = float(np.median(lengths)), float(lengths.max())
        report.shift_x_px, report.shift_y_px = map(float, np.median(shifts, axis=0))
        if report.shift_median_px > MAX_SHIFT_LR_PX:
            report.problems.append(
                f"LR is shifted against HR by {report.shift_median_px:.2f} LR px (median) "
                f"(x {report.shift_x_px:+.2f}, y {report.shift_y_px:+.2f}); check how LR was resized"
            )


def _decode(pair: TarPair) -> tuple[Rgb, Rgb, int]:
    """Decode both images, and compute the scale; it must match the scale in the JSON record, if that has one.

    Raises:
        ValueError: an image or the record is broken, or the sizes do not fit together.
    """
    *data, record = pair.read()
    images = []
    for role, content in zip(("HR", "LR"), data, strict=True):
        try:
            images.append(read_image(content))
        except ImageError as error:
            raise ImageError(f"{role}: {error}") from error
    hr, lr = images
    scale = hr.shape[0] // lr.shape[0]
    if hr.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
        raise ImageError(f"HR {hr.shape[1]}x{hr.shape[0]} is not a whole multiple of LR {lr.shape[1]}x{lr.shape[0]}")
    recorded = read_record(record).get("scale", scale)
    if recorded != scale:
        raise ImageError(f"the record has scale {shown(recorded)}, but the images have scale {scale}")
    return hr, lr, scale


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
