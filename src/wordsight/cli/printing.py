"""What the command line prints: closing tables on standard output, messages on standard error.
Decides only the exit code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.home import first_process
from ..core.summary import Problems, Result, Table


def say(line: str) -> None:
    """Print one line on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def show(result: Result, as_json: bool) -> int:
    """Print a result and what could not be done; return the exit code, 0 or 1. Of several
    processes that train together, only the first prints.
    """
    code = 0 if result.complete else 1
    if not first_process():
        return code
    if as_json:
        print(json.dumps(result.to_dict()))
    else:
        for number, table in enumerate(result.tables()):
            if number and any(table.headings):
                print()
            print_table(table.headings, table.shown, table.empty)
            if table.left_out:
                print(table.left_out)
        for note in result.notes():
            print(printable(note))
    for problems in result.problems():
        for line in problems.lines:
            say(line)
    return code


@dataclass(frozen=True)
class Plain:
    """What a command shows if its function returns plain values.

    Attributes:
        data: what `--json` prints.
        lines: the sentences.
        table: above them, or None.
        missing: what could not be done, or None.
        complete: whether the exit code is 0.
    """

    data: dict[str, Any]
    lines: Sequence[str] = ()
    table: Table | None = None
    missing: Problems | None = None
    complete: bool = True

    def tables(self) -> list[Table]:
        """Return the table, if there is one."""
        return [] if self.table is None else [self.table]

    def notes(self) -> list[str]:
        """Return the sentences."""
        return list(self.lines)

    def problems(self) -> list[Problems]:
        """Return what could not be done."""
        return [] if self.missing is None else [self.missing]

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return self.data


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """Print rows in columns, or `empty` where there are none."""
    if not rows:
        print(empty)
        return
    widths = [
        max(len(printable(cell)) for cell in column) for column in zip(headings, *rows, strict=True)
    ]
    if any(headings):
        print(
            "  ".join(
                heading.ljust(width) for heading, width in zip(headings, widths, strict=True)
            ).rstrip()
        )
        print("  ".join("─" * width for width in widths))
    for row in rows:
        print(
            "  ".join(
                printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
        )


def printable(text: object) -> str:
    """Return text that a terminal shows on one line: no control characters, no broken encoding."""
    plain = str(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "�" for c in plain)
