"""Show what the student does: degrade photographs with the degrader, upscale them, and write a picture.

    python examples/export_photos.py photos
    python examples/show_upscaling.py photos upscaled.jpg

Left to right: the LR image, its bicubic enlargement, the SR of tiny-x4, and the HR. The degrader's LR only stands in
for real LR, but its HR is known.
"""

import sys
from pathlib import Path

import torch

from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb, centre_crop
from degrade.images.tensors import to_image, to_tensor
from upsample import ResidualShiftUpsampler
from upsample.bicubic import enlarge

SIDE = 256
TITLES = ["LR", "bicubic", "tiny-x4", "HR"]


def rows(folder: Path, count: int = 4) -> list[list[Rgb]]:
    """Make LR, bicubic, SR and HR from the centre of the first photographs that are large enough."""
    degrader = RealisticDegrader.from_pretrained("tiny-x4").eval()
    student = ResidualShiftUpsampler.from_pretrained("tiny-x4").eval()
    shown: list[list[Rgb]] = []
    for number, source in enumerate(list_sources(folder)):
        image = read_image(source.read())
        if min(image.shape[:2]) < SIDE or len(shown) == count:
            continue
        hr = centre_crop(image, SIDE)
        with torch.inference_mode():
            lr = degrader(to_tensor(hr), generator=torch.Generator().manual_seed(number))
            large = (lr, enlarge(lr, student.config.scale), student(lr))
        shown.append([*(to_image(each[0]) for each in large), hr])
    return shown


if __name__ == "__main__":
    sheet = contact_sheet(rows(Path(sys.argv[1])), column_titles=TITLES)
    Path(sys.argv[2]).write_bytes(encode_image(sheet, "jpg", 88))
    print(sys.argv[2])
