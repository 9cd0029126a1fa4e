"""Show what the dial of the upsampler does: degrade photographs with the degrader, upscale them, and write a picture.

    python examples/export_photos.py photos
    python examples/show_upscaling.py photos upscaled.jpg

Left to right: the LR image, its bicubic enlargement, the SR at detail 0, 0.5 and 1, and the HR. The degrader's LR only
stands in for real LR, but its HR is known; `--strength` turns the degradation down. With `--lr`, the folder holds real
LR images, which have no HR.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb, centre_crop
from degrade.images.tensors import to_image, to_tensor
from upsample import ResidualShiftUpsampler
from upsample.bicubic import enlarge

SIDE = 192  # HR pixels of each picture
DETAILS = (0.0, 0.5, 1.0)


def row(student: ResidualShiftUpsampler, lr: Tensor, hr: Rgb | None) -> list[Rgb]:
    """Return LR, bicubic, the SR at each detail, and HR where there is one."""
    with torch.inference_mode():
        details = DETAILS if student.detail_branch is not None else (0.0,)
        large = [enlarge(lr, student.config.scale), *(student(lr, detail=detail) for detail in details)]
    return [to_image(each[0]) for each in (lr, *large)] + ([] if hr is None else [hr])


def rows(folder: Path, model: str, count: int, *, is_lr: bool = False, strength: float = 1.0) -> list[list[Rgb]]:
    """Make a row for the centre of each of the first photographs that are large enough."""
    degrader = RealisticDegrader.from_pretrained("tiny-x4").eval()
    student = ResidualShiftUpsampler.from_pretrained(model).eval()
    shown: list[list[Rgb]] = []
    side = SIDE // student.config.scale if is_lr else SIDE
    for number, source in enumerate(list_sources(folder)):
        image = read_image(source.read())
        if min(image.shape[:2]) < side or len(shown) == count:
            continue
        crop = centre_crop(image, side)
        if is_lr:
            shown.append(row(student, to_tensor(crop), None))
            continue
        with torch.inference_mode():
            lr = degrader(to_tensor(crop), strength=strength, generator=torch.Generator().manual_seed(number))
        shown.append(row(student, lr, crop))
    return shown


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="tiny-x4", metavar="NAME|DIR")
    parser.add_argument("--count", type=int, default=6, help="photographs to show")
    parser.add_argument("--strength", type=float, default=1.0, help="of the degradation, 0..2")
    parser.add_argument("--lr", action="store_true", help="the photographs are LR: upscale them as they are")
    options = parser.parse_args()
    made = rows(options.photos, options.model, options.count, is_lr=options.lr, strength=options.strength)
    titles = ["LR", "bicubic", *(f"detail {d:g}" for d in DETAILS[: len(made[0]) - 2]), "HR"][: len(made[0])]
    if len(made[0]) < 2 + len(DETAILS):
        titles = ["LR", "bicubic", "SR", "HR"][: len(made[0])]
    options.picture.write_bytes(encode_image(contact_sheet(made, column_titles=titles), "jpg", 88))
    print(options.picture)
