"""Draw learned looks at every scale, at several strengths, and along the directions blur, noise and jpeg.

    python examples/export_photos.py photos
    python examples/draw_looks.py --image photos/motorcycle_left.png --out docs/pictures

The three sheets are the pictures of docs/python.md. Everything in a sheet has the same noise.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from degrade import RealisticDegrader
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb, centre_crop
from degrade.images.tensors import to_image, to_tensor

LOOKS = {"a soft camera": 0, "a noisy photograph": 640, "a compressed photograph": 460}  # rows of the bank of tiny-x4
STRENGTHS = (0.0, 0.5, 1.0, 1.5)
MOVES = (-2.0, -1.0, 0.0, 1.0, 2.0)
AROUND = 48  # LR pixels around the part that is shown, so that nothing depends on its border
SIDE = 72  # LR pixels that are shown
QUALITY = 60


class Drawer:
    """Degrade the middle of a photograph with looks of the bank, always with the same noise.

    Args:
        degrader: the learned degrader.
        image: the photograph.
    """

    def __init__(self, degrader: RealisticDegrader, image: Rgb) -> None:
        self.degrader, self.image = degrader, image

    def lr(self, code: Tensor, *, side: int = SIDE, scale: int = 4, strength: float = 1.0) -> Rgb:
        """Degrade the middle of the photograph; return ``side`` LR pixels of it."""
        whole = min(side + 2 * AROUND, min(self.image.shape[:2]) // scale) // 2 * 2 * scale
        hr = to_tensor(centre_crop(self.image, whole))
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            lr = self.degrader(hr, code[None], scale=scale, strength=strength, generator=generator)
        return centre_crop(to_image(lr[0]), side)

    def scales(self) -> Rgb:
        """Draw each look at scales 1 to 4: the same field of view, in fewer and fewer pixels."""
        field = 96
        rows = [
            [centre_crop(self.image, field)]
            + [
                self.lr(self.degrader.bank[index], side=field // scale, scale=scale).repeat(scale, 0).repeat(scale, 1)
                for scale in (1, 2, 3, 4)
            ]
            for index in LOOKS.values()
        ]
        titles = ["HR", *(f"scale {scale}" for scale in (1, 2, 3, 4))]
        return contact_sheet(rows, column_titles=titles, row_titles=list(LOOKS), cell_px=2 * field)

    def strengths(self) -> Rgb:
        """Draw each look at several strengths; 0 is the clean downsampling."""
        rows = [[self.lr(self.degrader.bank[index], strength=by) for by in STRENGTHS] for index in LOOKS.values()]
        titles = [f"strength {by:g}" for by in STRENGTHS]
        return contact_sheet(rows, column_titles=titles, row_titles=list(LOOKS), cell_px=3 * SIDE)

    def directions(self) -> Rgb:
        """Draw one look moved along each direction."""
        code = self.degrader.bank[LOOKS["a compressed photograph"]]
        names = ("blur", "noise", "jpeg")
        rows = [[self.lr(self.degrader.move(code[None], **{name: by})[0]) for by in MOVES] for name in names]
        return contact_sheet(rows, column_titles=[f"{by:+g}" for by in MOVES], row_titles=names, cell_px=3 * SIDE)


def main() -> None:
    """Draw the three sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="The photograph; its middle is shown.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the pictures.")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    degrader = RealisticDegrader.from_pretrained("tiny-x4").eval()
    drawer = Drawer(degrader, read_image(arguments.image))
    for name in ("scales", "strengths", "directions"):
        path = arguments.out / f"{name}.webp"
        path.write_bytes(encode_image(getattr(drawer, name)(), "webp", QUALITY))
        print(path)


if __name__ == "__main__":
    main()
