"""Which ways to store a picture does degrade read right, and which are silently wrong?

The same picture is written in every combination of container, depth, channels, photometric interpretation, kind of
alpha, planes, compression, order of bytes and so on, by writers of this folder. Each file is read by degrade and
compared with what it must look like on white. Pillow, OpenCV and tifffile read each file too: a file that none of them
confirms may be a mistake of the writer, and is counted.

    python examples/check_image_reading.py            # all, five minutes
    python examples/check_image_reading.py --every 50 # a fiftieth of the TIFF files, a few seconds

It ends with status 1 if anything is silently wrong, or refused as damaged though it is whole.
"""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from degrade.errors import ImageError
from degrade.images.codec import read_image
from image_layouts.others import bmp_layouts, foreign_layouts, jpeg_layouts, png_layouts, webp_layouts
from image_layouts.picture import Layout
from image_layouts.tiff import tiff_layouts

RIGHT, WRONG = "right", "silently wrong"
NAMED, LOST, DAMAGED = "refused by name", "refused, but clear", "called damaged"
OUTCOMES = (RIGHT, NAMED, LOST, DAMAGED, WRONG)
WRITERS = {"PNG": png_layouts, "BMP": bmp_layouts, "WebP": webp_layouts, "JPEG": jpeg_layouts, "other": foreign_layouts}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read all layouts and print the matrix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every n-th combination of TIFF")
    parser.add_argument("--no-others", action="store_true", help="do not ask Pillow, OpenCV and tifffile")
    parser.add_argument("--show", type=int, default=10, metavar="N", help="wrong layouts to name per container")
    given = parser.parse_args(arguments)
    counts: dict[str, Counter[str]] = {}
    shown: Counter[str] = Counter()
    for layout in all_layouts(given.every):
        row = counts.setdefault(layout.container, Counter())
        outcome, reason = judge(layout)
        row[outcome] += 1
        if outcome in (WRONG, DAMAGED) and shown[layout.container] < given.show:
            shown[layout.container] += 1
            print(f"{outcome}: {layout.container}, {layout.name}: {reason}", file=sys.stderr)
        if not given.no_others and layout.truth is not None:
            readers = confirming(layout)
            row.update(readers)
            row["unconfirmed"] += not readers
    others = () if given.no_others else ("Pillow", "OpenCV", "tifffile", "unconfirmed")
    print("| container | combinations | " + " | ".join((*OUTCOMES, *others)) + " |")
    print("|---" * (2 + len(OUTCOMES) + len(others)) + "|")
    counts["all"] = sum(counts.values(), Counter())
    for container, row in counts.items():
        total = sum(row[column] for column in OUTCOMES)
        print(f"| {container} | {total} | " + " | ".join(str(row[column]) for column in (*OUTCOMES, *others)) + " |")
    if counts["all"][WRONG] or counts["all"][DAMAGED]:
        sys.exit(1)


def all_layouts(every: int = 1) -> Iterator[Layout]:
    """Yield the layouts of all containers; of TIFF, every n-th combination."""
    for write in WRITERS.values():
        yield from write()
    yield from tiff_layouts(every)


def judge(layout: Layout) -> tuple[str, str]:
    """Read a layout, and say how that went: the outcome and, unless it is right, more in words."""
    try:
        found = read_image(layout.content)
    except ImageError as error:
        damaged = "corrupt" in str(error) or "begins with" in str(error)
        return DAMAGED if damaged else NAMED if layout.truth is None else LOST, str(error)
    if layout.truth is None:
        return WRONG, "it is read, though nobody can know what it shows"
    away = difference(found, layout.truth)
    return (RIGHT if away <= layout.tolerance else WRONG), f"{away:.1f} levels away"


def confirming(layout: Layout) -> list[str]:
    """Name the independent readers that agree with the truth."""
    assert layout.truth is not None
    readers = {"Pillow": _with_pillow, "OpenCV": _with_opencv}
    agreeing = []
    for name, read in readers.items():
        try:
            found = read(layout.content)
        except Exception:  # whatever stops them, they do not confirm
            continue
        if found is not None and difference(found, layout.truth) <= max(1.1, layout.tolerance):
            agreeing.append(name)
    if layout.stored is not None and _same_numbers(layout):
        agreeing.append("tifffile")
    return agreeing


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Compute the mean difference in levels; infinite between pictures of two sizes."""
    return float(np.abs(one.astype(int) - other).mean()) if one.shape == other.shape else float("inf")


def _with_pillow(content: bytes) -> NDArray[np.uint8]:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode.startswith("I;16"):
        image = Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))


def _with_opencv(content: bytes) -> NDArray[np.uint8] | None:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else image[..., ::-1]


def _same_numbers(layout: Layout) -> bool:
    """Tell whether tifffile reads the numbers that were to be stored; without imagecodecs it cannot read LZW."""
    try:
        with tifffile.TiffFile(io.BytesIO(layout.content)) as file:
            page = file.pages[0]
            found = page.asarray()
            if page.planarconfig == 2 and found.ndim == 3:
                found = np.moveaxis(found, 0, -1)
    except Exception:  # as above
        return False
    return layout.stored is not None and np.array_equal(found.reshape(layout.stored.shape), layout.stored)


if __name__ == "__main__":
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    main()
