"""Compare upsamplers and bicubic enlargement on pairs of any scale, and show what they make.

    degrade apply -i photos -o lr --scale 2
    python examples/compare_upscalers.py photos lr tiny-x2 tiny-x4
    python examples/compare_upscalers.py faces faces_lr tiny-x4-faces tiny-x4 --niqe FILE --picture faces.jpg

The SR of an upsampler whose scale is larger than the pairs' is area-reduced, as `upsample run -s` does. PSNR-Y and
SSIM-Y leave out as many pixels at the border as the scale. The feature distance (extra `perceptual`) has no calibrated
unit: compare its figures with each other only. HR itself is scored too where no reference is needed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from degrade.files.sources import list_pairs
from degrade.files.store import write_atomic
from degrade.images.codec import encode_image, read_image
from degrade.images.contact_sheet import contact_sheet
from degrade.images.geometry import Rgb
from degrade.images.tensors import to_image, to_tensor
from degrade.perceptual.distance import feature_distance
from degrade.perceptual.pretrained_features import pretrained_features
from degrade.realism.scores import load_scorers
from upsample.bicubic import enlarge
from upsample.metrics import psnr_y, ssim_y
from upsample.upscaling.pictures import Picture, read_picture
from upsample.upscaling.upscale import UpscaleSettings, load_upsampler, upscale_picture

Scores = dict[str, dict[str, list[float]]]  # by upscaler and metric, of each image


class Metrics:
    """Score images, with NIQE where its file of parameters is given (pyiqa, extra `metrics`)."""

    def __init__(self, niqe: Path | None) -> None:
        self.niqe = load_scorers([f"niqe={niqe}"])["niqe"] if niqe else None
        self.features = pretrained_features()

    @torch.inference_mode()
    def of(self, image: Rgb, hr: Rgb, border: int) -> dict[str, float]:
        """Score an image; HR itself has only what needs no reference."""
        scores = {} if self.niqe is None else {"niqe": float(self.niqe(to_tensor(image)))}
        if image is hr:
            return scores
        maps, other = (self.features(to_tensor(each) * 2 - 1) for each in (image, hr))
        scores |= {"psnr_y": psnr_y(image, hr, border), "ssim_y": ssim_y(image, hr, border)}
        return scores | {"feature_distance": float(feature_distance(maps, other))}


def compare(
    hr_dir: Path, lr_dir: Path, models: list[str], niqe: Path | None, rows: int
) -> tuple[Scores, list[list[Rgb]]]:
    """Score every pair, and return LR, what each upscaler made, and HR of the first ``rows`` too."""
    metrics = Metrics(niqe)
    upsamplers = {name: load_upsampler(name) for name in models}
    scores: Scores = {}
    shown = []
    for hr_source, lr_source in tqdm(list_pairs(hr_dir, lr_dir).pairs, disable=None):
        hr, lr = read_image(hr_source.read()), read_picture(lr_source.read())
        scale = round(hr.shape[0] / lr.color.shape[-2])
        if hr.shape[:2] != tuple(side * scale for side in lr.color.shape[-2:]):
            raise SystemExit(f"{hr_source.name}: HR {hr.shape[1]}x{hr.shape[0]} is no whole number of times its LR")
        made = {"bicubic": to_image(enlarge(lr.color, scale)[0].clamp(0, 1))}
        for name, upsampler in upsamplers.items():
            sr: Picture = upscale_picture(upsampler, lr, UpscaleSettings(outscale=scale))
            made[name] = to_image(sr.color[0])
        for name, image in {**made, "HR": hr}.items():
            for metric, score in metrics.of(image, hr, scale).items():
                scores.setdefault(name, {}).setdefault(metric, []).append(score)
        if len(shown) < rows:
            shown.append([to_image(lr.color[0]), *made.values(), hr])
    return scores, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hr_dir", type=Path)
    parser.add_argument("lr_dir", type=Path, help="LR images with the same names")
    parser.add_argument("models", nargs="+", help="shipped names or folders")
    parser.add_argument("--niqe", type=Path, help="file of NIQE's parameters, for pyiqa")
    parser.add_argument("--picture", type=Path, help="write the first pairs side by side to this jpg")
    parser.add_argument("--rows", type=int, default=4, help="pairs in the picture")
    parser.add_argument("--json", type=Path, help="write the scores of every image to this file")
    options = parser.parse_args()
    scores, shown = compare(
        options.hr_dir, options.lr_dir, options.models, options.niqe, options.rows if options.picture else 0
    )
    columns = ["psnr_y", "ssim_y", "feature_distance", *(["niqe"] if options.niqe else [])]
    print("| |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name, each in scores.items():
        means = (f"{np.mean(each[column]):.4f}" if column in each else "" for column in columns)
        print(f"| {Path(name).name} |", " | ".join(means), "|")
    print(f"{len(scores['bicubic']['psnr_y'])} pairs")
    if options.picture:
        titles = ["LR", "bicubic", *(Path(name).name for name in options.models), "HR"]
        sheet = contact_sheet(shown, column_titles=titles, cell_px=max(image.shape[1] for image in shown[0]))
        write_atomic(options.picture, encode_image(sheet, "jpg", 88))
    if options.json:
        write_atomic(options.json, json.dumps(scores, indent=2).encode())


if __name__ == "__main__":
    main()
