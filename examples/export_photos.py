"""Export the photographs that scikit-image carries in its wheel to a folder, as HR images to try things on.

python examples/export_photos.py photos
"""

import shutil
import sys
from pathlib import Path

import skimage

PHOTOS = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
    "hubble_deep_field.jpg", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


def export(folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    carried = Path(skimage.__file__).parent / "data"
    return [Path(shutil.copy(carried / name, folder / name)) for name in PHOTOS]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/export_photos.py FOLDER")
    print(f"{len(export(Path(sys.argv[1])))} photographs in {sys.argv[1]}")
