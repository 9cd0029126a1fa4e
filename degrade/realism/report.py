"""Write the realism report: how realistic, varied, controllable and faithful to its HR is the LR of a degrader?

`evaluate` gathers the crops, computes every figure for several seeds, and writes report.json, report.md and
report.html. The same figures are computed for bicubic downsampling, for Real-ESRGAN's recipe and, where it makes sense,
for real LR against other real LR.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from degrade.degrader import RealisticDegrader
from degrade.files.sources import list_sources
from degrade.files.store import write_atomic
from degrade.images.crops import ImagePool, list_lr
from degrade.mix import DegradationMix, fingerprint, reference_codes
from degrade.ops.compress import JPEG_BLOCK
from degrade.realism.budget import DEFAULT_BUDGET, Budget
from degrade.realism.columns import LABELS, Column, Figures
from degrade.realism.control import (
    KnownPairs,
    control,
    crop_real_pairs,
    fidelity,
    make_of_pairs,
    make_recipe_pairs,
    score_pairs,
)
from degrade.realism.hiding import hiding
from degrade.realism.nearness import compare_sets
from degrade.realism.page import Evidence, write_page
from degrade.realism.scores import Scorer, load_scorers, score_distances
from degrade.realism.sets import (
    CropSets,
    clean_downsampling,
    codes_of,
    gather,
    make,
    make_baseline,
    make_like,
)
from degrade.realism.tables import report_markdown
from degrade.realism.variety import diversity, known_spreads

# Distances that are 0 between equal sets, so that their ratio to Real-ESRGAN's shows how much nearer ours is.
RATIOS = ("kid", "frechet", "kid_matched_scenes", "spectrum_distance", "w1_mean_in_real_sd")
SHEET_ROWS = 6


@dataclass(frozen=True, kw_only=True)
class RealismConfig:
    """Set what a realism report compares.

    Attributes:
        real_lr: real LR images: a folder, a text list, or shards (their ``lr`` members).
        hr_dir: HR images: a folder, a text list, or shards.
        pairs: folders (hr, lr) of real pairs, or None.
        degrader: the degrader under test: a shipped name, a folder or a hub id.
        before: another degrader to compare with, such as the one that training started from; "" for none.
        reference_dir: folder of photographs to encode the degrader's codes from; "" uses ``codes``.
        codes: source of the degrader's codes: "bank" draws them from its bank, "real" encodes them from the half of the
            real images that nothing is measured against.
        scale: HR side / LR side.
        crops: number of crops in every set, at least 16.
        crop_size: side of an LR crop in pixels, a multiple of 8, at least 32.
        seeds: number of repetitions; each has its own halves, crops and draws.
        steps: network calls of the degrader for each crop.
        max_hr_side: HR images with a longer side are area-reduced by 2 until they fit; 0 never reduces them.
        scores: no-reference metrics of pyiqa to add, ``NAME`` or ``NAME=FILE``.
    """

    real_lr: Path
    hr_dir: Path
    pairs: tuple[Path, Path] | None = None
    degrader: str = "tiny-x4"
    before: str = ""
    reference_dir: str = ""
    codes: str = "bank"
    scale: int = 4
    crops: int = 200
    crop_size: int = 64
    seeds: int = 3
    steps: int = 1
    max_hr_side: int = 3000
    scores: tuple[str, ...] = ()


def evaluate(
    config: RealismConfig,
    out: Path,
    *,
    command: str = "",
    progress: Callable[[str], None] = lambda line: None,
    budget: Budget = DEFAULT_BUDGET,
) -> dict[str, Any]:
    """Compute all figures, and write report.json, report.md (the tables, for a model card) and report.html.

    Args:
        config: what to compare.
        out: folder of the report; it is created if needed.
        command: the command line, to show in the report.
        progress: function that receives a line about each stage.
        budget: how much to compute for each seed.

    Returns:
        The content of report.json.

    Raises:
        ValueError: a setting is invalid, or images, a degrader or a metric cannot be used.
    """
    started = time.monotonic()
    _check(config)
    learned = _learned(config)
    side, scale = config.crop_size, config.scale
    real = ImagePool.open(list_lr(config.real_lr), min_side=side)
    hr = ImagePool.open(list_sources(config.hr_dir), min_side=side * scale, max_side=config.max_hr_side)
    left_out: list[str] = []  # of the pairs; the photographs name more while they are cut
    pairs = None
    if config.pairs is not None:
        pairs, pairs_left_out = crop_real_pairs(*config.pairs, scale=scale, side=side)
        left_out += pairs_left_out
    scorers = load_scorers(config.scores, only="NR")
    runs: list[dict[str, Figures]] = []
    evidence: Evidence | None = None
    for seed in range(config.seeds):
        progress(f"seed {seed + 1} of {config.seeds}: making {config.crops} crops of every set")
        from_real = config.codes == "real"
        sets = gather(real, hr, learned, count=config.crops, side=side, seed=seed, codes_from_real=from_real)
        known = make_recipe_pairs(hr, max(16, config.crops // 2), scale=scale, side=side, seed=seed)
        progress(f"seed {seed + 1} of {config.seeds}: computing the figures")
        runs.append(_measure(sets, known, pairs, learned[Column.OURS], scorers, budget, seed))
        evidence = evidence or _evidence(sets, pairs, learned[Column.OURS])
    assert evidence is not None
    report: dict[str, Any] = {
        "settings": json.loads(json.dumps(asdict(config), default=str)),
        "degrader_sha256": {name: fingerprint(each.degrader) for name, each in learned.items() if each.degrader},
        "images": {"real_lr": len(real.sources), "hr": len(hr.sources), "pair_crops": len(pairs.lr) if pairs else 0},
        "left_out": real.left_out + hr.left_out + left_out,
        **_summary(runs),
        "command": command,
        "seconds": round(time.monotonic() - started, 1),
    }
    _write(report, evidence, out)
    return report


def _check(config: RealismConfig) -> None:
    if config.codes not in ("bank", "real"):
        raise ValueError(f"codes {config.codes!r} is unknown; use 'bank' or 'real'")
    if config.codes == "real" and config.reference_dir:
        raise ValueError("codes 'real' and a reference folder were both given; choose one source of the codes")
    if config.crop_size % JPEG_BLOCK or config.crop_size < 4 * JPEG_BLOCK:
        raise ValueError(
            f"crop size {config.crop_size} does not fit JPEG blocks; "
            f"use a multiple of {JPEG_BLOCK}, at least {4 * JPEG_BLOCK}"
        )
    if config.crops < 16:
        raise ValueError(f"{config.crops} crops are too few to compute distances; use at least 16, better 200")


def _learned(config: RealismConfig) -> dict[str, DegradationMix]:
    """Load the degraders under test: ``ours``, and ``before`` where one is given."""
    names = {Column.OURS: config.degrader} | ({Column.BEFORE: config.before} if config.before else {})
    learned: dict[str, DegradationMix] = {}
    for column, name in names.items():
        degrader = RealisticDegrader.from_pretrained(name).eval().requires_grad_(False)
        codes = None
        if config.reference_dir:
            codes = torch.tensor(reference_codes(degrader, Path(config.reference_dir)))
        learned[column] = DegradationMix(degrader, None, scale=config.scale, steps=config.steps, codes=codes)
    return learned


def _measure(
    sets: CropSets,
    known: KnownPairs,
    pairs: KnownPairs | None,
    mix: DegradationMix,
    scorers: dict[str, Scorer],
    budget: Budget,
    seed: int,
) -> dict[str, Figures]:
    """Compute all figures of one seed, by section of the report.

    Args:
        sets: crops to compare with real ones.
        known: pairs made by recipes.
        pairs: real pairs, or None.
        mix: the degrader under test.
        scorers: no-reference metrics by name.
        budget: how much to compute.
        seed: seed of every draw.
    """
    made_of_hr = {name: crops for name, crops in sets.made.items() if name != Column.REAL}
    distances = compare_sets(sets, scale=mix.scale, classifier_steps=budget.classifier_steps, seed=seed)
    repeats = {"crops": budget.varied_crops, "samples": budget.samples, "seed": seed}
    sections = {
        "realism": distances | score_distances(sets, scorers),
        "diversity": diversity(sets, mix, **repeats) | known_spreads(known, mix, **repeats),
        "control_recipes": control(known, mix, seed=seed),
        "fidelity": fidelity(sets.hr, made_of_hr, mix.scale),
    }
    steps = budget.upscaler_steps
    if pairs is None:
        sections["hiding"] = hiding(sets.hr, made_of_hr, mix.scale, steps=steps, seed=seed)
    else:
        made_of_pairs = make_of_pairs(pairs, mix, seed=seed)
        sections["hiding"] = hiding(pairs.hr, made_of_pairs, mix.scale, steps=steps, seed=seed)
        sections["pairs"] = score_pairs(pairs, mix, crops=budget.scored_crops, samples=budget.samples, seed=seed)
        sections["control_pairs"] = control(pairs, mix, seed=seed)
        sections["fidelity_pairs"] = fidelity(pairs.hr, made_of_pairs, mix.scale)
    return sections


def _evidence(sets: CropSets, pairs: KnownPairs | None, mix: DegradationMix) -> Evidence:
    """Gather what the page shows of one seed: its sets, their codes, and a contact sheet."""
    codes = {name: codes_of(crops, mix).double().numpy() for name, crops in sets.shown().items()}
    hr, lr, reference = (pairs.hr, pairs.lr, pairs.reference) if pairs else (sets.hr, None, None)
    shown = np.linspace(0, len(hr) - 1, min(SHEET_ROWS, len(hr))).round().astype(int)
    columns = {"HR": hr[shown], "clean downsampling": clean_downsampling(hr[shown], mix.scale)}
    if lr is not None and reference is not None:
        columns[LABELS[Column.REAL]] = lr[shown]
        columns[LABELS[Column.OURS_LIKE]] = make_like(hr[shown], mix, codes_of(reference[shown], mix), seed=0)
    for draw in range(2 if pairs else 3):
        columns[f"{LABELS[Column.OURS]}, draw {draw + 1}"] = make(hr[shown], mix, seed=draw)
    columns[LABELS[Column.REAL_ESRGAN]] = make_baseline(hr[shown], Column.REAL_ESRGAN, mix.scale, seed=0)
    return Evidence(sets, codes, list(columns), list(zip(*columns.values(), strict=True)))


def _summary(runs: list[dict[str, Figures]]) -> dict[str, Any]:
    """Summarise every figure over the seeds; add how near ours is relative to Real-ESRGAN."""
    sections: dict[str, Any] = {section: _mean_and_sd([run[section] for run in runs]) for section in runs[0]}
    ratios = {metric: _ratio(sections["realism"][metric]) for metric in RATIOS}
    return sections | {"ours_over_real_esrgan": ratios}


def _mean_and_sd(runs: list[Figures]) -> dict[str, dict[str, dict[str, float]]]:
    merged: dict[str, dict[str, dict[str, float]]] = {}
    for metric, by_set in runs[0].items():
        merged[metric] = {}
        for name in by_set:
            values = [run[metric][name] for run in runs if name in run.get(metric, {})]
            merged[metric][name] = {"mean": float(np.mean(values)), "sd": float(np.std(values))}
    return merged


def _ratio(figures: dict[str, dict[str, float]]) -> float | None:
    ours, theirs = figures[Column.OURS]["mean"], figures[Column.REAL_ESRGAN]["mean"]
    return ours / theirs if theirs > 0 and math.isfinite(ours) else None


def _write(report: dict[str, Any], evidence: Evidence, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "report.json", json.dumps(report, indent=2).encode())
    write_atomic(out / "report.md", report_markdown(report).encode())
    write_page(report, evidence, out / "report.html")
