"""Curves as SVG for reports: in the page's own colours, light or dark, sharp at any size,
readable without a script.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 270  # user units
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 14, 44  # margins
MOST_POINTS = 600  # points that are drawn of a curve at most


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        name: in the legend.
        x: positions, rising.
        y: values; NaN where there is none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: what is counted, with its unit.
        low: value at its beginning.
        high: value at its end.
        ticks: (value, text) of its marks; by default round numbers.
    """

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]] = ()

    def marks(self) -> list[tuple[float, str]]:
        """Return the marks that are drawn."""
        if self.ticks:
            return list(self.ticks)
        step = 10 ** math.floor(math.log10(max(self.high - self.low, 1e-12)))
        step = next(
            part
            for part in (step / 5, step / 2, step, 2 * step)
            if (self.high - self.low) / part <= 6
        )
        first = math.ceil(self.low / step - 1e-9)
        return [
            (number * step, f"{number * step:.6g}")
            for number in range(first, math.floor(self.high / step + 1e-9) + 1)
        ]


def draw(curves: Sequence[Curve], across: Axis, up: Axis, title: str, marker: str = "") -> str:
    """Return curves as one SVG element.

    Args:
        curves: at most seven, drawn in order.
        across: the horizontal axis.
        up: the vertical one.
        title: what a reader who does not see it hears.
        marker: "line" or "dot": an upright line or a dot that a script may move; "" for neither.
    """

    def place(x: float, y: float) -> tuple[float, float]:
        wide = (x - across.low) / ((across.high - across.low) or 1)
        high = (y - up.low) / ((up.high - up.low) or 1)
        return LEFT + min(max(wide, 0), 1) * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - min(
            max(high, 0), 1
        ) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">'
    ]
    for value, text in up.marks():
        y = place(across.low, value)[1]
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{html.escape(text)}</text>'
        )
    for value, text in across.marks():
        x = place(value, up.low)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{html.escape(text)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" '
        f'text-anchor="middle">{html.escape(across.title)}</text>'
    )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 '
        f'{middle})">{html.escape(up.title)}</text>'
    )
    for number, curve in enumerate(curves):
        places = [place(x, y) if math.isfinite(y) else None for x, y in _thinned(curve)]
        parts.append(f'<path class="curve c{number % 7}" d="{_path(places)}"/>')
    if marker == "line":
        parts.append(
            f'<line class="marker" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        )
    elif marker == "dot":
        parts.append(f'<circle class="marker" r="5" cx="{LEFT}" cy="{HEIGHT - BOTTOM}"/>')
    parts.append("</svg>")
    return "".join(parts)


def frame(across: Axis, up: Axis) -> dict[str, float]:
    """Return where a script finds a value in a drawing: user units of the corners and the
    values there.
    """
    corners = {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM}
    return {
        **corners,
        "x_low": across.low,
        "x_high": across.high,
        "y_low": up.low,
        "y_high": up.high,
    }


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    points = list(zip(curve.x, curve.y, strict=True))
    step = max(1, -(-len(points) // MOST_POINTS))
    return points[::step] + (points[-1:] if (len(points) - 1) % step else [])


def _path(points: list[tuple[float, float] | None]) -> str:
    text, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        text.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return "".join(text)
