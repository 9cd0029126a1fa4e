"""Tables of arms: means over images and seeds, and what differs from a reference beyond chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from comparison.scores import Scores

TITLES = {"psnr_y": "PSNR-Y, dB", "ssim_y": "SSIM-Y", "gmsd": "GMSD", "niqe": "NIQE"}
FURTHER = {"feature_distance": "feature distance"}  # not of every run: its weights are an extra
COMB = {"comb": "comb", "comb_peak": "its peak"}  # of a set of images, not of one
DIGITS = {"psnr_y": 2, "ssim_y": 4, "gmsd": 4, "niqe": 2, "feature_distance": 4, "comb": 2, "comb_peak": 2}

Array = NDArray[np.float64]


def per_image(runs: Sequence[Scores], metric: str) -> Array:
    """(seeds, images)."""
    return np.array(
        [[image[metric] for _, image in sorted(run.items(), key=lambda item: int(item[0]))] for run in runs]
    )


def mean_and_spread(runs: Sequence[Scores], metric: str) -> tuple[float, float]:
    """Compute the mean over images and seeds, and the standard deviation over seeds of the mean over images."""
    if not runs:
        return float("nan"), 0.0
    means = per_image(runs, metric).mean(1)
    return float(means.mean()), float(means.std(ddof=1)) if len(means) > 1 else 0.0


def against(runs: Sequence[Scores], reference: Sequence[Scores], metric: str) -> dict[str, float]:
    """Difference to a reference, image by image, after the mean over seeds.

    Returns:
        difference; error, its standard error over images; larger, on how many images it is above 0; p, of Wilcoxon's
        signed-rank test over images.
    """
    apart = per_image(runs, metric).mean(0) - per_image(reference, metric).mean(0)
    p = float(wilcoxon(apart).pvalue) if np.any(apart) else 1.0
    error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
    return {"difference": float(apart.mean()), "error": error, "larger": int((apart > 0).sum()), "p": p}


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for the number of comparisons, so that they bound the chance of a single false find in all.

    Args:
        p: of every comparison.

    Returns:
        The values after Holm's step-down correction, in the same order, at most 1.
    """
    corrected, largest = [1.0] * len(p), 0.0
    for rank, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[number]))
        corrected[number] = largest
    return corrected


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


@dataclass(frozen=True)
class Row:
    """An arm of a table: the scores of its seeds on pairs, and on LR without HR ([] when there is none).

    Attributes:
        title: of the arm.
        pairs: by seed.
        lr: by seed.
        seconds: of a training, the mean over seeds.
        sets: comb by seed, of the seeds that have it.
    """

    title: str
    pairs: list[Scores]
    lr: list[Scores]
    seconds: float = 0.0
    sets: list[dict[str, float]] = field(default_factory=list)


def row_of(title: str, kept: Sequence[Mapping[str, Any]]) -> Row:
    """Make a row of the runs of all seeds, as `kept_scores` returns them."""
    seconds = sum(run["seconds"] for run in kept) / len(kept)
    sets = [run["set"] for run in kept if run.get("set")]
    return Row(title, [run["pairs"] for run in kept], [run["lr"] for run in kept if run["lr"]], seconds, sets)


def metrics_of(rows: Iterable[Row]) -> dict[str, str]:
    """Titles of the metrics that every image of every row has, by metric."""
    images = [image for row in rows for run in row.pairs for image in run.values()]
    return TITLES | {name: title for name, title in FURTHER.items() if all(name in image for image in images)}


def combs_of(rows: Iterable[Row]) -> dict[str, str]:
    """Titles of the measures of a set of images, by measure; {} unless every run of every row has them."""
    return COMB if all(len(row.sets) == len(row.pairs) for row in rows) else {}


def table_of_arms(rows: Mapping[str, Row], *, reference: str, oracle: str) -> str:
    """Write a table with a line for each arm: scores, PGap, and the difference from a reference.

    Args:
        rows: by the name of the arm; arms may be missing.
        reference: name of the arm that PSNR-Y and SSIM-Y are compared with, image by image.
        oracle: name of the arm that PGap is measured to.
    """
    with_lr = any(run for row in rows.values() for run in row.lr)
    against_it = rows.get(reference)
    metrics, combs = metrics_of(rows.values()), combs_of(rows.values())
    header = ["", *metrics.values(), *combs.values(), *(["NIQE, no HR"] if with_lr else [])]
    if oracle in rows:
        header.append("PGap, dB")
    if against_it is not None:
        header += [f"PSNR-Y over {against_it.title}", "SSIM-Y over it"]
    best = mean_and_spread(rows[oracle].pairs, "psnr_y")[0] if oracle in rows else None
    lines = []
    for row in rows.values():
        cells = [row.title, *(cell(row.pairs, metric, DIGITS[metric]) for metric in metrics)]
        cells += [f"{np.mean([each[name] for each in row.sets]):+.{DIGITS[name]}f}" for name in combs]
        if with_lr:
            cells.append(cell(row.lr, "niqe", DIGITS["niqe"]))
        if best is not None:
            cells.append(f"{best - mean_and_spread(row.pairs, 'psnr_y')[0]:.2f}")
        if against_it is not None:
            same = row is against_it
            cells += [
                "" if same else difference(row.pairs, against_it.pairs, m, DIGITS[m]) for m in ("psnr_y", "ssim_y")
            ]
        lines.append([*cells, str(len(row.pairs)), f"{row.seconds:.0f}" if row.seconds else ""])
    return markdown([*header, "seeds", "seconds"], lines)


def cell(runs: Sequence[Scores], metric: str, digits: int) -> str:
    """Write a mean, and the spread over seeds when there are several."""
    mean, spread = mean_and_spread(runs, metric)
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(runs) > 1 else "")


def difference(runs: Sequence[Scores], reference: Sequence[Scores], metric: str, digits: int) -> str:
    """Write what `against` finds."""
    return in_words(against(runs, reference, metric), digits)


def in_words(apart: Mapping[str, float], digits: int) -> str:
    """Write a difference with its error and p, as `against` returns them."""
    p = "p < 0.001" if apart["p"] < 0.001 else f"p = {apart['p']:.3f}"
    return f"{apart['difference']:+.{digits}f} ± {apart['error']:.{digits}f}, {p}"
