"""See what the student does: photographs made small and bad by the degrader, then large again; a picture.

    python examples/export_photos.py photos
    python examples/show_upscaling.py photos upscaled.jpg

Left to right: the LR image, bicubic enlargement, tiny-x4, and the HR it was made from. What a degrader made is only a
stand-in for real LR, but one with a truth beside it.
"""

import sys
from pathlib import Path

import torch

from degrade import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Image
from degrade.images.tensors import to_image, to_tensor
from upsample import ResidualShiftUpsampler
from upsample.bicubic import enlarge

SIDE = 256
TITLES = ["LR", "bicubic", "tiny-x4", "HR"]


def rows(folder: Path, count: int = 4) -> list[list[Image]]:
    """LR, bicubic, SR and HR of the middle of the first photographs that are large enough."""
    degrader = RealisticDegrader.from_pretrained("tiny-x4").eval()
    student = ResidualShiftUpsampler.from_pretrained("tiny-x4").eval()
    shown: list[list[Image]] = []
    for number, source in enumerate(list_sources(folder)):
        image = read_image(source.read())
        top, left = ((length - SIDE) // 2 for length in image.shape[:2])
        if min(top, left) < 0 or len(shown) == count:
            continue
        hr = image[top : top + SIDE, left : left + SIDE]
        with torch.inference_mode():
            lr = degrader(to_tensor(hr), generator=torch.Generator().manual_seed(number))
            large = (lr, enlarge(lr, student.config.scale), student(lr))
        shown.append([*(to_image(each[0]) for each in large), hr])
    return shown


if __name__ == "__main__":
    sheet = contact_sheet(rows(Path(sys.argv[1])), column_titles=TITLES)
    Path(sys.argv[2]).write_bytes(encode_image(sheet, "jpg", 88))
    print(sys.argv[2])
