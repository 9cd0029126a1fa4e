"""Measure the student's speed and memory, and compare its one step with the steps of the teacher.

    python examples/benchmark_upsample.py                                        # speed and memory of tiny-x4
    python examples/benchmark_upsample.py --teacher tiny-x4-teacher --pairs HR_DIR LR_DIR    # and the comparison

1. Seconds for a 128 x 128 LR image, and HR megapixels per second, in float32.
2. Peak memory of a process that upscales to 2048 x 2048, in tiles and as a whole, and to 4096 x 4096, in tiles.
3. PSNR-Y, SSIM-Y, feature distance (extra `perceptual`), NIQE (`--niqe FILE`, extra `metrics`) and seconds on whole
   pairs, for the student's one step along its dial and the teacher's 4 and T steps, beside bicubic and HR. They take
   turns on the same images, so that a busy machine slows all of them alike.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compare_upscalers import Metrics
from degrade.images.geometry import Rgb
from degrade.images.real_pairs import aligned_pairs
from degrade.images.tensors import to_image, to_tensor
from upsample import ResidualShiftUpsampler
from upsample.bicubic import enlarge

DETAILS = (0.0, 0.25, 0.5, 0.65, 0.75, 1.0)
SHOWN = {
    "steps": "{:>2} steps", "psnr_y": "{:.2f} dB", "ssim_y": "SSIM {:.4f}", "niqe": "NIQE {:.2f}",
    "feature_distance": "feature distance {:.3f}", "seconds_per_image": "{:.3f} s",
    "time_over_student": "{:.1f} x the student's",
}  # fmt: skip

PEAK = """
import re, sys, torch
from upsample import ResidualShiftUpsampler
from upsample.upscaling.tiling import upscale_in_tiles
def peak():  # in kB; ru_maxrss would begin at what the program had that started this one
    return re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
name, side, tile = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
upsampler = ResidualShiftUpsampler.from_pretrained(name).eval()
upscale_in_tiles(upsampler, torch.rand(1, 3, 32, 32))
before = peak()
upscale_in_tiles(upsampler, torch.rand(1, 3, side, side), tile=tile)
print(before, peak())
"""


def speed(upsampler: ResidualShiftUpsampler, side: int = 128, rounds: int = 15) -> dict[str, float]:
    """Measure the median seconds for an LR image of this side, and HR megapixels per second."""
    lr = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    seconds = []
    with torch.inference_mode():
        for _ in range(rounds + 2):
            began = time.perf_counter()
            upsampler(lr)
            seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[2:])
    return {"lr_side": side, "seconds": median, "hr_megapixels_per_second": (4 * side) ** 2 / 1e6 / median}


def peak_memory(name: str, lr_side: int, tile: int) -> dict[str, float]:
    """Measure the peak memory of a new process, in MB: with the model loaded, and after upscaling."""
    command = [sys.executable, "-c", PEAK, name, str(lr_side), str(tile)]
    before, after = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {"hr_side": 4 * lr_side, "tile": tile, "loaded_mb": int(before) / 1024, "peak_mb": int(after) / 1024}


def steps_against_steps(
    student: ResidualShiftUpsampler,
    teacher: ResidualShiftUpsampler,
    pairs: list[tuple[Any, Any]],
    metrics: Metrics,
) -> list[dict[str, float | str]]:
    """Score and time the student's one step along its dial, and the teacher's 4 and T steps, in turns on each image."""
    longest = int(teacher.config.num_train_timesteps)
    scale = int(student.config.scale)
    details = DETAILS if student.detail_branch is not None else (0.0,)
    ways: list[tuple[str, int, Callable[[Tensor], Tensor]]] = [
        *((f"student, detail {detail:g}", 1, partial(student, steps=1, detail=detail)) for detail in details),
        *(("teacher", steps, partial(teacher, steps=steps)) for steps in (min(4, longest), longest)),
        ("bicubic", 0, lambda lr: enlarge(lr, scale).clamp(0, 1)),
    ]
    seconds = [0.0] * len(ways)
    scores: list[dict[str, float]] = [{} for _ in (*ways, "hr")]

    def add(way: int, image: Rgb, hr: Rgb) -> None:
        for name, value in metrics.of(image, hr, scale).items():
            scores[way][name] = scores[way].get(name, 0.0) + value / len(pairs)

    with torch.inference_mode():
        for index, (hr, lr) in enumerate([pairs[0], *pairs]):  # the first one warms up
            for way, (_, _, upscale) in enumerate(ways):
                began = time.perf_counter()
                sr = upscale(to_tensor(lr))
                if index:
                    seconds[way] += time.perf_counter() - began
                    add(way, to_image(sr[0]), hr)
            if index:
                add(-1, hr, hr)
    rows: list[dict[str, float | str]] = [
        {
            "model": name, "steps": steps, **scores[way], "seconds_per_image": seconds[way] / len(pairs),
            "time_over_student": seconds[way] / seconds[0],
        }
        for way, (name, steps, _) in enumerate(ways)
    ]  # fmt: skip
    return [*rows, {"model": "HR", **scores[-1]}] if scores[-1] else rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-x4", help="the student to measure")
    parser.add_argument("--teacher", help="its teacher, for the comparison")
    parser.add_argument(
        "--pairs", nargs=2, metavar=("HR_DIR", "LR_DIR"), help="folders of paired images, for the comparison"
    )
    parser.add_argument("--niqe", type=Path, help="file of NIQE's parameters, for pyiqa, in the comparison")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    student = ResidualShiftUpsampler.from_pretrained(options.model).eval()
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "speed": speed(student)}
    print(f"{figures['threads']} threads, LR 128 x 128: {figures['speed']['seconds']:.3f} s, "
          f"{figures['speed']['hr_megapixels_per_second']:.2f} HR megapixels/s")  # fmt: skip
    figures["memory"] = [peak_memory(options.model, side, tile) for side, tile in ((512, 256), (1024, 256), (512, 0))]
    for row in figures["memory"]:
        print(f"{row['hr_side']} x {row['hr_side']} HR, tile {row['tile'] or 'none'}: peak {row['peak_mb']:.0f} MB, "
              f"{row['loaded_mb']:.0f} MB of them with the model loaded")  # fmt: skip
    if options.teacher and options.pairs:
        teacher = ResidualShiftUpsampler.from_pretrained(options.teacher).eval()
        pairs, _ = aligned_pairs([tuple(options.pairs)], scale=student.config.scale, min_side=16)
        figures["steps"] = steps_against_steps(student, teacher, pairs, Metrics(options.niqe))
        for row in figures["steps"]:
            print(
                ", ".join([str(row["model"]), *(told.format(row[name]) for name, told in SHOWN.items() if name in row)])
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
