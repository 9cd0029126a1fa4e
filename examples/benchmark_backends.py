"""Measure every backend of `upsample run`, and the degrader beside it, on this machine's CPU in one run.

    pip install -e '.[export,openvino,examples]'
    python examples/benchmark_backends.py                             # tiny-x4, on LR images of 128, 256 and 512 px
    python examples/benchmark_backends.py --threads 1 --rounds 9 --json backends.json
    python examples/benchmark_backends.py --memory                    # and the peak memory of 4096 x 4096 outputs

1. Upscaling in tiles, as `upsample run` does it, by backend, precision and detail; and the degrader, from HR of four
   times those sides to LR. All ways take turns in every round, so that a busy machine slows all of them alike. The
   table has the smallest and the median time, and the smallest number of seconds that processors worked, to which
   other programs add little. "dB from torch" is the PSNR against torch in float32 at the same detail.
2. The peak memory of a process that upscales to 4096 x 4096 in tiles.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from degrade import RealisticDegrader
from degrade.images.tensors import to_tensor
from upsample.upscaling.tiling import upscale_in_tiles
from upsample.upscaling.upscale import load_upsampler

WAYS = [("torch", False), ("torch", True), ("onnxruntime", False), ("openvino", False), ("openvino", True)]
SIDES = (128, 256, 512)

PEAK = """
import re, sys, torch
from upsample.upscaling.tiling import upscale_in_tiles
from upsample.upscaling.upscale import load_upsampler
def peak():  # in kB; ru_maxrss would begin at what the program had that started this one
    return re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
model, backend, bf16, detail, side, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
upsampler = load_upsampler(model, backend=backend, bf16=bf16 == "True")
upscale_in_tiles(upsampler, torch.rand(1, 3, 32, 32), detail=float(detail))
before = peak()
upscale_in_tiles(upsampler, torch.rand(1, 3, int(side), int(side)), detail=float(detail))
print(before, peak())
"""


def installed() -> list[tuple[str, bool]]:
    """Return the ways whose packages are there, and name the others."""
    missing = [name for name in ("onnxruntime", "openvino") if find_spec(name) is None]
    if missing:
        print(f"left out, because it is not installed: {', '.join(missing)}")
    return [way for way in WAYS if way[0] not in missing]


def upscalers(model: str) -> Iterator[tuple[str, float, Callable[[Tensor], Tensor]]]:
    """Load the upsampler for every way; yields the name of the way, the detail, and what upscales."""
    for backend, bf16 in installed():
        upsampler = load_upsampler(model, backend=backend, bf16=bf16, on_note=print)
        for detail in (0.0, 1.0) if upsampler.detail_branch is not None else (0.0,):
            name = f"{backend} {'bf16' if bf16 else 'fp32'}"
            yield name, detail, lambda lr, by=upsampler, detail=detail: upscale_in_tiles(by, lr, detail=detail)


def degraders(name: str) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Load the degrader; yields the name of the precision, and what degrades."""
    degrader = RealisticDegrader.from_pretrained(name).eval()

    @torch.inference_mode()
    def degrade(hr: Tensor, bf16: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return degrader(hr, generator=torch.Generator().manual_seed(0))

    for bf16 in (False, True):
        yield f"torch {'bf16' if bf16 else 'fp32'}", lambda hr, bf16=bf16: degrade(hr, bf16)


def speeds(model: str, degrader: str, sides: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Time all ways in turns on crops of one photograph; the first round warms up and is not counted."""
    from skimage import data

    photo = to_tensor(data.astronaut())
    ways = list(upscalers(model))
    backwards = list(degraders(degrader))
    rows = []
    for side in sides:
        lr = photo[..., :side, :side].contiguous()
        hr = torch.nn.functional.interpolate(lr, scale_factor=4.0, mode="bilinear")
        calls = [("upscale", name, detail, call, lr) for name, detail, call in ways]
        calls += [("degrade", name, None, call, hr) for name, call in backwards]
        wall: list[list[float]] = [[] for _ in calls]
        processor: list[list[float]] = [[] for _ in calls]
        reference: dict[Any, Tensor] = {}
        for number in range(rounds + 1):
            for index, (what, name, detail, call, image) in enumerate(calls):
                began, ran = time.perf_counter(), time.process_time()
                result = call(image)
                if number:
                    wall[index].append(time.perf_counter() - began)
                    processor[index].append(time.process_time() - ran)
                    continue
                exact = reference.setdefault((what, detail), result)
                error = float((result - exact).double().square().mean())
                rows.append({
                    "what": what, "way": name, "detail": detail, "lr_side": side,
                    "hr_megapixels": hr.shape[-1] ** 2 / 1e6,
                    "db_from_torch": None if exact is result else -10 * torch.tensor(error).log10().item(),
                })  # fmt: skip
        for row, seconds, own in zip(rows[-len(calls) :], wall, processor, strict=True):
            row.update(
                seconds=min(seconds),
                median_seconds=statistics.median(seconds),
                processor_seconds=min(own),
                hr_megapixels_per_processor_second=row["hr_megapixels"] / min(own),
            )
            print(as_line(row), flush=True)
    return rows


def as_line(row: dict[str, Any]) -> str:
    detail = "" if row["detail"] is None else f"detail {row['detail']:g}"
    far = "" if row["db_from_torch"] is None else f"{row['db_from_torch']:.0f} dB from torch"
    return (
        f"{row['what']} {row['lr_side']:>4} px  {row['way']:<17} {detail:<9} min {row['seconds']:.3f} s, "
        f"median {row['median_seconds']:.3f} s, processor {row['processor_seconds']:.3f} s, "
        f"{row['hr_megapixels_per_processor_second']:.2f} HR MP per processor second  {far}"
    )


def peak_memory(model: str, backend: str, bf16: bool, detail: float, lr_side: int) -> dict[str, Any]:
    """Measure the peak memory of a new process, in MB: with the model loaded, and after upscaling."""
    arguments = [model, backend, str(bf16), str(detail), str(lr_side), str(torch.get_num_threads())]
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], check=True, capture_output=True, text=True)
    before, after = done.stdout.split()
    return {
        "way": f"{backend} {'bf16' if bf16 else 'fp32'}", "detail": detail, "hr_side": 4 * lr_side,
        "loaded_mb": int(before) / 1024, "peak_mb": int(after) / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-x4", help="the upsampler, a one-step student of scale 4")
    parser.add_argument("--degrader", default="tiny-x4")
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="sides of the LR images, up to 512")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="threads of each backend; by default torch's own number")
    parser.add_argument("--memory", action="store_true", help="also measure peak memory")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} thread(s), {options.rounds} rounds")
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "rounds": options.rounds}
    figures["speed"] = speeds(options.model, options.degrader, tuple(options.sides), options.rounds)
    if options.memory:
        figures["memory"] = []
        details = sorted({row["detail"] for row in figures["speed"] if row["what"] == "upscale"})
        for (backend, bf16), detail in product(installed(), details):
            row = peak_memory(options.model, backend, bf16, detail, 1024)
            figures["memory"].append(row)
            print(
                f"{row['hr_side']} x {row['hr_side']} HR  {row['way']:<17} detail {detail:g}: "
                f"peak {row['peak_mb']:.0f} MB, {row['loaded_mb']:.0f} MB of them with the model loaded",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
