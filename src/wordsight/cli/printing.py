"""What the command line prints: closing tables on standard output, messages on standard error.
Decides only the exit code.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.home import first_process
from ..core.summary import Problems, Result, Table, as_text, printable


@dataclass
class _Command:
    """The command that runs: when it began, and whether it has printed its object."""

    began: float
    told: bool = False


_command = _Command(time.monotonic())


def begin() -> None:
    """Note that a command begins."""
    _command.began, _command.told = time.monotonic(), False


def fail(message: str) -> None:
    """Print what went wrong on standard error. With --json, also print it as an object on standard
    output, unless the command has printed one already.
    """
    say(f"Error: {message}")
    if "--json" in sys.argv[1:] and not _command.told:
        with contextlib.suppress(OSError):
            print(json.dumps({"error": message}, ensure_ascii=False), flush=True)


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
        seconds = round(time.monotonic() - _command.began, 3)
        print(json.dumps({**result.to_dict(), "seconds": seconds}))
        _command.told = True
    else:
        told = as_text(result, problems=False)
        if told:
            print(told)
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
