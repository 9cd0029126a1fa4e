"""The realism report as one HTML file: pictures first, numbers after, nothing to fetch."""

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
    "chroma_noise_ratio": "Colour noise over luma noise",
    "noise_correlation_x": "Grain: correlation sideways (0 is white)",
    "edge_width_px": "Width of edges, px",
    "log_sharpness": "Sharpness",
    "blockiness": "JPEG blocks (0 is none)",
    "jpeg_loss": "100 less JPEG quality, estimated (0 is none)",
    "ringing": "Ringing beside edges",
    "clipped_share": "Share of clipped pixels",
}
BLIND_EACH = 12  # crops of either kind in the blind test
HR_QUALITY = 92


@dataclass(frozen=True)
class Evidence:
    """What the page shows of the first seed.

    Attributes:
        sets: the crops.
        codes: by column, (N, code_dim); ``real`` is the half that is measured against.
        columns: titles of the contact sheet.
        rows: its images: the HR first, the others in LR pixels.
    """

    sets: CropSets
    codes: dict[str, Array]
    columns: Sequence[str]
    rows: Sequence[Sequence[Rgb]]


def write_page(report: dict[str, Any], evidence: Evidence, path: Path) -> None:
    """Write report.html.

    Args:
        report: what report.json holds.
        evidence: the pictures.
        path: of the file.
    """
    settings = report["settings"]
    name = Path(settings["degrader"]).name
    body = [
        f"<header><p class='over'>Realism report</p><h1>{escape(name)}</h1>{_lead(report)}</header>",
        _tiles(report),
        _section("What it makes", "LR pixels are shown enlarged, without smoothing.", _sheet(evidence)),
        _section(
            "Real or made?",
            f"{BLIND_EACH} crops of real LR images and {BLIND_EACH} of ours, shuffled. Click on those that you think "
            "were made, then reveal. Half right is guessing.",
            _blind(evidence.sets),
        ),
        _section(
            "What is measured of an image",
            "How often each value occurs. The grey area is real; a good degrader's line follows its outline. "
            "W1 is the distance to the real images, mean of all seeds.",
            legend(list(evidence.codes)) + _histograms(report, evidence.sets),
        ),
        _section("Spectra and looks", "", _spectra_and_codes(evidence)),
        _section(
            "All figures", _figures_note(settings), "".join(table_html(table, report) for table in tables_of(report))
        ),
        _section("How this was measured", "", _method(report)),
    ]
    head = (
        f"<meta charset='utf-8'><title>Realism report: {escape(name)}</title><style>\n{_packaged('page.css')}</style>"
    )
    head += "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
    page = f"<!doctype html><html lang='en'><head>{head}</head><body><main>{''.join(body)}</main>"
    write_atomic(path, f"{page}<script>\n{_packaged('page.js')}</script></body></html>".encode())


def picture(image: Rgb, alt: str, *, photograph: bool = False) -> str:
    """An image as a data URI: PNG, or JPEG for an HR photograph."""
    kind = ("jpg", "jpeg") if photograph else ("png", "png")
    data = encode_image(image, kind[0], HR_QUALITY if photograph else None)
    source = f"data:image/{kind[1]};base64,{base64.b64encode(data).decode()}"
    look = "" if photograph else " class='pixels'"
    return (
        f"<img src='{source}' alt='{escape(alt, quote=True)}'{look} width='{image.shape[1]}' height='{image.shape[0]}'>"
    )


def _packaged(name: str) -> str:
    return files("degrade").joinpath("realism", name).read_text(encoding="utf-8")


def _section(title: str, note: str, content: str) -> str:
    lead = f"<p>{escape(note)}</p>" if note else ""
    return f"<section><h2>{escape(title)}</h2>{lead}{content}</section>"


def _lead(report: dict[str, Any]) -> str:
    settings, images = report["settings"], report["images"]
    pairs = f" and {images['pair_crops']} crops of real pairs" if images["pair_crops"] else ""
    return (
        "<p>Do its images look like real low-resolution photographs? Compared with "
        f"{images['real_lr']} real images{pairs}, beside Real-ESRGAN’s recipe and bicubic. {settings['crops']} crops "
        f"of {settings['crop_size']} × {settings['crop_size']} px in every set, {_seeds(settings)}.</p>"
    )


def _tiles(report: dict[str, Any]) -> str:
    realism, control, fidelity = report["realism"], report["control_recipes"], report["fidelity"]

    accuracy, blind = realism["classifier_accuracy"], realism["w1_mean_in_real_sd"]
    colour, follows = fidelity["colour_shift_delta_e"], control["correlation_log_noise"]
    tiles = [
        (
            _percent(_mean(accuracy, Column.OURS)),
            "of the time a classifier tells ours from real; 50 is guessing",
            f"{_beside(accuracy, _percent)}, real from real {_percent(_mean(accuracy, Column.REAL))}",
        ),
        (
            number(_mean(blind, Column.OURS)),
            "mean distance of the blind measurements to real ones, in real spreads",
            f"{_beside(blind)}, real to real {number(_mean(blind, Column.REAL))}",
        ),
        (
            number(_mean(follows, Column.OURS_LIKE)),
            "correlation of the noise with that of the reference",
            f"with a wrong reference {number(_mean(follows, Column.OURS_WRONG))}",
        ),
        (
            number(_mean(colour, Column.OURS)),
            "colour shift, ΔE; 2 is hardly seen",
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
    for kind, crops in (("real", sets.real), ("made", sets.made[Column.OURS])):
        for row in rng.sample(range(len(crops)), min(BLIND_EACH, len(crops))):
            image = picture(crops[row], "real or made?")
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
        "<small>Decibels over cycles per pixel. The grey band holds 80 % of the real crops; lines are means.</small>"
        "</figure>"
        f"<figure><figcaption><b>Looks</b></figcaption>{scatter(flat, 'codes in two dimensions')}"
        "<small>The code that the degrader’s encoder reads from each crop, on the two principal axes of the real ones. "
        "Ours should cover the grey cloud.</small></figure></div>"
    )


def _figures_note(settings: dict[str, Any]) -> str:
    return f"Mean ± standard deviation over {_seeds(settings)}." if settings["seeds"] > 1 else "One seed."


def _seeds(settings: dict[str, Any]) -> str:
    return "one seed" if settings["seeds"] == 1 else f"{settings['seeds']} seeds"


def _method(report: dict[str, Any]) -> str:
    settings = report["settings"]
    looks = {
        "bank": "Our looks are drawn from the degrader’s bank.",
        "real": "Our looks are read from the half of the real images that nothing is measured against.",
    }[settings["codes"]]
    if settings["reference_dir"]:
        looks = "Our looks are read from a folder of reference photographs."
    notes = [
        "The real images are split into two halves, whole images to a side, anew for every seed. Everything is "
        "measured against one half; the other is the “real” column.",
        "Ours, Real-ESRGAN and bicubic degrade the same HR crops; all crops are rounded to 8 bits, and the real ones "
        "begin on the grid of JPEG blocks.",
        looks,
        "KID is unbiased, so values near zero may be negative. The Fréchet distance grows with few crops: compare it "
        "only within its row.",
        "The classifier is a small network that sees the fine band only, trained on one half of the images and tried "
        "on the other.",
        *([] if settings["scores"] else ["No-reference scores were not asked for (--score)."]),
        *(f"Left out: {line}" for line in report["left_out"]),
    ]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    command = f"<pre>{escape(report['command'])}</pre>" if report["command"] else ""
    return f"<ul>{items}</ul>{command}<p>Took {report['seconds']:.0f} s. The numbers are in report.json.</p>"
