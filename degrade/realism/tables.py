"""What each figure of the realism report is called, and what it says, for people who take photographs."""

from html import escape
from typing import Any, NamedTuple

from degrade.realism.columns import LABELS, Column


class Table(NamedTuple):
    """A table of the page.

    Attributes:
        section: of the report.
        title: heading.
        note: how to read it.
        columns: sets shown, by name.
        rows: metric and its label.
    """

    section: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]


ALL = (Column.REAL, Column.OURS, Column.BEFORE, Column.REAL_ESRGAN, Column.BICUBIC)
MADE = (Column.OURS, Column.BEFORE, Column.REAL_ESRGAN, Column.BICUBIC)
CONTROLLED = (Column.OURS_LIKE, Column.OURS_WRONG, Column.REAL_ESRGAN, Column.BICUBIC)
CHANGES = (
    ("correlation_log_noise", "noise, correlation of the change"),
    ("correlation_log_sharpness", "sharpness, correlation of the change"),
    ("correlation_blockiness", "JPEG blocks, correlation of the change"),
    ("high_band_energy_ratio", "fine detail and grain, over the truth's (1 is right)"),
)

TABLES = (
    Table(
        "realism", "Distance to real images",
        "Smaller is nearer. The real column compares real images with other real ones: the floor of what can be told. "
        "Sets made of the partners of real images can lie below it, since they show the same scenes. "
        "Features are those of a small network that sees grain, blur and block edges, not objects.",
        ALL,
        (
            ("kid", "KID (kernel distance of features)"),
            ("kid_matched_scenes", "KID on crops whose scenes look alike"),
            ("frechet", "Fréchet distance of features"),
            ("spectrum_distance", "power spectrum, mean absolute log ratio"),
            ("w1_mean_in_real_sd", "blind measurements, mean distance in real spreads"),
            ("classifier_accuracy", "classifier tells it from real (0.5 is guessing)"),
            ("classifier_auc", "the same, area under ROC (0.5 is guessing)"),
            ("taken_for_real", "share that a classifier of all columns calls real (best: as the real column)"),
        ),
    ),
    Table(
        "realism", "Blind measurements, one by one",
        "Wasserstein-1 distance to the real images, in the unit of the measurement. Smaller is nearer.",
        ALL,
        (
            ("w1_noise_sigma", "noise, grey levels"),
            ("w1_noise_correlation_x", "grain, correlation sideways"),
            ("w1_noise_correlation_y", "grain, correlation downwards"),
            ("w1_noise_correlation_down", "grain, correlation along ↘"),
            ("w1_noise_correlation_up", "grain, correlation along ↙"),
            ("w1_chroma_noise_ratio", "colour noise over luma noise"),
            ("w1_edge_width_px", "width of edges, px"),
            ("w1_log_sharpness", "sharpness (log Laplacian)"),
            ("w1_blockiness", "JPEG blocks (log ratio)"),
            ("w1_jpeg_loss", "JPEG quality, estimated"),
            ("w1_ringing", "ringing beside edges"),
            ("w1_clipped_share", "share of clipped pixels"),
        ),
    ),
    Table(
        "realism", "Variety",
        "Recall and coverage: how much of the real variety is reached. Precision and density: how much of what is made "
        "lies among the real images. Higher is better; slope: nearer to the real one is better.",
        ALL,
        (
            ("precision", "precision (k = 3)"),
            ("recall", "recall (k = 3)"),
            ("density", "density (k = 5)"),
            ("coverage", "coverage (k = 5)"),
            ("spectrum_slope", "slope of the spectrum above half Nyquist"),
        ),
    ),
    Table(
        "diversity", "Where the variety comes from",
        "The same HR crop degraded eight times. Standard deviations; of the fine band in grey levels.",
        ALL,
        (
            ("spread_of_both", "spread of draws: noise and look"),
            ("spread_of_noise_alone", "spread of draws: noise alone"),
            ("spread_of_look_alone", "spread of draws: look alone"),
            ("known_spread_of_noise", "noise alone, look of a recipe-made photograph (real: the recipe)"),
            ("known_spread_of_look_and_noise", "looks of recipe-made photographs, new noise each (real: the recipes)"),
            ("deviation_within_noise_sigma", "noise level, within draws of one HR"),
            ("deviation_over_all_noise_sigma", "noise level, over all images"),
            ("deviation_within_edge_width_px", "edge width, within draws of one HR"),
            ("deviation_over_all_edge_width_px", "edge width, over all images"),
            ("deviation_within_log_sharpness", "sharpness, within draws of one HR"),
            ("deviation_over_all_log_sharpness", "sharpness, over all images"),
            ("deviation_within_blockiness", "JPEG blocks, within draws of one HR"),
            ("deviation_over_all_blockiness", "JPEG blocks, over all images"),
        ),
    ),
    Table(
        "control_recipes", "Does it follow a reference? Degradations made by recipes",
        "Each output was made like another photograph with the same degradation. Compared is the change against clean "
        "downsampling. The wrong reference and the baselines show how much of a correlation the scene alone gives.",
        CONTROLLED, CHANGES,
    ),
    Table(
        "control_pairs", "Does it follow a reference? Real pairs",
        "The same on real pairs; the reference is another crop of the same photograph. Photographs of one camera look "
        "much alike, so a wrong reference among them is hardly wrong.",
        CONTROLLED, CHANGES,
    ),
    Table(
        "pairs", "Against the true LR of real pairs",
        "Eight samples of each. Told the look: the reference is another crop of the same photograph; the other columns "
        "draw their looks blindly. Energy score and CRPS are lowest when the truth could be one of the samples.",
        (Column.OURS_LIKE, Column.OURS, Column.REAL_ESRGAN, Column.BICUBIC),
        (
            ("psnr_single", "PSNR of a sample, dB"),
            ("psnr_best", "PSNR of the best of 8, dB"),
            ("psnr_of_mean", "PSNR of the mean of 8, dB"),
            ("ssim_single", "SSIM of a sample"),
            ("ssim_best", "SSIM of the best of 8"),
            ("high_band_l1_single", "fine band, mean difference, grey levels"),
            ("high_band_l1_best", "the same, best of 8"),
            ("high_band_l1_of_mean", "the same, mean of 8"),
            ("akld", "AKLD: where and how strong the noise is"),
            ("energy_score", "energy score, grey levels"),
            ("crps", "CRPS, grey levels"),
            ("rank_unevenness", "unevenness of the truth's ranks (0: spread is right)"),
        ),
    ),
    Table(
        "hiding", "Is anything hidden in it?",
        "A small upscaler is trained on each kind of LR, and then given the same LR slightly touched. LR in which the "
        "HR was hidden loses more than real LR does.",
        (Column.REAL, Column.OURS, Column.OURS_LIKE, Column.BEFORE, Column.REAL_ESRGAN, Column.BICUBIC),
        (
            ("hiding_psnr", "PSNR of the upscaler, dB"),
            ("hiding_drop_last_bit", "drop when last bits are noisy, dB"),
            ("hiding_drop_jpeg_95", "drop after JPEG 95, dB"),
            ("hiding_drop_half_pixel_blur", "drop after half a pixel of blur, dB"),
        ),
    ),
    Table(
        "fidelity", "True to the HR",
        "Against clean downsampling of the same HR. Smaller is better.",
        MADE,
        (
            ("colour_shift_delta_e", "colour shift, mean ΔE"),
            ("low_frequency_error", "low frequencies, mean difference in 1/255"),
            ("shift_px", "shift, median, LR px"),
        ),
    ),
    Table(
        "fidelity_pairs", "True to the HR, on real pairs",
        "The same; the real column is what real LR photographs themselves differ (their exposure already matched).",
        (Column.REAL, Column.OURS_LIKE, Column.REAL_ESRGAN, Column.BICUBIC),
        (
            ("colour_shift_delta_e", "colour shift, mean ΔE"),
            ("low_frequency_error", "low frequencies, mean difference in 1/255"),
            ("shift_px", "shift, median, LR px"),
        ),
    ),
)  # fmt: skip


def tables_of(report: dict[str, Any]) -> list[Table]:
    """`TABLES`, and one of the no-reference scores where some were asked for."""
    names = [given.partition("=")[0] for given in report["settings"]["scores"]]
    if not names:
        return list(TABLES)
    note = (
        "Real LR looks bad, so good scores are no aim: what counts is the distance between the distributions of a "
        "score, and that the means agree."
    )
    rows = [
        row
        for name in names
        for row in ((f"w1_score_{name}", f"{name}: distance (Wasserstein-1)"), (f"mean_score_{name}", f"{name}: mean"))
    ]
    return [*TABLES, Table("realism", "No-reference scores", note, ALL, tuple(rows))]


def table_html(table: Table, report: dict[str, Any]) -> str:
    """One table, or nothing where the report has no such section."""
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
    """The same tables as Markdown, for a model card or an issue."""
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
    """Three digits that matter, without scientific notation, and a true minus sign."""
    size = abs(value)
    text = f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
    return text.replace("-", "−")


def _columns(table: Table, figures: dict[str, Any]) -> list[str]:
    """The sets of a table that were measured."""
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
