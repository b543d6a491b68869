"""HTML for notebooks: tables and small images; and rows as a pandas DataFrame. Knows no results.

Everything is escaped, styles are inline, and images are embedded, so a notebook can be mailed and
looks right in light and dark themes.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InvalidArgument
from .names import legible

if TYPE_CHECKING:
    import pandas

SIDE = 200  # pixels on the longest side of a small image
MAX_BYTES = 64 << 20  # larger files are not opened for a small image
MOST_IMAGES = 12
MOST_ROWS = 10
CELL = "text-align:left;padding:2px 14px 2px 0"


def in_notebook() -> bool:
    """Whether a person sees the output of cells: in Jupyter or similar, not in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def block(title: object, *parts: str) -> str:
    """Return a titled block of HTML; empty parts are left out."""
    return f"<div><p><b>{escape(title)}</b></p>{''.join(part for part in parts if part)}</div>"


def line(text: object) -> str:
    """Return a line of HTML, or an empty string if there is no text."""
    return f"<p>{escape(text)}</p>" if text else ""


def table(
    headings: Sequence[object], rows: Iterable[Sequence[object]], most: int = MOST_ROWS
) -> str:
    """Return an HTML table of at most `most` rows, and how many more there are; an empty string if
    there are no rows.
    """
    shown = list(rows)
    if not shown:
        return ""
    head = "".join(f'<th style="{CELL}">{escape(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in shown[:most]
    )
    more = f"<p>and {len(shown) - most:,} more</p>" if len(shown) > most else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def escape(text: object) -> str:
    """Return text escaped for HTML."""
    return html.escape(legible(str(text)))


def frame(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> pandas.DataFrame:
    """Return rows as a DataFrame.

    Args:
        rows: one mapping of column names to values for each row.
        columns: column order; by default that of the first row. Kept even if there are no rows.

    Raises:
        InvalidArgument: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InvalidArgument(
            "A DataFrame needs pandas: pip install pandas. Without it, iterate over the result."
        ) from None
    return pandas.DataFrame(list(rows), columns=None if columns is None else list(columns))
