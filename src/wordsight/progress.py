"""Progress on standard error: a bar with rate and time left at a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Any

LINE_EVERY_S = 10.0


@contextmanager
def show_progress():
    """Yield a function (done, total, what) that shows how far a job has come; short jobs show nothing."""
    if sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _lines()


@contextmanager
def _bar():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, tuple[Any, float]] = {}

        def update(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = (progress.add_task(what, total=total, rate=""), time.monotonic())
            task, start = tasks[what]
            rate = done / max(time.monotonic() - start, 1e-3)
            progress.update(task, completed=done, total=total, rate=f"{rate:.0f}/s")

        yield update


def _lines():
    starts: dict[str, float] = {}
    last = time.monotonic()

    def update(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        start = starts.setdefault(what, now)
        if now - last >= LINE_EVERY_S and done > 1:
            rate = done / max(now - start, 1e-3)
            print(f"{what}: {done} of {total}, {rate:.0f}/s, {(total - done) / max(rate, 1e-6):.0f} s left", file=sys.stderr, flush=True)
            last = now

    return update
