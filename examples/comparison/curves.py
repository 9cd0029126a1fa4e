"""A picture of what networks are worth while they learn: whether each arm is trained out."""

from collections.abc import Mapping

import cv2
import numpy as np

from degrade.images.contact_sheet import encode_sheet
from degrade.images.geometry import Rgb

WIDTH, HEIGHT, LINE = 560, 420, 18  # px: a panel, and a line of its legend
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 36, 30  # px: margins of the plot
INK, PALE = (30, 30, 30), (225, 225, 225)
COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (127, 127, 127), (188, 189, 34), (23, 190, 207), (0, 0, 0),
)  # fmt: skip

Curve = Mapping[int, float]  # by step


def draw_curves(panels: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """Draw PSNR-Y over steps: a panel for each network, beside each other, and a line for each arm.

    Args:
        panels: by the title of the network and the title of the arm; no curve is empty.

    Returns:
        A png.
    """
    arms = list(dict.fromkeys(arm for curves in panels.values() for arm in curves))
    colours = {arm: COLOURS[number % len(COLOURS)] for number, arm in enumerate(arms)}
    plots = np.hstack([_panel(title, curves, colours) for title, curves in panels.items()])
    legend = np.full((LINE * len(arms) + LINE, plots.shape[1], 3), 255, np.uint8)
    for number, (arm, colour) in enumerate(colours.items()):
        middle = LINE * number + LINE // 2
        cv2.line(legend, (LEFT, middle), (LEFT + 30, middle), colour, 2, cv2.LINE_AA)
        _write(legend, arm, LEFT + 40, middle + 5)
    return encode_sheet(np.vstack([plots, legend]))


def _panel(title: str, curves: Mapping[str, Curve], colours: Mapping[str, tuple[int, int, int]]) -> Rgb:
    panel = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    last = max(step for curve in curves.values() for step in curve)
    values = [value for curve in curves.values() for value in curve.values()]
    low, high = min(values) - 0.05, max(values) + 0.05  # dB
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def place(step: float, value: float) -> tuple[int, int]:
        return (
            round(LEFT + (right - LEFT) * step / last),
            round(bottom - (bottom - TOP) * (value - low) / (high - low)),
        )

    for value in np.linspace(low, high, 5):
        cv2.line(panel, place(0, value), place(last, value), PALE, 1)
        _write(panel, f"{value:.2f}", 12, place(0, value)[1] + 5)
    for arm, curve in curves.items():
        points = [place(step, value) for step, value in sorted(curve.items())]
        cv2.polylines(panel, [np.array(points, np.int32)], False, colours[arm], 2, cv2.LINE_AA)
        for point in points:
            cv2.circle(panel, point, 3, colours[arm], -1, cv2.LINE_AA)
    _write(panel, f"{title}: PSNR-Y in dB on the tested images", 12, 20)
    for step in sorted({step for curve in curves.values() for step in curve}):
        _write(panel, str(step), place(step, low)[0] - 20, HEIGHT - 10)
    return panel


def _write(picture: Rgb, text: str, left: int, baseline: int) -> None:
    cv2.putText(picture, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
