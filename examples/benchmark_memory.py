"""Peak memory of `degrade eval` and `degrade train` on few and on many large photographs. Linux only.

    python examples/benchmark_memory.py                        # 20 and 1,000 photographs of 12 megapixels
    python examples/benchmark_memory.py --counts 20 200 --megapixels 3

The photographs are JPEGs of invented texture; many names share one file, and each name is decoded on its own. Both
commands run in processes of their own. Their memory is the proportional set size (what the system counts, with shared
pages divided among the processes that share them) of the process and all its children, read ten times a second.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from degrade.images.codec import encode_image
from degrade.images.geometry import reduce_by

DISTINCT = 20  # files behind all names
COMMANDS = {
    "degrade eval": ["eval", "--crops", "200", "--seeds", "1"],
    "degrade train": ["train", "--preset", "ci", "--recipe", "bicubic", "--steps", "40"],
}


def make_photographs(folder: Path, count: int, megapixels: float) -> None:
    """Write ``count`` JPEGs of 4:3 photographs into hr/, and the same reduced by 8 into lr/, as real LR images."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5) // 8 * 8
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 40, height // 6 + 40, 3), np.uint8)
    for side in ("hr", "lr"):
        (folder / side).mkdir(parents=True)
    for number in range(count):
        hr, lr = (folder / side / f"{number:04d}.jpg" for side in ("hr", "lr"))
        if number < DISTINCT:
            part = coarse[number : number + height // 8, number : number + height // 6]
            image = np.ascontiguousarray(part.repeat(8, axis=0).repeat(8, axis=1))
            image += rng.integers(0, 40, image.shape, np.uint8) // 2 * (image < 200)
            hr.write_bytes(encode_image(image, "jpg", 90))
            lr.write_bytes(encode_image(reduce_by(image, 8), "jpg", 90))
        else:
            for path in (hr, lr):
                os.link(path.with_name(f"{number % DISTINCT:04d}.jpg"), path)


def peak_megabytes(arguments: Sequence[str]) -> tuple[float, float]:
    """Run a command of `degrade`; return the peak memory of it and its children in MB, and its seconds.

    Raises:
        RuntimeError: the command failed.
    """
    began, peak = time.monotonic(), 0
    program = "from cli.degrade_commands import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        peak = max(peak, sum(map(_proportional_kilobytes, _family(process.pid))))
        time.sleep(0.1)
    if process.returncode:
        assert process.stderr is not None
        raise RuntimeError(f"degrade {' '.join(arguments)} failed: {process.stderr.read()[-500:]}")
    return peak / 1e3, time.monotonic() - began


def _family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _proportional_kilobytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, and the figures as one line of json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 1000])
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--eval-crops", type=int, default=200)
    parser.add_argument("--train-steps", type=int, default=40)
    given = parser.parse_args(arguments)
    figures: dict[str, dict[int, float]] = {name: {} for name in COMMANDS}
    print(f"{'':16}{'photographs':>12}{'peak MB':>10}{'seconds':>9}")
    for count in given.counts:
        with tempfile.TemporaryDirectory() as root:
            make_photographs(Path(root, "photographs"), count, given.megapixels)
            hr, lr = (str(Path(root, "photographs", side)) for side in ("hr", "lr"))
            sizes = {"degrade eval": ["--crops", str(given.eval_crops), "--real-lr", lr],
                     "degrade train": ["--steps", str(given.train_steps), "--lr-dir", lr]}  # fmt: skip
            for name, options in COMMANDS.items():
                command = [*options, *sizes[name], "--hr-dir", hr, "--out", str(Path(root, name.split()[1]))]
                megabytes, seconds = peak_megabytes(command)
                figures[name][count] = round(megabytes)
                print(f"{name:16}{count:12}{megabytes:10.0f}{seconds:9.0f}", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
