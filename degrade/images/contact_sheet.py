"""Draw contact sheets: rows of images side by side, with LR enlarged to the size of its HR so that its pixels show."""

import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from degrade.files.names import CONTACT_SHEET
from degrade.images.codec import encode_image
from degrade.images.geometry import Rgb

_PAPER, _INK, _PALE_INK = (250, 250, 250), (30, 30, 30), (110, 110, 110)
_GUTTER_PX = 6
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_LINE_PX, _BASELINE_PX = 20, 13  # height of a line of text, and of its baseline below its top
_HEADER_END = 33  # of a PNG file: its signature, and the chunk IHDR


def contact_sheet(
    rows: Sequence[Sequence[Rgb]],
    *,
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    cell_px: int = 192,
) -> Rgb:
    """Draw a grid of images.

    All images in a row show the same part of the scene at the same size. The largest is enlarged by the whole factor
    that fills its cell, at least 1, and smaller ones by correspondingly larger factors. Pixels are repeated, never
    interpolated. An image too large for its cell is cropped to its centre; a title too long for its column is
    shortened.

    Args:
        rows: uint8 RGB images, (H, W, 3). Sizes within a row differ by whole factors; rows may differ in length.
        column_titles: one title for each column.
        row_titles: one title for each row, drawn above it; None draws none.
        cell_px: side of a cell, in pixels.

    Returns:
        The sheet, (H, W, 3) uint8 RGB.

    Raises:
        ValueError: there are no images, the number of titles does not fit, or sizes in a row do not differ by whole
            factors.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise ValueError("a contact sheet needs at least one image; rows are empty")
    if len(column_titles) != columns or (row_titles is not None and len(row_titles) != len(rows)):
        raise ValueError(
            f"{len(column_titles)} column titles and {len(row_titles or [])} row titles do not fit {columns} columns "
            f"and {len(rows)} rows; pass one title for each"
        )
    cells = [_cells(row, cell_px) for row in rows]
    widths = [
        max(max(row[i].shape[1] for row in cells if i < len(row)), min(cell_px, _text_px(column_titles[i])))
        for i in range(columns)
    ]
    lefts = [_GUTTER_PX + sum(width + _GUTTER_PX for width in widths[:i]) for i in range(columns)]
    title_px = _LINE_PX if row_titles is not None else 0
    heights = [title_px + max((cell.shape[0] for cell in row), default=0) + _GUTTER_PX for row in cells]
    sheet_width = lefts[-1] + widths[-1] + _GUTTER_PX
    sheet = np.full((_GUTTER_PX + _LINE_PX + sum(heights), sheet_width, 3), _PAPER, np.uint8)
    top = _GUTTER_PX
    for left, width, title in zip(lefts, widths, column_titles, strict=True):
        _write(sheet, title, left, top, width, _INK)
    top += _LINE_PX
    for number, row in enumerate(cells):
        if row_titles is not None:
            _write(sheet, row_titles[number], lefts[0], top, sheet_width - 2 * _GUTTER_PX, _PALE_INK)
        for left, cell in zip(lefts, row, strict=False):
            sheet[top + title_px : top + title_px + cell.shape[0], left : left + cell.shape[1]] = cell
        top += heights[number]
    return sheet


def encode_sheet(sheet: Rgb) -> bytes:
    """Encode a contact sheet as a PNG file that says what it is, so that no command takes it for a photograph."""
    png = encode_image(sheet, "png")
    length, checksum = (number.to_bytes(4, "big") for number in (len(CONTACT_SHEET) - 4, zlib.crc32(CONTACT_SHEET)))
    return png[:_HEADER_END] + length + CONTACT_SHEET + checksum + png[_HEADER_END:]


def _cells(row: Sequence[Rgb], cell_px: int) -> list[Rgb]:
    """Cut the same central part out of all images in a row, and enlarge each by repeating its pixels."""
    if not row:
        return []
    height, width = min(image.shape[:2] for image in row)
    factors = [max(1, image.shape[0] // height) for image in row]
    largest = max(factors)
    for image, factor in zip(row, factors, strict=True):
        if image.shape[:2] != (height * factor, width * factor) or largest % factor:
            raise ValueError(
                f"an image of {image.shape[1]}x{image.shape[0]} does not fit one of {width}x{height} in its row; "
                "sizes in a row must differ by whole factors"
            )
    zoom = max(1, cell_px // (max(height, width) * largest))
    visible = max(1, cell_px // (zoom * largest))  # pixels of the smallest image; all are cut alike
    top, left = max(0, (height - visible) // 2), max(0, (width - visible) // 2)
    cells = []
    for image, factor in zip(row, factors, strict=True):
        part = image[top * factor : (top + visible) * factor, left * factor : (left + visible) * factor]
        repeat = zoom * largest // factor
        cells.append(part.repeat(repeat, axis=0).repeat(repeat, axis=1))
    return cells


def _text_px(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0]) + 2


def _write(sheet: Rgb, text: str, left: int, top: int, width: int, ink: tuple[int, int, int]) -> None:
    """Draw one line of text, shortened to ``width`` pixels."""
    if _text_px(text) > width:
        while text and _text_px(text + "...") > width:
            text = text[:-1]
        text += "..."
    cv2.putText(sheet, text, (left, top + _BASELINE_PX), _FONT, _FONT_SCALE, ink, 1, cv2.LINE_AA)
