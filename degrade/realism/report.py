"""The realism report: is the made LR like real LR, in all its variety, under control, and true to its HR?

`evaluate` gathers the crops, computes every figure for several seeds, and writes report.json, report.md and
report.html.
Every figure of ours stands beside the same figure of bicubic, of Real-ESRGAN, and, where there is one, of real LR
against other real LR.
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
from degrade.networks.unet import STRIDE
from degrade.realism.control import (
    KnownPairs,
    control,
    fidelity,
    fidelity_of_pairs,
    real_pairs,
    recipe_pairs,
    score_pairs,
)
from degrade.realism.features import LrFeatures
from degrade.realism.hiding import hiding
from degrade.realism.nearness import compare_sets
from degrade.realism.page import Evidence, write_page
from degrade.realism.scores import Scorer, load_scorers, score_distances
from degrade.realism.sets import (
    CropSets,
    Figures,
    baselines,
    clean_downsampling,
    codes_of,
    gather,
    make,
    make_baseline,
    make_like,
)
from degrade.realism.tables import report_markdown
from degrade.realism.variety import diversity, known_spreads

# Distances that are 0 between equal sets, whose ratio to Real-ESRGAN's says how much nearer ours is.
RATIOS = ("kid", "frechet", "kid_matched_scenes", "spectrum_distance", "w1_mean_in_real_sd")
SHEET_ROWS = 6


@dataclass(frozen=True, kw_only=True)
class RealismConfig:
    """What is compared, and how much of it.

    Attributes:
        real_lr: real LR images: folder, text list, or shards (their ``lr`` members).
        hr_dir: HR images: folder, text list, or shards.
        pairs: folders (hr, lr) of real pairs, or None.
        degrader: shipped name, folder or hub id.
        before: another degrader to stand beside, such as the one that ours was trained from; "" for none.
        reference_dir: take our looks from these photographs; "" for not.
        codes: "bank" draws our looks from the degrader's bank, "real" takes them from the half of the real images that
            is not measured against.
        scale: HR side / LR side.
        crops: in every set.
        crop_size: side of an LR crop, a multiple of 8.
        seeds: repetitions, each with other halves, crops and draws.
        steps: network calls of the degrader.
        max_hr_side: longer HR images are area-reduced by 2 until they fit; 0 = never.
        scores: no-reference metrics of pyiqa to compare too, ``NAME`` or ``NAME=FILE``.
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
    config: RealismConfig, out: Path, *, command: str = "", progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measure, and write report.json, report.md (its tables, for a model card) and report.html into ``out``.

    Args:
        config: what to compare.
        out: folder, made when missing.
        command: how this was called, for the page.
        progress: called with a line now and then.

    Returns:
        What report.json holds.

    Raises:
        ValueError: images, sizes or names do not fit.
    """
    started = time.monotonic()
    _check(config)
    learned = {"ours": _mix(config, config.degrader)}
    if config.before:
        learned["before"] = _mix(config, config.before)
    mix = learned["ours"]
    side, scale = config.crop_size, config.scale
    real = ImagePool.open(list_lr(config.real_lr), min_side=side)
    hr = ImagePool.open(list_sources(config.hr_dir), min_side=side * scale, max_side=config.max_hr_side)
    left_out: list[str] = []  # of the pairs; the photographs name more while they are cut
    pairs = None
    if config.pairs is not None:
        pairs, pairs_left_out = real_pairs(*config.pairs, scale=scale, side=side)
        left_out += pairs_left_out
    features, scorers = LrFeatures.shipped(), load_scorers(config.scores, only="NR")
    runs: list[dict[str, Figures]] = []
    evidence: Evidence | None = None
    for seed in range(config.seeds):
        progress(f"seed {seed + 1} of {config.seeds}: making {config.crops} crops of each kind")
        from_real = config.codes == "real"
        sets = gather(real, hr, learned, count=config.crops, side=side, seed=seed, codes_from_real=from_real)
        progress(f"seed {seed + 1} of {config.seeds}: measuring")
        runs.append(_measure(sets, hr, pairs, mix, features, scorers, config, seed))
        evidence = evidence or _evidence(sets, pairs, mix)
    assert evidence is not None
    report: dict[str, Any] = {
        "settings": json.loads(json.dumps(asdict(config), default=str)),
        "degrader_sha256": {name: fingerprint(each.degrader) for name, each in learned.items() if each.degrader},
        "images": {"real_lr": len(real.sources), "hr": len(hr.sources), "pair_crops": len(pairs.lr) if pairs else 0},
        "left_out": real.left_out + hr.left_out + left_out,
        **{section: _mean_and_sd([run[section] for run in runs]) for section in runs[0]},
    }
    report["ours_over_real_esrgan"] = {
        metric: _ratio(report["realism"][metric]["ours"]["mean"], report["realism"][metric]["real_esrgan"]["mean"])
        for metric in RATIOS
    }
    report["command"] = command
    report["seconds"] = round(time.monotonic() - started, 1)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "report.json", json.dumps(report, indent=2).encode())
    write_atomic(out / "report.md", report_markdown(report).encode())
    write_page(report, evidence, out / "report.html")
    return report


def _check(config: RealismConfig) -> None:
    if config.codes not in ("bank", "real"):
        raise ValueError(f"codes {config.codes!r} is unknown; use 'bank' or 'real'")
    if config.codes == "real" and config.reference_dir:
        raise ValueError("codes 'real' and a reference folder both say where looks come from; give one of them")
    if config.crop_size % STRIDE or config.crop_size < 4 * STRIDE:
        raise ValueError(f"crop size {config.crop_size} does not fit JPEG blocks; use a multiple of 8, at least 32")
    if config.crops < 16:
        raise ValueError(f"{config.crops} crops are too few for any distance; use at least 16, better 200")


def _mix(config: RealismConfig, name: str) -> DegradationMix:
    degrader = RealisticDegrader.from_pretrained(name).eval().requires_grad_(False)
    codes = None
    if config.reference_dir:
        codes = torch.tensor(reference_codes(degrader, Path(config.reference_dir)))
    return DegradationMix(degrader, None, scale=config.scale, steps=config.steps, codes=codes)


def _measure(
    sets: CropSets, hr: ImagePool, pairs: KnownPairs | None, mix: DegradationMix, features: LrFeatures,
    scorers: dict[str, Scorer], config: RealismConfig, seed: int,
) -> dict[str, Figures]:  # fmt: skip
    """All figures of one seed, by section of the report."""
    made_of_hr = {name: crops for name, crops in sets.made.items() if name != "real"}
    known = recipe_pairs(hr, max(16, config.crops // 2), scale=config.scale, side=config.crop_size, seed=seed)
    sections = {
        "realism": compare_sets(sets, features, scale=config.scale, seed=seed) | score_distances(sets, scorers),
        "diversity": diversity(sets, mix, seed=seed) | known_spreads(known, mix, seed=seed),
        "control_recipes": control(known, mix, seed=seed),
        "fidelity": fidelity(sets.hr, made_of_hr, config.scale),
    }
    if pairs is None:
        sections["hiding"] = hiding(sets.hr, made_of_hr, config.scale, seed=seed)
    else:
        like = make_like(pairs.hr, mix, codes_of(pairs.reference, mix), seed)
        of_pairs = {"real": pairs.lr, "ours_like": like, **baselines(pairs.hr, config.scale, seed)}
        sections["hiding"] = hiding(pairs.hr, of_pairs, config.scale, seed=seed)
        sections["pairs"] = score_pairs(pairs, mix, seed=seed)
        sections["control_pairs"] = control(pairs, mix, seed=seed)
        sections["fidelity_pairs"] = fidelity_of_pairs(pairs, mix, seed=seed)
    return sections


def _evidence(sets: CropSets, pairs: KnownPairs | None, mix: DegradationMix) -> Evidence:
    """What the page shows of one seed: its sets, their codes, and a contact sheet."""
    codes = {name: codes_of(crops, mix).double().numpy() for name, crops in sets.shown().items()}
    hr, lr, reference = (pairs.hr, pairs.lr, pairs.reference) if pairs else (sets.hr, None, None)
    shown = np.linspace(0, len(hr) - 1, min(SHEET_ROWS, len(hr))).round().astype(int)
    columns = {"HR": hr[shown], "clean": clean_downsampling(hr[shown], mix.scale)}
    if lr is not None and reference is not None:
        columns["real"] = lr[shown]
        columns["ours, told the look"] = make_like(hr[shown], mix, codes_of(reference[shown], mix), seed=0)
    for draw in range(2 if pairs else 3):
        columns[f"ours, draw {draw + 1}"] = make(hr[shown], mix, seed=draw)
    columns["Real-ESRGAN"] = make_baseline(hr[shown], "real_esrgan", mix.scale, seed=0)
    return Evidence(sets, codes, list(columns), list(zip(*columns.values(), strict=True)))


def _mean_and_sd(runs: list[Figures]) -> dict[str, dict[str, dict[str, float]]]:
    merged: dict[str, dict[str, dict[str, float]]] = {}
    for metric, by_set in runs[0].items():
        merged[metric] = {}
        for name in by_set:
            values = [run[metric][name] for run in runs if name in run.get(metric, {})]
            merged[metric][name] = {"mean": float(np.mean(values)), "sd": float(np.std(values))}
    return merged


def _ratio(ours: float, theirs: float) -> float | None:
    return ours / theirs if theirs > 0 and math.isfinite(ours) else None
