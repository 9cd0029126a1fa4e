"""How fast is it? HR megapixels per second of every way to degrade, on this machine, in one run.

    pip install -e '.[examples,export,openvino]' torchvision psutil
    pip download --no-deps --no-build-isolation basicsr==1.4.2 && tar xf basicsr-1.4.2.tar.gz
    python examples/benchmark_degrade.py --basicsr basicsr-1.4.2                  # the tables
    taskset -c 1 python examples/benchmark_degrade.py --basicsr basicsr-1.4.2 --parts 1 --threads 1
    python examples/benchmark_degrade.py --parts 4 --json out.json

1. In one process, by size of the batch: BasicSR's own operators in Real-ESRGAN's order, the learned degrader (one step)
   by every backend and precision that works here, and the `real-esrgan` and `bicubic` presets. All ways take turns in
   every round, so that a busy machine slows all of them alike. "Per processor second" counts the time in which the
   processors worked for this process, which other programs change little. The kernels of BasicSR are drawn beforehand,
   as by the workers of its loader; their time stands in a row of its own.
2. `synth` end to end against its stages alone, each with one process per core.
3. Peak memory of `synth`, of all its processes together, with ten times the images.
4. What it costs that threads wait asleep (OMP_WAIT_POLICY=PASSIVE, as the commands choose it) or awake: a call on two
   threads, on the machine as it is, and beside a process that works all the time on the first core.
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

from degrade import ClassicalDegrader, RealisticDegrader
from degrade.images.codec import encode_image, read_image
from degrade.images.geometry import crop_positions
from degrade.images.tensors import to_tensor
from degrade.mix import DegradationMix
from degrade.networks.backend import Backend
from degrade.networks.precision import has_fast_bf16
from degrade.recipes.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parent))
from basicsr_operators import HOW_TO_GET_IT, BasicsrRealEsrgan, seed_everything  # noqa: E402
from export_photos import export  # noqa: E402

CORES = os.cpu_count() or 1
CASES = ((8, 256), (8, 512), (1, 512))  # images in a batch, and their side
BACKENDS: tuple[tuple[Backend, bool], ...] = (
    ("torch", False), ("torch", True), ("onnxruntime", False), ("openvino", False), ("openvino", True),
)  # fmt: skip
CROP = 256


def photo_crops(folder: Path, side: int, count: int) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Crops of real photographs: noise and JPEG cost the same on any picture, PNG does not."""
    crops = []
    for path in sorted(folder.iterdir()):
        image = read_image(path)
        if min(image.shape[:2]) >= side:
            crops += [image[y : y + side, x : x + side] for y, x in crop_positions(*image.shape[:2], side, 8, 0)]
    return [crops[i % len(crops)] for i in range(count)]


def rates(
    ways: dict[str, Callable[[int], object]], megapixels: float, rounds: int = 16
) -> dict[str, tuple[float, float]]:
    """Megapixels per second, and per second of the processors, of ways that take turns; a first round warms up.

    The same draws every time, and their whole time: one draw of a random chain can cost ten times another.
    """
    seconds = {name: np.zeros(2) for name in ways}
    for index in range(rounds + 1):
        for name, way in ways.items():
            began = np.array([time.perf_counter(), time.process_time()])
            way(index)
            if index:
                seconds[name] += [time.perf_counter(), time.process_time()] - began
    return {name: tuple((rounds * megapixels / each).tolist()) for name, each in seconds.items()}


def learned(name: str) -> dict[str, RealisticDegrader]:
    """Load the degrader with every backend and precision that this machine has."""
    degraders: dict[str, RealisticDegrader] = {}
    for backend, bf16 in BACKENDS:
        called = f"learned, {backend} {'bf16' if bf16 else 'fp32'}"
        degrader = RealisticDegrader.from_pretrained(name).eval()
        try:
            if bf16 and not has_fast_bf16("cpu"):
                raise ValueError("this processor has no fast bfloat16")
            degrader.use_backend(backend, bf16=bf16, on_note=print)
            degraders[called] = degrader
        except ValueError as err:
            print(f"left out: {called}: {err}")
    return degraders


def in_one_process(
    folder: Path, name: str, basicsr: BasicsrRealEsrgan | None, threads: int, rounds: int
) -> list[dict[str, Any]]:
    torch.set_num_threads(threads)
    degraders, rows = learned(name), []
    for batch, side in CASES:
        hr = torch.cat([to_tensor(crop) for crop in photo_crops(folder, side, batch)])
        ways: dict[str, Callable[[int], object]] = {}
        if basicsr is not None:
            kernels = [(seed_everything(index), basicsr.kernels(batch))[1] for index in range(rounds + 1)]

            def chain(index: int, hr: torch.Tensor = hr, kernels: list[Any] = kernels) -> None:
                seed_everything(index)
                basicsr(hr, kernels[index])

            ways["BasicSR, Real-ESRGAN"] = chain
            ways["BasicSR, its kernels alone"] = lambda index, batch=batch: basicsr.kernels(batch)
        for called, degrader in degraders.items():
            ways[called] = lambda index, by=degrader, hr=hr: by(hr, generator=torch.Generator().manual_seed(index))
        for preset in ("real-esrgan", "bicubic"):
            layer = ClassicalDegrader(preset)
            ways[f"{preset} preset"] = lambda index, layer=layer, hr=hr: layer(
                hr, seeds=range(index * len(hr), (index + 1) * len(hr))
            )
        with torch.no_grad():
            for called, (wall, processor) in rates(ways, batch * side * side / 1e6, rounds).items():
                row = {"what": called, "batch": batch, "hr_side": side, "threads": threads}
                rows.append({**row, "hr_mp_per_s": round(wall, 2), "per_processor_s": round(processor, 2)})
                print(
                    f"{called:<27} {batch} x {side} px  {threads} thread(s)  {wall:8.2f} HR MP/s, "
                    f"{processor:8.2f} per processor second",
                    flush=True,
                )
    return rows


def _calls(name: str, policy: str, orders: Any) -> None:
    """Call the degrader on two threads whenever it is asked to, and answer with the seconds of the call."""
    torch.set_num_threads(2)
    degrader = RealisticDegrader.from_pretrained(name).eval()
    hr = torch.rand(1, 3, 512, 512)
    orders.send(policy)
    with torch.inference_mode():
        while orders.recv():
            began = time.perf_counter()
            degrader(hr, generator=torch.Generator().manual_seed(0))
            orders.send(time.perf_counter() - began)


def _occupy(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


def waiting(name: str, rounds: int = 20) -> dict[str, float]:
    """Median milliseconds of a call on two threads, by how threads wait and by what else runs; policies take turns."""
    context = multiprocessing.get_context("spawn")
    before, children = dict(os.environ), {}
    for policy in ("ACTIVE", "PASSIVE", "default"):  # a new process reads it when it loads torch
        os.environ.pop("OMP_WAIT_POLICY", None)
        os.environ |= {} if policy == "default" else {"OMP_WAIT_POLICY": policy}
        ours, theirs = context.Pipe()
        process = context.Process(target=_calls, args=(name, policy, theirs), daemon=True)
        process.start()
        children[policy] = ours
    os.environ.clear()
    os.environ.update(before)
    for policy, orders in children.items():
        assert orders.recv() == policy
    result = {}
    for load in ("as it is", "one core busy"):
        busy = context.Process(target=_occupy, args=(0,), daemon=True)
        if load == "one core busy":
            busy.start()
        seconds: dict[str, list[float]] = {policy: [] for policy in children}
        for _ in range(rounds + 1):
            for policy, orders in children.items():
                orders.send(True)
                seconds[policy].append(orders.recv())
        if busy.is_alive():
            busy.kill()
        for policy, each in seconds.items():
            result[f"{load}, {policy}"] = round(1e3 * float(np.median(each[1:])), 1)
            print(f"two threads, machine {load:<13}  {policy:<8} {result[f'{load}, {policy}']:8.1f} ms", flush=True)
    for orders in children.values():
        orders.send(False)
    return result


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
    parser.add_argument("--parts", default="1234", help="which of the four parts to run")
    parser.add_argument("--basicsr", type=Path, metavar="DIR", help="BasicSR's unpacked source distribution")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, CORES}), help="of part 1")
    parser.add_argument("--rounds", type=int, default=16, help="of part 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        export(folder)
        if "1" in options.parts and options.basicsr is None:
            print(f"left out: BasicSR; {HOW_TO_GET_IT}")
        result: dict[str, Any] = {"cores": CORES}
        if "1" in options.parts:
            basicsr = None if options.basicsr is None else BasicsrRealEsrgan(options.basicsr)
            result["one_process"] = []
            for threads in options.threads:
                result["one_process"] += in_one_process(folder, options.degrader, basicsr, threads, options.rounds)
        if "2" in options.parts:
            result["synth"] = end_to_end(folder, options.degrader)
        if "3" in options.parts:
            result["memory"] = memory(folder, options.degrader)
        if "4" in options.parts:
            result["waiting"] = waiting(options.degrader)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
