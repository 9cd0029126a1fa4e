"""How fast is it? HR megapixels per second of every way to degrade, on this machine, in one run.

    pip install -e '.[examples,kornia]'
    python examples/benchmark_degrade.py                  # the table
    python examples/benchmark_degrade.py --json out.json

1. In one process, by torch threads and image size, batch 8: the learned degrader (one step), the `real-esrgan` and
   `bicubic` presets, and `batched`: the straightforward batched torch implementation of Real-ESRGAN's order that people
   write: draws shared by the batch, dense 21 x 21 kernels, differentiable JPEG.
2. `synth` end to end against its stages alone, each with one process per core.
3. Peak memory of `synth`, of all its processes together, with ten times the images.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from kornia.enhance import jpeg_codec_differentiable

from degrade import ClassicalDegrader, RealisticDegrader
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import crop_positions
from degrade.images.tensors import to_tensor
from degrade.mix import DegradationMix
from degrade.ops.blur import gaussian_kernel, sinc_kernel
from degrade.recipes.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parent))
from export_photos import export  # noqa: E402

CORES = os.cpu_count() or 1
BATCH = 8
CROP = 256


def batched_real_esrgan(hr: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Real-ESRGAN's second-order chain with choices shared by the batch, on dense kernels and differentiable JPEG."""

    def uniform(low: float, high: float, n: int = 1) -> torch.Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    def dense_blur(image: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = image.shape
        padded = F.pad(image, (10, 10, 10, 10), mode="reflect").reshape(1, batch * channels, height + 20, width + 20)
        weight = kernels.repeat_interleave(channels, dim=0)[:, None]
        return F.conv2d(padded, weight, groups=batch * channels).reshape(image.shape)

    def noisy(image: torch.Tensor, sigma: float, poisson: float) -> torch.Tensor:
        if uniform(0, 1) < 0.5:
            strength = uniform(1, sigma, len(image))[:, None, None, None] / 255
            return (image + strength * torch.randn(image.shape, generator=generator)).clamp(0, 1)
        strength = uniform(0.05, poisson, len(image))[:, None, None, None]
        photons = torch.poisson(image.clamp(0, 1) * 256, generator=generator)
        return (image + strength * (photons / 256 - image)).clamp(0, 1)

    def resize_factor(up_down: tuple[float, float], low: float, high: float) -> float:
        draw = float(uniform(0, 1))
        if draw < up_down[0]:
            return float(uniform(1, high))
        return float(uniform(low, 1)) if draw < sum(up_down) else 1.0

    def jpeg(image: torch.Tensor) -> torch.Tensor:
        return jpeg_codec_differentiable(image.clamp(0, 1), uniform(30, 95, len(image)))

    def mode() -> str:
        return ("area", "bilinear", "bicubic")[int(torch.randint(3, (), generator=generator))]

    height, width = hr.shape[-2] // 4, hr.shape[-1] // 4
    image = dense_blur(hr, gaussian_kernel(21, torch.stack([uniform(0.2, 3, len(hr))] * 2, 1)))
    factor = resize_factor((0.2, 0.7), 0.15, 1.5)
    image = F.interpolate(image, size=(int(hr.shape[-2] * factor), int(hr.shape[-1] * factor)), mode=mode())
    image = jpeg(noisy(image, 30, 3))
    image = dense_blur(image, gaussian_kernel(21, torch.stack([uniform(0.2, 1.5, len(hr))] * 2, 1)))
    factor = resize_factor((0.3, 0.4), 0.3, 1.2)
    image = noisy(F.interpolate(image, size=(int(height * factor), int(width * factor)), mode=mode()), 25, 2.5)
    image = F.interpolate(image, size=(height, width), mode=mode())
    return jpeg(dense_blur(image, sinc_kernel(21, uniform(1.05, 3.14, len(hr))))).clamp(0, 1)


def photo_crops(folder: Path, side: int, count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Crops of real photographs: noise and JPEG cost the same on any picture, PNG does not."""
    crops = []
    for path in sorted(folder.iterdir()):
        image = read_image(path)
        if min(image.shape[:2]) >= side:
            crops += [image[y : y + side, x : x + side] for y, x in crop_positions(*image.shape[:2], side, 8, 0)]
    return [crops[i % len(crops)] for i in range(count)]


def rate(call: Callable[[int], object], megapixels: float, rounds: int = 16) -> float:
    """Megapixels per second over a fixed number of rounds, after one that warms up.

    The same draws every time, and their whole time: one draw of a random chain can cost ten times another.
    """
    call(0)
    began = time.perf_counter()
    for index in range(1, rounds + 1):
        call(index)
    return rounds * megapixels / (time.perf_counter() - began)


def in_one_process(folder: Path, degrader: RealisticDegrader) -> list[dict[str, Any]]:
    def seeded(index: int) -> torch.Generator:
        return torch.Generator().manual_seed(index)

    def preset(name: str) -> Callable[[torch.Tensor, int], object]:
        layer = ClassicalDegrader(name)
        return lambda hr, index: layer(hr, seeds=range(index * BATCH, (index + 1) * BATCH))

    ways: dict[str, Callable[[torch.Tensor, int], object]] = {
        "learned, one step": lambda hr, index: degrader(hr, generator=seeded(index)),
        "real-esrgan preset": preset("real-esrgan"),
        "bicubic preset": preset("bicubic"),
        "batched real-esrgan": lambda hr, index: batched_real_esrgan(hr, seeded(index)),
    }
    rows = []
    for side in (256, 512):
        hr = torch.cat([to_tensor(crop) for crop in photo_crops(folder, side, BATCH)])
        for threads in sorted({1, CORES}):
            torch.set_num_threads(threads)
            with torch.no_grad():
                for name, way in ways.items():
                    speed = rate(lambda index, way=way, hr=hr: way(hr, index), BATCH * side * side / 1e6)
                    rows.append({"what": name, "hr_side": side, "threads": threads, "hr_mp_per_s": round(speed, 2)})
                    print(f"{name:<22} {side} px  {threads} thread(s)  {speed:8.2f} HR MP/s", flush=True)
    return rows


def _stage(which: str, degrader: str, folder: Path, crops: int, started: Any) -> float:
    """One process of a stage alone; returns its seconds."""
    torch.set_num_threads(1)
    images = photo_crops(folder, CROP, crops)
    if which == "degrade":
        mix = DegradationMix(RealisticDegrader.from_pretrained(degrader).eval(), Recipe.preset("bicubic"), mix=0.0)
        tensors = [to_tensor(image) for image in images]
        mix.degrade_exactly(tensors[0], mix.draw([0]))
    else:
        files = [encode_image(image, "png") for image in images]
        small = [np.ascontiguousarray(image[::4, ::4]) for image in images]
    started.wait()
    began = time.perf_counter()
    for seed in range(crops):
        if which == "degrade":
            mix.degrade_exactly(tensors[seed], mix.draw([seed]))
        else:
            encode_image(read_image(files[seed]), "png")
            encode_image(small[seed], "png")
    return time.perf_counter() - began


def stage_alone(which: str, degrader: str, folder: Path, crops: int) -> float:
    """HR MP/s of a stage with one process per core."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(CORES) as pool:
        started = manager.Barrier(CORES)
        seconds = pool.starmap(_stage, [(which, degrader, folder, crops, started)] * CORES, chunksize=1)
    return CORES * crops * CROP * CROP / 1e6 / max(seconds)


def synth(folder: Path, out: Path, degrader: str, variants: int, watch: bool = False) -> dict[str, Any]:
    """Run the command; its summary, with the peak memory of all its processes in MB when watched (which slows it)."""
    command = [sys.executable, "-c", "from cli.degrade_commands import main; main()", "synth", "-i", str(folder)]
    command += ["-o", str(out), "--degrader", degrader, "--variants", str(variants), "--crop-size", str(CROP)]
    process = subprocess.Popen([*command, "--workers", str(CORES), "--json"], stdout=subprocess.PIPE, text=True)
    peak = 0
    while watch and process.poll() is None:
        try:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            peak = max(peak, sum(member.memory_full_info().uss for member in family))
        except psutil.Error:
            pass  # one of them has just ended
        time.sleep(0.3)
    assert process.stdout is not None
    return {**json.loads(process.stdout.read()), "peak_mb": peak / 1e6}


def end_to_end(folder: Path, degrader: str) -> dict[str, float]:
    degrade_alone, code_alone = (stage_alone(which, degrader, folder, 60) for which in ("degrade", "code"))
    with tempfile.TemporaryDirectory() as out:
        summary = synth(folder, Path(out) / "shards", degrader, variants=60)
    # About a minute of work: the start of Python and torch in every process is in `synth` and not in the stages.
    both = summary["hr_megapixels_per_second"]
    result = {
        "degrade_alone": round(degrade_alone, 2),
        "decode_and_encode_alone": round(code_alone, 2),
        "synth": both,
        "share_of_the_slower": round(both / min(degrade_alone, code_alone), 3),
    }
    print(json.dumps(result))
    return result


def memory(folder: Path, degrader: str) -> dict[str, float]:
    peaks = []
    with tempfile.TemporaryDirectory() as temporary:
        for copies in (2, 20):
            images = Path(temporary) / f"images-{copies}"
            images.mkdir()
            for copy in range(copies):
                for path in folder.iterdir():
                    os.symlink(path.resolve(), images / f"{copy:03d}-{path.name}")
            peaks.append(synth(images, Path(temporary) / f"shards-{copies}", degrader, 1, watch=True)["peak_mb"])
    result = {"peak_mb": round(peaks[0]), "peak_mb_10x": round(peaks[1]), "growth": round(peaks[1] / peaks[0] - 1, 3)}
    print(json.dumps(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrader", default="tiny-x4")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--parts", default="123", help="which of the three parts to run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export(folder)
        degrader = RealisticDegrader.from_pretrained(options.degrader).eval()
        result: dict[str, Any] = {"cores": CORES}
        if "1" in options.parts:
            result["one_process"] = in_one_process(folder, degrader)
        if "2" in options.parts:
            result["synth"] = end_to_end(folder, options.degrader)
        if "3" in options.parts:
            result["memory"] = memory(folder, options.degrader)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
