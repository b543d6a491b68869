"""What a result says of itself: tables, notes and problems, the same in terminal, notebook and
report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .names import legible
from .notebook import block, line, table

MOST_PROBLEMS = 10  # of one kind that are shown


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        headings: of the columns.
        rows: cells as they are shown.
        empty: sentence that stands there if there is no row; "" for an empty table.
        most: rows that are shown at most.
        more: sentence for the rows beyond, with `{count}` for how many; "" says nothing.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    empty: str = ""
    most: int = 1000
    more: str = ""

    @property
    def shown(self) -> Sequence[Sequence[str]]:
        """The rows that are shown."""
        return self.rows[: self.most]

    @property
    def left_out(self) -> str:
        """Sentence on the rows that are not shown, or ""."""
        count = len(self.rows) - self.most
        return self.more.format(count=count) if count > 0 else ""


@dataclass(frozen=True)
class Problems:
    """What could not be done, file by file.

    Attributes:
        what: in a word or two, such as "Unreadable".
        items: (name, reason) of each; what is "" stands in no line.
        where: where all of them are listed.
    """

    what: str
    items: Sequence[tuple[str, str]]
    where: str

    @property
    def lines(self) -> list[str]:
        """A line for each of the first ten, and one on the others."""
        shown = self.items[:MOST_PROBLEMS]
        lines = [": ".join(part for part in (self.what, *item) if part) for item in shown]
        more = len(self.items) - len(shown)
        return [*lines, f"… and {more} more, listed in {self.where}."] if more else lines


class Result(Protocol):
    """What every command's result can do."""

    @property
    def complete(self) -> bool:
        """Whether everything asked for was done; otherwise the command ends with exit code 1."""

    def tables(self) -> list[Table]:
        """Return the tables that sum it up."""

    def notes(self) -> list[str]:
        """Return the sentences that stand below the tables; "" is an empty line."""

    def problems(self) -> list[Problems]:
        """Return what could not be done."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything that `--json` prints."""


def as_text(result: Result, problems: bool = True) -> str:
    """Return a result as a terminal shows it: tables, notes and, where asked for, problems."""
    lines: list[str] = []
    for number, one in enumerate(result.tables()):
        if number and any(one.headings):
            lines.append("")
        lines += columns(one)
    missing = [text for one in result.problems() for text in one.lines] if problems else []
    return "\n".join([*lines, *map(printable, [*result.notes(), *missing])])


def columns(table: Table) -> list[str]:
    """Return a table's lines: headings, a rule, the rows that are shown, and a sentence on the
    others.
    """
    if not table.shown:
        return [table.empty]
    rows = [[printable(cell) for cell in row] for row in table.shown]
    widths = [max(map(len, cells)) for cells in zip(table.headings, *rows, strict=True)]

    def padded(cells: Iterable[str]) -> str:
        return "  ".join(c.ljust(width) for c, width in zip(cells, widths, strict=True)).rstrip()

    ruled = [padded(table.headings), "  ".join("─" * width for width in widths)]
    lines = [*(ruled if any(table.headings) else []), *map(padded, rows)]
    return [*lines, table.left_out] if table.left_out else lines


def printable(text: object) -> str:
    """Return text that a terminal shows on one line: no control characters, no broken encoding."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in legible(str(text))
    )


def as_html(title: str, result: Result, images: str = "") -> str:
    """Return a result as HTML for a notebook.

    Args:
        title: the first line.
        result: whose tables, notes and problems follow.
        images: HTML of small images, or "".
    """
    tables = [table(one.headings, one.rows, one.most) or line(one.empty) for one in result.tables()]
    problems = [text for one in result.problems() for text in one.lines]
    return block(title, *tables, images, *map(line, [*result.notes(), *problems]))


def unreadable_as_dicts(items: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Return (file name, reason) pairs as JSON objects."""
    return [{"file_name": name, "error": reason} for name, reason in items]


def text_of(path: Path | str | None) -> str | None:
    """Return a path as JSON holds it."""
    return None if path is None else str(path)
