"""The style of all figures: colours, fonts, the characters that these have, an empty figure, and
its PNG file. Draws no numbers.

One plain style. Colours are told apart by colour-blind readers, too (Okabe and Ito 2008, "Color
universal design").
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#8A8A8A"
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
NAME_LENGTH = 48
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,
    "text.usetex": False,
}
# For class names in scripts that matplotlib's own font lacks; whichever of these the machine has.
OTHER_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Devanagari",
    "WenQuanYi Zen Hei", "PingFang SC",
    "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic",
    "Nirmala UI", "Arial Unicode MS",
)  # fmt: skip


@contextmanager
def empty_figure(size: tuple[float, float]) -> Iterator[Figure]:
    """Yield an empty figure of a size in inches, in our style."""
    from matplotlib.figure import Figure

    with _in_style():
        figure = Figure(figsize=size, layout="constrained")
        figure._repr_png_ = functools.partial(png, figure)  # type: ignore[attr-defined]  # shows itself in a notebook, whether or not pyplot was imported
        yield figure


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file's bytes; the same numbers give the same bytes."""
    out = io.BytesIO()
    with _in_style():
        figure.savefig(out, format="png", dpi=130, metadata={"Software": None})
    return out.getvalue()


@contextmanager
def _in_style() -> Iterator[None]:
    """Draw in our style, whatever the user's own settings are."""
    import matplotlib

    plain: dict[Any, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith("backend")
    }
    plain |= {**STYLE, "font.family": ["DejaVu Sans", *_more_fonts()]}
    with matplotlib.rc_context(plain):
        yield


@functools.cache
def _more_fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    present = set(fontManager.get_font_names())
    return tuple(name for name in OTHER_FONTS if name in present)


@functools.cache
def _characters() -> frozenset[int]:
    """Return the code points that our fonts can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(
        code
        for family in ("DejaVu Sans", *_more_fonts())
        for code in get_font(findfont(FontProperties(family=family))).get_charmap()
    )


def drawable(text: str) -> str:
    """Return text without what our fonts lack, shortened where it is long."""
    plain = text.encode("utf-8", "replace").decode()
    plain = "".join(c if ord(c) in _characters() and c.isprintable() else "□" for c in plain)
    return plain if len(plain) <= NAME_LENGTH else plain[: NAME_LENGTH - 1] + "…"
