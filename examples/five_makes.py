"""Judge a training recipe of the degrader on cameras that it did not see: leave one make out, for each of five makes.

    python examples/five_makes.py --config examples/five_makes.yaml --out runs/makes \
      --pairs data/real_pairs/train/hr data/real_pairs/train/lr --pairs data/real_pairs/val/hr data/real_pairs/val/lr

The recipe is a file of settings for `degrade train --preset tiny --config`, without pairs, and what it starts from must
not have seen any of the pairs. For each make, a degrader is trained on the pairs of the other four, and the report
compares it with the make that was left out, told the looks by the half of its LR that nothing is measured against.
``--untrained`` scores a degrader as it is instead. Run again, it resumes where it stopped. It prints the mean and the
spread over the makes, and writes all figures to ``--out``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from comparison.makes import MAKES, check_unseen, split_makes
from degrade.files.store import write_atomic
from degrade.realism.report import RealismConfig, evaluate
from degrade.training.config import DegraderTrainConfig, config_from_options
from degrade.training.loop import RunOptions
from degrade.training.run import train

COLUMNS = ("real", "ours", "before", "real_esrgan", "real_esrgan_light", "bicubic")
DISTANCES = (
    "kid", "frechet", "spectrum_distance", "w1_mean_in_real_sd", "classifier_accuracy", "taken_for_real", "recall",
)  # fmt: skip
CONTROL = ("correlation_log_noise", "correlation_log_sharpness", "high_band_energy_ratio", "top_quarter_energy_ratio")


def without(config: DegraderTrainConfig, make: str, folders: dict[str, tuple[Path, Path]]) -> DegraderTrainConfig:
    """Return the settings of the training that sees every make but one."""
    pairs = tuple((str(hr), str(lr)) for other, (hr, lr) in folders.items() if other != make)
    return replace(config, data=replace(config.data, pairs=pairs))


def train_without(
    config: DegraderTrainConfig, make: str, folders: dict[str, tuple[Path, Path]], out: Path, mixed_precision: str
) -> str:
    """Train on every make but one, or go on with what was stopped, and return the folder of the degrader.

    It is ``out``/MAKE/training/degrader.
    """
    options = RunOptions(resume="latest", mixed_precision=mixed_precision, checkpoint_every=100)
    return str(train(without(config, make, folders), out / make / "training", options)["degrader"])


def table(reports: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]]) -> str:
    """Write mean and standard deviation over the makes of every figure, as Markdown."""
    rows = [(section, metric) for section, metrics in (("realism", DISTANCES), ("control_pairs", CONTROL))
            for metric in metrics]  # fmt: skip
    lines = ["| mean ± spread of the makes | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for section, metric in rows:
        cells = []
        for column in COLUMNS:
            told = "ours_like" if section == "control_pairs" and column == "ours" else column
            values = [r[section][metric][told]["mean"] for r in reports.values() if told in r[section][metric]]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "–")
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train without each make, report on it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, nargs=2, action="append", required=True, metavar=("HR_DIR", "LR_DIR"))
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", type=Path, help="settings of `degrade train`, without pairs")
    what.add_argument("--untrained", metavar="NAME|DIR", help="a degrader to score as it is")
    parser.add_argument("--makes", nargs="+", choices=MAKES, default=tuple(MAKES))
    parser.add_argument("--crops", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mixed-precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--out", "-o", type=Path, required=True)
    given = parser.parse_args(arguments)
    config = config_from_options("tiny", given.config, {})[0] if given.config else None
    if start := config.start_from if config else given.untrained:
        check_unseen(start, given.makes)
    folders = split_makes(given.pairs, given.out / "pairs")
    reports = {}
    for make in given.makes:
        out = given.out / make
        degrader, before = given.untrained, ""
        if config:
            degrader = train_without(config, make, folders, given.out, given.mixed_precision)
            before = config.start_from
        file = out / "report.json"
        if not file.exists():
            hr, lr = folders[make]
            evaluate(
                RealismConfig(
                    real_lr=lr, hr_dir=hr, pairs=(hr, lr), degrader=degrader, before=before, codes="real",
                    crops=given.crops, seeds=given.seeds,
                ),
                out,
                progress=lambda line, make=make: print(f"{make}: {line}", flush=True),
            )  # fmt: skip
        reports[make] = json.loads(file.read_text())
    text = table(reports)
    write_atomic(given.out / "table.md", f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    try:
        main()
    except ValueError as err:
        raise SystemExit(f"error: {err}") from None
