"""What the command line prints: closing tables on standard output, messages on standard error.
Decides only the exit code.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.home import first_process
from ..core.summary import Problems, Result, Table, as_text, printable

_BEGAN = time.monotonic()


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
        print(json.dumps({**result.to_dict(), "seconds": round(time.monotonic() - _BEGAN, 3)}))
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
