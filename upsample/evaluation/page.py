"""Write the report of `upsample eval` as one HTML file that needs no other files: pictures first, then numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from degrade.files.store import write_atomic
from degrade.images.geometry import Rgb
from degrade.realism.charts import legend, spectra
from degrade.realism.distances import Array
from degrade.realism.page import document, picture, section
from degrade.realism.statistics import spectrum_frequencies
from degrade.realism.tables import number
from upsample.evaluation.figures import ABOUT_HR, HOW_TO_READ, columns_of, value_of
from upsample.evaluation.patches import CONTRAST, PATCH, raise_contrast
from upsample.evaluation.scenes import BICUBIC, HR

ZOOM = 3  # screen pixels per HR pixel
GREY, GREEN = "#8b8d91", "#3f8f63"  # of HR and of bicubic
COLOURS = ("#1d5fa8", "#c8641b", "#8f6fc0", "#b3273f", "#12807f", "#7a6a2b")  # of the sets, in turn


@dataclass
class Evidence:
    """Hold what the page shows.

    Attributes:
        busy: a row of pictures for each scene, by set, with LR as ``LR``: its busiest part.
        smooth: the same, its smoothest part.
        spectra: natural log of power of the crops of each set, (N, bins); empty if there were too few images.
    """

    busy: list[dict[str, Rgb]] = field(default_factory=list)
    smooth: list[dict[str, Rgb]] = field(default_factory=list)
    spectra: dict[str, Array] = field(default_factory=dict)


def write_page(report: Mapping[str, Any], evidence: Evidence, path: Path) -> None:
    """Write the page.

    Args:
        report: what `upsample.evaluate.evaluate_folders` returns.
        evidence: pictures and spectra.
        path: file to write.
    """
    sets = [name for name in columns_of(report) if name != HR]
    smooth = [{name: raise_contrast(patch) for name, patch in row.items()} for row in evidence.smooth]
    body = [
        f"<header><p class='over'>Upscaling report</p><h1>{escape(', '.join(sets))}</h1>{_lead(report)}</header>",
        section(
            "Busy parts",
            f"The busiest {PATCH} × {PATCH} HR pixels of each photograph, enlarged {ZOOM} times without smoothing. Are "
            "edges clean, without halos and rags? Is texture like that of HR?",
            _sheet(evidence.busy),
        ),
        section(
            "Smooth parts",
            f"The smoothest {PATCH} × {PATCH} HR pixels, with {CONTRAST} times the contrast. Patterns that HR lacks, "
            "such as chequers, weaves and worms, are false.",
            _sheet(smooth),
        ),
        section("All figures", HOW_TO_READ, _table(report)),
        _spectra(evidence.spectra),
        section("How this was measured", "", _method(report)),
    ]
    write_atomic(path, document("Upscaling report: " + ", ".join(sets), "".join(body)).encode())


def _lead(report: Mapping[str, Any]) -> str:
    return (
        f"<p>{len(report['images'])} images of each set are compared with their HR, one by one and as sets. "
        "Every figure and every picture shows the same scenes.</p>"
    )


def _sheet(rows: Sequence[Mapping[str, Rgb]]) -> str:
    """Draw rows of pictures at a fixed zoom, across the whole window; the grid scrolls where that is too narrow."""
    if not rows:
        return f"<p>No image is as large as {PATCH} × {PATCH} px.</p>"
    titles = list(rows[0])
    wide = "margin-left:calc(50% - 50vw + 24px);width:calc(100vw - 48px)"
    side = PATCH * ZOOM
    head = "".join(f"<span>{escape(title)}</span>" for title in titles)
    cells = "".join(
        picture(row[title], f"{title}, row {at}") for at, row in enumerate(rows, start=1) for title in titles
    )
    grid = f"<div class='sheet' style='grid-template-columns:repeat({len(titles)},{side}px)'>{head}{cells}</div>"
    return f"<div class='scroll' style='{wide}'>{grid}</div>"


def _table(report: Mapping[str, Any]) -> str:
    columns = columns_of(report)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("better", *columns))
    rows = []
    for key, figure in report["figures"].items():
        values = (value_of(report, key, name) for name in columns)
        cells = "".join('<td class="none">–</td>' if each is None else f"<td>{number(each)}</td>" for each in values)
        rows.append(
            f'<tr><th scope="row">{escape(figure["label"])}</th><td>{escape(figure["better"])}</td>{cells}</tr>'
        )
    grid = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class='scroll'>{grid}</div><p>{escape(ABOUT_HR)}</p>"


def _spectra(power: Mapping[str, Array]) -> str:
    if not power:
        return ""
    made = [name for name in power if name not in (HR, BICUBIC)]
    colours = {HR: GREY, BICUBIC: GREEN} | {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(made)}
    chart = spectra(spectrum_frequencies(), power, "power spectra", band=HR, colours=colours)
    note = (
        "Power in decibels over frequency in cycles per pixel. The grey band holds 80 % of the crops of HR; the lines "
        "are means. A line below that of HR is too soft there; a line above it has too much detail, noise or ringing."
    )
    keys = legend(list(power), {name: name for name in power}, colours)
    return section("Spectra", note, f"{keys}<div class='panels wide'><figure>{chart}</figure></div>")


def _method(report: Mapping[str, Any]) -> str:
    protocol = report["protocol"]
    versions = ", ".join(f"{package} {version}" for package, version in protocol["versions"].items())
    lines = [
        *(f"{name}: {text}" for name, text in protocol.items() if name != "versions"),
        f"versions: {versions}",
        *report["notes"],
        *(f"left out: {line}" for line in report["left_out"]),
    ]
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
