"""Define the tables of the realism report, with labels for people who take photographs, and write them."""

from html import escape
from typing import Any, NamedTuple

from degrade.realism.budget import DEFAULT_BUDGET
from degrade.realism.columns import LABELS, Column
from degrade.realism.distances import COVERAGE_K, PRECISION_K


class Table(NamedTuple):
    """Define one table.

    Attributes:
        section: section of the report that holds the figures.
        title: heading of the table.
        note: how to read the table.
        columns: columns to show where they were measured.
        rows: metric and label of each row.
    """

    section: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]


ALL = (Column.REAL, Column.OURS, Column.BEFORE, Column.REAL_ESRGAN, Column.LIGHT, Column.BICUBIC)
MADE = (Column.OURS, Column.BEFORE, Column.REAL_ESRGAN, Column.LIGHT, Column.BICUBIC)
CONTROLLED = (Column.OURS_LIKE, Column.OURS_WRONG, Column.REAL_ESRGAN, Column.LIGHT, Column.BICUBIC)
CHANGES = (
    ("correlation_log_noise", "noise: correlation of the change"),
    ("correlation_log_sharpness", "sharpness: correlation of the change"),
    ("correlation_blockiness", "JPEG blocks: correlation of the change"),
    ("high_band_energy_ratio", "energy of fine detail and grain over that of the true LR (1 is right)"),
    ("top_quarter_energy_ratio", "energy above 3/8 of the sampling rate over that of the true LR (1 is right)"),
)

TABLES = (
    Table(
        "realism", "Distance to real images",
        "Smaller is better, except where a row says otherwise. The real column compares real images with other real "
        "images: it is the noise floor. If the HR images are the partners of the real images, generated sets can lie "
        "below it, because they show the same scenes. The features come from a small network that sees grain, blur and "
        "block edges, but not objects.",
        ALL,
        (
            ("kid", "KID: kernel distance of features"),
            ("kid_matched_scenes", "KID of crops that show similar scenes"),
            ("frechet", "Fréchet distance of features"),
            ("spectrum_distance", "power spectrum: mean absolute log ratio"),
            ("w1_mean_in_real_sd", "image statistics: mean distance, in standard deviations of the real ones"),
            ("classifier_accuracy", "accuracy of a classifier, against real (0.5 is guessing)"),
            ("classifier_auc", "area under the ROC curve of that classifier (0.5 is guessing)"),
            ("taken_for_real", "share that a classifier of all columns calls real (best: equal to the real column)"),
        ),
    ),
    Table(
        "realism", "Image statistics, one by one",
        "Wasserstein-1 distance to the real images, in the unit of the statistic. Smaller is better.",
        ALL,
        (
            ("w1_noise_sigma", "noise, grey levels"),
            ("w1_noise_correlation_x", "grain: correlation with the pixel to the right"),
            ("w1_noise_correlation_y", "grain: correlation with the pixel below"),
            ("w1_noise_correlation_down", "grain: correlation along ↘"),
            ("w1_noise_correlation_up", "grain: correlation along ↙"),
            ("w1_chroma_noise_ratio", "colour noise over luma noise"),
            ("w1_edge_width_px", "width of edges, px"),
            ("w1_log_sharpness", "sharpness (log Laplacian)"),
            ("w1_blockiness", "JPEG blocks (log ratio)"),
            ("w1_jpeg_loss", "estimated JPEG quality"),
            ("w1_ringing", "ringing beside edges"),
            ("w1_clipped_share", "share of clipped pixels"),
        ),
    ),
    Table(
        "realism", "Variety",
        "Recall and coverage show how much of the real variety a set covers. Precision and density show how much of "
        "the set lies among the real images. Higher is better. The slope should be close to that of the real column.",
        ALL,
        (
            ("precision", f"precision (k = {PRECISION_K})"),
            ("recall", f"recall (k = {PRECISION_K})"),
            ("density", f"density (k = {COVERAGE_K})"),
            ("coverage", f"coverage (k = {COVERAGE_K})"),
            ("spectrum_slope", "slope of the spectrum above half Nyquist"),
        ),
    ),
    Table(
        "diversity", "Where the variety comes from",
        "Each HR crop is degraded several times, with new noise, with a new look, or with both. The look is the "
        "degrader's code, or the parameters of a recipe. All figures are standard deviations: in the first five "
        "rows of fine detail, in grey levels; in the other rows of an image statistic, in its unit.",
        ALL,
        (
            ("spread_of_both", "spread of draws: new noise and look"),
            ("spread_of_noise_alone", "spread of draws: new noise only"),
            ("spread_of_look_alone", "spread of draws: new look only"),
            ("known_spread_of_noise", "new noise only, look of a recipe (real column: the recipe)"),
            ("known_spread_of_look_and_noise", "new noise and look, looks of recipes (real column: the recipes)"),
            ("deviation_within_noise_sigma", "noise level: draws of one HR crop"),
            ("deviation_over_all_noise_sigma", "noise level: all crops"),
            ("deviation_within_edge_width_px", "edge width: draws of one HR crop"),
            ("deviation_over_all_edge_width_px", "edge width: all crops"),
            ("deviation_within_log_sharpness", "sharpness: draws of one HR crop"),
            ("deviation_over_all_log_sharpness", "sharpness: all crops"),
            ("deviation_within_blockiness", "JPEG blocks: draws of one HR crop"),
            ("deviation_over_all_blockiness", "JPEG blocks: all crops"),
        ),
    ),
    Table(
        "control_recipes", "Does it follow a reference? Degradations of recipes",
        "The reference is another photograph with the same degradation as the true LR. The rows compare how the output "
        "and the true LR differ from clean downsampling. The wrong reference and the baselines show how much of a "
        "correlation is due to the scene alone.",
        CONTROLLED, CHANGES,
    ),
    Table(
        "control_pairs", "Does it follow a reference? Real pairs",
        "The same on real pairs, where the reference is another crop of the same photograph. Photographs of one camera "
        "have similar degradations, so a wrong reference among them is hardly wrong.",
        CONTROLLED, CHANGES,
    ),
    Table(
        "pairs", "Against the true LR of real pairs",
        f"Each HR crop is degraded several times ({DEFAULT_BUDGET.samples} by default; once by bicubic). The right "
        "reference is another crop of the same photograph; the other columns have no reference. Energy score and CRPS "
        "are lowest when the true LR could be one of the samples.",
        (Column.OURS_LIKE, Column.OURS, Column.REAL_ESRGAN, Column.BICUBIC),
        (
            ("psnr_single", "PSNR of single samples, dB"),
            ("psnr_best", "PSNR of the best sample, dB"),
            ("psnr_of_mean", "PSNR of the mean of all samples, dB"),
            ("ssim_single", "SSIM of single samples"),
            ("ssim_best", "SSIM of the best sample"),
            ("high_band_l1_single", "fine detail of single samples: mean difference, grey levels"),
            ("high_band_l1_best", "fine detail of the best sample: mean difference, grey levels"),
            ("high_band_l1_of_mean", "fine detail of the mean of all samples: mean difference, grey levels"),
            ("akld", "AKLD: divergence of the local strength of noise"),
            ("energy_score", "energy score, grey levels"),
            ("crps", "CRPS, grey levels"),
            ("rank_unevenness", "unevenness of the ranks of the true LR (0: the spread is right)"),
        ),
    ),
    Table(
        "hiding", "Does the LR hide detail of its HR?",
        "A small upscaler is trained on each set, and then tested on slightly disturbed crops of the same set. If the "
        "LR hides detail of its HR, the PSNR drops more than for real LR or for a recipe.",
        (Column.REAL, Column.OURS, Column.OURS_LIKE, Column.BEFORE, Column.REAL_ESRGAN, Column.LIGHT, Column.BICUBIC),
        (
            ("hiding_psnr", "PSNR of the upscaler, dB"),
            ("hiding_drop_last_bit", "drop with noise in the last bit, dB"),
            ("hiding_drop_jpeg_95", "drop after JPEG of quality 95, dB"),
            ("hiding_drop_half_pixel_blur", "drop after a blur of half a pixel, dB"),
        ),
    ),
    Table(
        "fidelity", "Is it faithful to the HR?",
        "Compared with clean downsampling of the same HR. Smaller is better.",
        MADE,
        (
            ("colour_shift_delta_e", "mean colour shift, ΔE"),
            ("low_frequency_error", "low frequencies: mean difference, grey levels"),
            ("shift_px", "median shift, LR px"),
        ),
    ),
    Table(
        "fidelity_pairs", "Is it faithful to the HR? Real pairs",
        "The same on real pairs. The real column shows how much real LR photographs themselves differ, after their "
        "exposure was matched.",
        (Column.REAL, Column.OURS_LIKE, Column.REAL_ESRGAN, Column.LIGHT, Column.BICUBIC),
        (
            ("colour_shift_delta_e", "mean colour shift, ΔE"),
            ("low_frequency_error", "low frequencies: mean difference, grey levels"),
            ("shift_px", "median shift, LR px"),
        ),
    ),
)  # fmt: skip


def tables_of(report: dict[str, Any]) -> list[Table]:
    """Return the tables of a report: `TABLES`, and one of no-reference scores if there are any."""
    names = [given.partition("=")[0] for given in report["settings"]["scores"]]
    if not names:
        return list(TABLES)
    note = (
        "Real LR looks bad, so a good score is not the aim. The distributions of the scores should be close to each "
        "other, and the means should agree."
    )
    rows = [
        row
        for name in names
        for row in ((f"w1_score_{name}", f"{name}: distance (Wasserstein-1)"), (f"mean_score_{name}", f"{name}: mean"))
    ]
    return [*TABLES, Table("realism", "No-reference scores", note, ALL, tuple(rows))]


def table_html(table: Table, report: dict[str, Any]) -> str:
    """Write one table as HTML; an empty string if the report lacks its section."""
    figures = report.get(table.section)
    if not figures:
        return ""
    several = report["settings"]["seeds"] > 1
    columns = _columns(table, figures)
    head = "".join(f"<th>{escape(LABELS[name])}</th>" for name in columns)
    rows = []
    for metric, label in table.rows:
        if metric in figures:
            cells = "".join(_cell(figures[metric].get(name), name, several) for name in columns)
            rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    grid = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<h3>{escape(table.title)}</h3><p>{escape(table.note)}</p><div class='scroll'>{grid}</div>"


def report_markdown(report: dict[str, Any]) -> str:
    """Write the command and all tables as Markdown, for a model card or an issue."""
    parts = [f"`{report['command']}`"] if report["command"] else []
    for table in tables_of(report):
        figures = report.get(table.section)
        if not figures:
            continue
        columns = _columns(table, figures)
        lines = [
            f"| {table.title} | {' | '.join(LABELS[name] for name in columns)} |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for metric, label in table.rows:
            if metric in figures:
                cells = (_text(figures[metric].get(name), report["settings"]["seeds"] > 1) for name in columns)
                lines.append(f"| {label} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def number(value: float) -> str:
    """Write a number with about three significant digits, without exponent, and with a real minus sign."""
    size = abs(value)
    text = f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
    return text.replace("-", "−")


def _columns(table: Table, figures: dict[str, Any]) -> list[str]:
    """Return the columns of a table that were measured."""
    measured = {name for metric, _ in table.rows for name in figures.get(metric, {})}
    return [name for name in table.columns if name in measured]


def _text(value: dict[str, float] | None, several: bool) -> str:
    if value is None:
        return "–"
    return number(value["mean"]) + (f" ± {number(value['sd'])}" if several else "")


def _cell(value: dict[str, float] | None, name: str, several: bool) -> str:
    if value is None:
        return '<td class="none">–</td>'
    spread = f" <small>± {number(value['sd'])}</small>" if several else ""
    return f'<td class="{name}">{number(value["mean"])}{spread}</td>'
