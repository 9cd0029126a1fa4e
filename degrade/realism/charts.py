"""Draw the charts of the realism report as inline SVG: histograms, spectra, codes. No plotting library is needed."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from degrade.realism.columns import LABELS, Column
from degrade.realism.distances import Array

COLOURS: dict[str, str] = {
    Column.REAL: "#8b8d91",
    Column.OURS: "#1d5fa8",
    Column.BEFORE: "#8f6fc0",
    Column.REAL_ESRGAN: "#c8641b",
    Column.LIGHT: "#d8a45c",
    Column.BICUBIC: "#3f8f63",
}

_WIDTH, _HEIGHT = 300, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 292, 8, 128
_BINS = 24
_TAIL = 0.5  # percent of the values at each end that are clipped into the outermost bins


def histogram(samples: Mapping[str, Array], label: str) -> str:
    """Draw how often each value occurs: the real set as a filled area, the others as lines.

    Args:
        samples: values of each column, (N,); ``real`` must be one of the columns.
        label: description for screen readers.

    Returns:
        An SVG element.
    """
    pooled = np.concatenate(list(samples.values()))
    low, high = np.percentile(pooled, [_TAIL, 100 - _TAIL])
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = {
        name: np.histogram(np.clip(values, low, high), edges)[0] / len(values) for name, values in samples.items()
    }
    # One high peak (bicubic has no noise at all) must not flatten the other lines.
    top = 1.15 * max(shares[Column.REAL].max(), min(0.5, max(share.max() for share in shares.values())))
    x = _scaled(edges, low, high, _LEFT, _RIGHT)
    parts = []
    for name in sorted(shares, key=lambda name: name != Column.REAL):
        y = _scaled(np.minimum(shares[name], top), 0, top, _BOTTOM, _TOP)
        corners = [(x[i + side], y[i]) for i in range(_BINS) for side in (0, 1)]
        parts.append(_line([(x[0], _BOTTOM), *corners, (x[-1], _BOTTOM)], COLOURS[name], filled=name == Column.REAL))
    return _svg([*parts, *_x_axis(low, high)], label)


def spectra(
    frequencies: Array,
    log_power: Mapping[str, Array],
    label: str,
    *,
    band: str = Column.REAL,
    colours: Mapping[str, str] = COLOURS,
) -> str:
    """Draw the mean power spectra in decibels, and a band that holds 80 % of the real crops.

    Args:
        frequencies: cycles per pixel, (bins,).
        log_power: natural log of power of each column, (N, bins).
        label: description for screen readers.
        band: the column of the real crops.
        colours: colour of each column.

    Returns:
        An SVG element.
    """
    decibels = {name: 10 / np.log(10) * values for name, values in log_power.items()}
    lower, upper = np.percentile(decibels[band], [10, 90], axis=0)
    means = {name: values.mean(0) for name, values in decibels.items()}
    low = min(lower.min(), *(mean.min() for mean in means.values())) - 2
    high = max(upper.max(), *(mean.max() for mean in means.values())) + 2
    x = _scaled(frequencies, 0, 0.5, _LEFT, _RIGHT)

    def points(values: Array) -> list[tuple[float, float]]:
        return list(zip(x, _scaled(values, low, high, _BOTTOM, _TOP), strict=True))

    area = _line([*points(lower), *reversed(points(upper))], colours[band], filled=True)
    lines = [_line(points(means[name]), colours[name]) for name in means]
    return _svg([area, *lines, *_x_axis(0, 0.5)], label)


def scatter(points: Mapping[str, Array], label: str) -> str:
    """Draw codes as dots on two axes of equal scale; dots outside the middle 98 % may fall outside and are left out.

    Args:
        points: dots of each column, (N, 2).
        label: description for screen readers.

    Returns:
        An SVG element.
    """
    pooled = np.concatenate(list(points.values()))
    low, high = np.percentile(pooled, [1, 99], axis=0)
    centre, reach = (low + high) / 2, max((high - low).max() / 2, 1e-9) * 1.1
    height = _RIGHT - _LEFT  # a square
    parts = []
    for name, dots in points.items():
        x = _scaled(dots[:, 0], centre[0] - reach, centre[0] + reach, _LEFT, _RIGHT)
        y = _scaled(dots[:, 1], centre[1] - reach, centre[1] + reach, _TOP + height, _TOP)
        inside = (x > _LEFT) & (x < _RIGHT) & (y > _TOP) & (y < _TOP + height)
        circles = "".join(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in zip(x[inside], y[inside], strict=True)
        )
        parts.append(f'<g fill="{COLOURS[name]}" fill-opacity="0.55">{circles}</g>')
    return _svg(parts, label, height=_TOP + height + 8)


def legend(names: Sequence[str], labels: Mapping[str, str] = LABELS, colours: Mapping[str, str] = COLOURS) -> str:
    """Write a line that tells which colour belongs to which column."""
    keys = (
        f'<span class="key"><i style="background:{colours[name]}"></i>{escape(labels[name])}</span>' for name in names
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def principal_axes(codes: Mapping[str, Array]) -> dict[str, Array]:
    """Project the codes of every column onto the two principal axes of the real ones: (N, D) -> (N, 2)."""
    centre = codes[Column.REAL].mean(0)
    _, _, axes = np.linalg.svd(codes[Column.REAL] - centre, full_matrices=False)
    return {name: (values - centre) @ axes[:2].T for name, values in codes.items()}


def _line(points: Sequence[tuple[float, float]], colour: str, *, filled: bool = False) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    look = 'fill-opacity="0.3" stroke="none"' if filled else 'fill="none" stroke-width="1.6" stroke-linejoin="round"'
    paint = "fill" if filled else "stroke"
    return f'<path d="{path}" {paint}="{colour}" {look}/>'


def _x_axis(low: float, high: float) -> list[str]:
    ticks = [f'<path d="M{_LEFT} {_BOTTOM}H{_RIGHT}" stroke="#c9cbd0" fill="none"/>']
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        value = low + share * (high - low)
        text = f"{value:.2f}" if high - low < 10 else f"{value:.0f}"
        x = _LEFT + share * (_RIGHT - _LEFT)
        ticks.append(f'<text x="{x:.0f}" y="{_BOTTOM + 15}" text-anchor="{anchor}">{text}</text>')
    return ticks


def _scaled(values: Array, low: float, high: float, start: float, stop: float) -> Array:
    return np.asarray(start + (values - low) / (high - low) * (stop - start))


def _svg(parts: Sequence[str], label: str, height: float = _HEIGHT) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:.0f}"'
    return f'<svg {box} role="img" aria-label="{escape(label, quote=True)}">{"".join(parts)}</svg>'
