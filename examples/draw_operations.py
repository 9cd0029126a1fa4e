"""Draw what each operation of recipes does to a photograph, at three strengths: the pictures of docs/recipes.md.

    python examples/export_photos.py photos
    python examples/draw_operations.py --image photos/motorcycle_left.png --out docs/pictures

One sheet for each family. The left column is the photograph; the others are the middle of it, degraded.
"""

import argparse
from pathlib import Path
from typing import Any

from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb, centre_crop
from degrade.images.tensors import to_image, to_tensor
from degrade.recipes.ranges import Dice
from degrade.recipes.recipe import Recipe
from degrade.recipes.steps import Sizes

SIDE = 80  # of the part that is shown
ZOOM = 2
QUALITY = 60

Row = tuple[dict[str, Any], str, list[Any]]  # a step, the option that gets stronger, and its values
FAMILIES: dict[str, list[Row]] = {
    "video": [
        ({"op": "video", "codecs": "mpeg2", "frames": "p", "motion_px": 1.5}, "quantiser_mpeg2", [4, 12, 28]),
        ({"op": "video", "codecs": "h264", "frames": "b", "motion_px": 1.5}, "crf_h264", [26, 34, 42]),
        ({"op": "video", "codecs": "hevc", "frames": "b", "motion_px": 1.5}, "crf_hevc", [26, 34, 42]),
        ({"op": "video", "codecs": "vp9", "frames": "p", "motion_px": 1.5}, "crf_vp9", [40, 52, 63]),
    ],
    "film": [
        ({"op": "grain", "size_px": 0.8, "grey_probability": 1}, "sigma_255", [6, 14, 28]),
        ({"op": "grain", "size_px": 0.8, "grey_probability": 0}, "sigma_255", [6, 14, 28]),
        ({"op": "halo", "sigma_px": 1.5, "limit_255": 60}, "amount", [1, 2.5, 6]),
    ],
    "levels": [
        ({"op": "banding"}, "levels", [24, 12, 6]),
        ({"op": "dither", "methods": "bayer", "matrices": "4x4"}, "levels", [6, 4, 2]),
    ],
    "dither": [
        ({"op": "dither", "methods": "floyd_steinberg"}, "levels", [6, 4, 2]),
        ({"op": "dither", "methods": "palette"}, "colours", [64, 24, 8]),
    ],
    "print": [
        ({"op": "halftone", "angle_deg": 0}, "period_px", [3, 4.5, 7]),
        ({"op": "screentone", "black": 0.15, "white": 0.85}, "period_px", [3, 5, 8]),
    ],
    "lens": [
        ({"op": "lens_blur", "apertures": "round"}, "radius_px", [1.5, 4, 8]),
        ({"op": "lens_blur", "apertures": "6", "angle_deg": 10}, "radius_px", [1.5, 4, 8]),
        ({"op": "aberration", "blue_px": -1, "off_centre": 1}, "red_px", [1, 2.5, 5]),
    ],
    "analogue": [
        ({"op": "interlace"}, "shift_px", [1, 3, 6]),
        ({"op": "scan_lines", "period_px": 3}, "strength", [0.2, 0.5, 0.9]),
        ({"op": "chroma", "matrix": "bt601", "siting": "left", "enlarge": "box"}, "modes", ["4:2:2", "4:2:0", "4:1:1"]),
    ],
}  # fmt: skip


def degraded(image: Rgb, step: dict[str, Any]) -> Rgb:
    """Apply one step of a recipe file at the image's own size."""
    size = image.shape[:2]
    batch = to_tensor(image)
    for drawn in Recipe.from_dict({"steps": [step]}).steps[0].draw(Dice(0), 4):
        batch = drawn.apply(batch, Sizes((size[0], size[1]), (size[0], size[1])))
    return to_image(batch[0])


def sheet(image: Rgb, rows: list[Row]) -> Rgb:
    """Draw one family: a row for each step, a column for each strength."""
    shown, titles = [], []
    for step, option, values in rows:
        variants = [degraded(image, step | {option: value}) for value in values]
        shown.append([centre_crop(each, SIDE) for each in (image, *variants)])
        settings = ", ".join(f"{key} {value}" for key, value in step.items() if key not in ("op", option))
        titles.append(f"{step['op']}, {option} {', '.join(map(str, values))}" + (f" ({settings})" if settings else ""))
    columns = ["photograph", "weak", "middle", "strong"]
    return contact_sheet(shown, column_titles=columns, row_titles=titles, cell_px=SIDE * ZOOM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw what each operation of recipes does to a photograph.")
    parser.add_argument("--image", type=Path, required=True, help="The photograph; its middle is shown.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the pictures.")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    photograph = read_image(arguments.image.read_bytes())
    for family, family_rows in FAMILIES.items():
        path = arguments.out / f"{family}.webp"
        path.write_bytes(encode_image(sheet(photograph, family_rows), "webp", QUALITY))
        print(path)
