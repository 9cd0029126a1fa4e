"""Say what each figure of `upsample eval` is, and which of its values are better; write all of them as one table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from degrade.realism.scores import Scorer
from upsample.evaluation.scenes import HR


class Figure(NamedTuple):
    """Describe a figure.

    Attributes:
        key: its name in the JSON file.
        label: what it is, for readers.
        better: the better values: "higher", "lower", "near 0", "near 0.5", and "as hr" for the value of HR.
    """

    key: str
    label: str
    better: str


OF_IMAGES = (
    Figure("psnr_y", "PSNR of Y, dB", "higher"),
    Figure("ssim_y", "SSIM of Y", "higher"),
    Figure("feature_distance", "distance of pretrained features of each pair, uncalibrated", "lower"),
    Figure("consistency", "PSNR of SR degraded again against its LR, dB", "as hr"),
)
OF_SETS = (
    Figure("spectrum_distance", "power spectrum: mean absolute log ratio to HR", "lower"),
    Figure("comb", "comb: what repeats with the period of the scale, less that of HR (log energy)", "near 0"),
    Figure("comb_peak", "the strongest frequency of the comb", "near 0"),
    Figure("classifier_accuracy", "accuracy of a classifier, set against HR", "near 0.5"),
    Figure("classifier_auc", "area under the ROC curve of that classifier", "near 0.5"),
    Figure("kid", "KID: kernel distance of pretrained features to HR", "lower"),
)
HOW_TO_READ = (
    "No figure decides alone. PSNR and SSIM like blur; a score without a reference, such as NIQE, likes sharpening and "
    "texture, false or true; so look at both kinds, at comb, KID and the pictures."
)
ABOUT_HR = (
    "hr: scores without a reference of HR itself, and as measure of a set one half of HR against the other half: what "
    "real photographs differ by. Spectrum and comb of SR can be below it, because SR shows the scenes of its HR."
)


def figures_of(scorers: Mapping[str, Scorer]) -> list[Figure]:
    """List all figures in the order of the table; those of pyiqa stand behind SSIM-Y."""
    given = [
        Figure(
            name,
            f"{name}, {'without a reference' if scorer.metric_mode == 'NR' else 'against HR'} (pyiqa)",
            "lower" if scorer.lower_better else "higher",
        )
        for name, scorer in scorers.items()
    ]
    return [*OF_IMAGES[:2], *given, *OF_IMAGES[2:], *OF_SETS]


def describe(figures: Sequence[Figure], *scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, str]]:
    """Describe the figures that were computed for any set, by key, for the report."""
    computed = {key for by_set in scores for values in by_set.values() for key in values}
    return {each.key: {"label": each.label, "better": each.better} for each in figures if each.key in computed}


def columns_of(report: Mapping[str, Any]) -> list[str]:
    """List the sets in the order of the table, with HR as the last."""
    names = dict.fromkeys([*report["mean"], *report["sets"]])
    return sorted(names, key=lambda name: name == HR)


def value_of(report: Mapping[str, Any], key: str, name: str) -> float | None:
    """Return a figure of a set, or None if there is none: HR has no PSNR."""
    scores: dict[str, float] = report["mean"].get(name, {}) | report["sets"].get(name, {})
    return scores.get(key)


def table_text(report: Mapping[str, Any]) -> str:
    """Write all figures as a table of plain text: one row for each figure, one column for each set."""
    columns = columns_of(report)
    widths = [max(10, len(name) + 2) for name in columns]
    lines = [f"{'':20}{'better':10}" + "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))]
    for key, figure in report["figures"].items():
        values = (value_of(report, key, name) for name in columns)
        cells = ("-" if value is None else f"{value:.4f}" for value in values)
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        lines.append(f"{key:20}{figure['better']:10}{row}")
    return "\n".join(lines)
