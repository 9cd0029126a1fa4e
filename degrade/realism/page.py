"""Write the realism report as one HTML file that needs no other files: pictures first, then numbers."""

import base64
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from degrade.files.store import write_atomic
from degrade.images.codec import encode_image
from degrade.images.geometry import Rgb
from degrade.realism.charts import histogram, legend, principal_axes, scatter, spectra
from degrade.realism.columns import LABELS, Column
from degrade.realism.distances import Array
from degrade.realism.sets import CropSets
from degrade.realism.statistics import radial_spectrum, spectrum_frequencies, table_of
from degrade.realism.tables import number, table_html, tables_of

HISTOGRAMS = {
    "noise_sigma": "Noise, grey levels",
    "chroma_noise_ratio": "Ratio of colour noise to luma noise",
    "noise_correlation_x": "Grain: correlation with the pixel to the right (0 is white noise)",
    "edge_width_px": "Width of edges, px",
    "log_sharpness": "Sharpness",
    "blockiness": "JPEG blocks (0 is none)",
    "jpeg_loss": "100 minus the estimated JPEG quality (0 is no JPEG)",
    "ringing": "Ringing beside edges",
    "clipped_share": "Share of clipped pixels",
}
BLIND_EACH = 12  # real crops and generated crops in the blind test
HR_QUALITY = 92  # JPEG quality of the HR crops on the page


@dataclass(frozen=True)
class Evidence:
    """Hold the pictures and codes of the first seed, which the page shows.

    Attributes:
        sets: the crops.
        codes: codes of each column, (N, code_dim); ``real`` is the half that sets are measured against.
        columns: titles of the columns of the contact sheet.
        rows: images of the contact sheet, row by row: the HR first, then LR.
    """

    sets: CropSets
    codes: dict[str, Array]
    columns: Sequence[str]
    rows: Sequence[Sequence[Rgb]]


def write_page(report: dict[str, Any], evidence: Evidence, path: Path) -> None:
    """Write report.html.

    Args:
        report: content of report.json.
        evidence: crops and codes to show.
        path: file to write.
    """
    settings = report["settings"]
    name = Path(settings["degrader"]).name
    body = [
        f"<header><p class='over'>Realism report</p><h1>{escape(name)}</h1>{_lead(report)}</header>",
        _tiles(report),
        section("What it generates", "The LR is enlarged without smoothing.", _sheet(evidence)),
        section(
            "Real or generated?",
            f"These are {BLIND_EACH} crops of real LR images and {BLIND_EACH} that the degrader generated, in random "
            "order. Select those that you think were generated, then click Reveal. If you guess, about half are right.",
            _blind(evidence.sets),
        ),
        section(
            "Image statistics",
            "Each chart shows how often a value occurs. The grey area shows the real images; the line of a good "
            "degrader follows its outline. W1 is the Wasserstein-1 distance to the real images, averaged over all "
            "seeds.",
            legend(list(evidence.codes)) + _histograms(report, evidence.sets),
        ),
        section("Spectra and codes", "", _spectra_and_codes(evidence)),
        section(
            "All figures", _figures_note(settings), "".join(table_html(table, report) for table in tables_of(report))
        ),
        section("How this was measured", "", _method(report)),
    ]
    script = f"<script>\n{_packaged('page.js')}</script>"
    write_atomic(path, document(f"Realism report: {name}", "".join(body), script).encode())


def document(title: str, body: str, script: str = "") -> str:
    """Write a page that needs no other files, in the style of our reports.

    Args:
        title: what the browser shows as its title.
        body: HTML of the page.
        script: HTML behind it.
    """
    head = f"<meta charset='utf-8'><title>{escape(title)}</title><style>\n{_packaged('page.css')}</style>"
    head += "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body><main>{body}</main>{script}</body></html>"


def section(title: str, note: str, content: str) -> str:
    """Write a section of a page: its heading, what to know about it (text), and its content (HTML)."""
    lead = f"<p>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{content}</section>"


def picture(image: Rgb, alt: str, *, photograph: bool = False) -> str:
    """Embed an image in an HTML element: as PNG, or as JPEG for an HR photograph."""
    kind = ("jpg", "jpeg") if photograph else ("png", "png")
    data = encode_image(image, kind[0], HR_QUALITY if photograph else None)
    source = f"data:image/{kind[1]};base64,{base64.b64encode(data).decode()}"
    look = "" if photograph else " class='pixels'"
    return (
        f"<img src='{source}' alt='{escape(alt, quote=True)}'{look} width='{image.shape[1]}' height='{image.shape[0]}'>"
    )


def _packaged(name: str) -> str:
    return files("degrade").joinpath("realism", name).read_text(encoding="utf-8")


def _lead(report: dict[str, Any]) -> str:
    settings, images = report["settings"], report["images"]
    pairs = f" and {images['pair_crops']} crops of real pairs" if images["pair_crops"] else ""
    return (
        "<p>Do the images of this degrader (“ours”) look like real low-resolution photographs? This report compares "
        "them with "
        f"{images['real_lr']} real images{pairs}, and with the images of Real-ESRGAN’s recipe and of bicubic "
        f"downsampling. Every set has {settings['crops']} crops of {settings['crop_size']} × {settings['crop_size']} "
        f"px; the figures come from {_seeds(settings)}.</p>"
    )


def _tiles(report: dict[str, Any]) -> str:
    realism, control, fidelity = report["realism"], report["control_recipes"], report["fidelity"]

    accuracy, blind = realism["classifier_accuracy"], realism["w1_mean_in_real_sd"]
    colour, follows = fidelity["colour_shift_delta_e"], control["correlation_log_noise"]
    tiles = [
        (
            _percent(_mean(accuracy, Column.OURS)),
            "accuracy of a classifier that separates ours from real; 50 % is guessing",
            f"{_beside(accuracy, _percent)}, real against real {_percent(_mean(accuracy, Column.REAL))}",
        ),
        (
            number(_mean(blind, Column.OURS)),
            "mean distance of the image statistics to those of real images, in standard deviations of the real ones",
            f"{_beside(blind)}, real against real {number(_mean(blind, Column.REAL))}",
        ),
        (
            number(_mean(follows, Column.OURS_LIKE)),
            "correlation of the change in noise with that of the true LR",
            f"with a wrong reference: {number(_mean(follows, Column.OURS_WRONG))}",
        ),
        (
            number(_mean(colour, Column.OURS)),
            "mean colour shift, ΔE; 2 is hardly visible",
            _beside(colour),
        ),
    ]
    cells = "".join(f"<div><b>{a}</b><span>{escape(b)}</span><small>{escape(c)}</small></div>" for a, b, c in tiles)
    return f"<div class='tiles'>{cells}</div>"


def _mean(figures: dict[str, Any], column: str) -> float:
    return float(figures[column]["mean"])


def _beside(figures: dict[str, Any], text: Callable[[float], str] = number) -> str:
    """Write the figures of the sets that ours is compared with."""
    columns = (Column.BEFORE, Column.REAL_ESRGAN, Column.BICUBIC)
    return ", ".join(f"{LABELS[name]} {text(_mean(figures, name))}" for name in columns if name in figures)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _sheet(evidence: Evidence) -> str:
    head = "".join(f"<span>{escape(title)}</span>" for title in evidence.columns)
    cells = [
        picture(image, f"{title}, row {row_number}", photograph=at == 0)
        for row_number, row in enumerate(evidence.rows, start=1)
        for at, (title, image) in enumerate(zip(evidence.columns, row, strict=True))
    ]
    return f"<div class='sheet' style='--columns:{len(evidence.columns)}'>{head}{''.join(cells)}</div>"


def _blind(sets: CropSets) -> str:
    rng = random.Random(0)
    cards = []
    for kind, crops in (("real", sets.real), ("generated", sets.made[Column.OURS])):
        for row in rng.sample(range(len(crops)), min(BLIND_EACH, len(crops))):
            image = picture(crops[row], "real or generated?")
            cards.append(
                f"<button type='button' class='card' data-kind='{kind}' aria-pressed='false'>{image}<i></i></button>"
            )
    rng.shuffle(cards)
    return (
        f"<div class='blind'>{''.join(cards)}</div>"
        "<p><button type='button' id='reveal'>Reveal</button> <output id='score'></output></p>"
    )


def _histograms(report: dict[str, Any], sets: CropSets) -> str:
    tables = {name: table_of(crops) for name, crops in sets.shown().items()}
    panels = []
    for key, title in HISTOGRAMS.items():
        figures = report["realism"][f"w1_{key}"]
        distances = ", ".join(
            f"{label} {number(figures[name]['mean'])}" for name, label in LABELS.items() if name in figures
        )
        chart = histogram({name: table[key] for name, table in tables.items()}, f"{title}: {distances}")
        panels.append(
            f"<figure><figcaption><b>{escape(title)}</b></figcaption>{chart}<small>W1: {distances}</small></figure>"
        )
    return f"<div class='panels'>{''.join(panels)}</div>"


def _spectra_and_codes(evidence: Evidence) -> str:
    shown = evidence.sets.shown()
    power = {name: np.stack([radial_spectrum(crop) for crop in crops]) for name, crops in shown.items()}
    flat = principal_axes(evidence.codes)
    power_chart = spectra(spectrum_frequencies(), power, "power spectra")
    return (
        f"{legend(list(shown))}<div class='panels wide'>"
        f"<figure><figcaption><b>Power spectrum</b></figcaption>{power_chart}"
        "<small>Power in decibels over frequency in cycles per pixel. The grey band holds 80 % of the real crops; the "
        "lines are means.</small>"
        "</figure>"
        f"<figure><figcaption><b>Codes</b></figcaption>{scatter(flat, 'codes in two dimensions')}"
        "<small>Each dot is the code that the degrader’s encoder computes from a crop, on the two principal axes of "
        "the real codes. The dots of ours should cover the grey cloud.</small></figure></div>"
    )


def _figures_note(settings: dict[str, Any]) -> str:
    if settings["seeds"] == 1:
        return "The tables show one seed, so there are no standard deviations."
    return f"The tables show mean ± standard deviation over {_seeds(settings)}."


def _seeds(settings: dict[str, Any]) -> str:
    return "one seed" if settings["seeds"] == 1 else f"{settings['seeds']} seeds"


def _method(report: dict[str, Any]) -> str:
    settings = report["settings"]
    codes = {
        "bank": "The codes of ours are drawn from the degrader’s bank.",
        "real": "The codes of ours are computed from the half of the real images that nothing is measured against.",
    }[settings["codes"]]
    if settings["reference_dir"]:
        codes = "The codes of ours are computed from a folder of reference photographs."
    notes = [
        "For every seed, the real images are split at random into two halves that share no image. Every set is "
        "measured against one half; the other half is the “real” column.",
        "Ours, Real-ESRGAN and bicubic degrade the same HR crops. All crops are rounded to 8 bits, and real crops are "
        "aligned to the grid of JPEG blocks.",
        codes,
        "KID is unbiased, so values near zero may be negative. The Fréchet distance is too large when there are few "
        "crops, so compare it only within its row.",
        "The classifier is a small network that sees only fine detail. It is trained on one half of the images and "
        "tested on the other.",
        *([] if settings["scores"] else ["No-reference scores were not computed; the option --score adds them."]),
        *(f"This image was left out: {line}." for line in report["left_out"]),
    ]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    command = f"<pre>{escape(report['command'])}</pre>" if report["command"] else ""
    return f"<ul>{items}</ul>{command}<p>The report took {report['seconds']:.0f} s. report.json holds all numbers.</p>"
