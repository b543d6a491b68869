"""Progress: in a terminal and in a notebook a bar with rate and time left, elsewhere a line on
standard error every ten seconds.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from ..errors import InvalidArgument
from .notebook import escape, in_notebook

Progress = Callable[[int, int, str], None]  # done, total (0: not known), what is counted

LINE_EVERY_S = 10.0
SHOWN_AFTER_S, SHOWN_EVERY_S = 1.0, 0.2  # in a notebook; shorter jobs show nothing


def or_notebook(progress: Progress | None) -> Progress | None:
    """Return `progress`, a notebook bar in Jupyter, or None."""
    return progress or (NotebookBar() if in_notebook() else None)


@contextmanager
def show_progress():
    """Yield a function (done, total, what) that shows the progress of a job; short jobs show
    nothing.
    """
    if in_notebook():
        yield NotebookBar()
    elif sys.stderr.isatty():
        with _bar() as update:
            yield update
    else:
        yield _lines()


@contextmanager
def _bar():
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, tuple[Any, float, int]] = {}

        def update(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = (
                    progress.add_task(what, total=total or None, rate=""),
                    time.monotonic(),
                    done,  # what is continued has begun before
                )
            task, start, before = tasks[what]
            rate = (done - before) / max(time.monotonic() - start, 1e-3)
            progress.update(task, completed=done, total=total or None, rate=f"{rate:.0f}/s")

        yield update


def _lines():
    starts: dict[str, tuple[float, int]] = {}
    last = time.monotonic()

    def update(done: int, total: int, what: str) -> None:
        nonlocal last
        now = time.monotonic()
        start, before = starts.setdefault(what, (now, done))
        if now - last >= LINE_EVERY_S and done > before:
            rate = (done - before) / max(now - start, 1e-3)
            ahead = (
                f" of {total}, {rate:.0f}/s, {(total - done) / max(rate, 1e-6):.0f} s left"
                if total
                else f", {rate:.0f}/s"
            )
            print(f"{what}: {done}{ahead}", file=sys.stderr, flush=True)
            last = now

    return update


class NotebookBar:
    """One bar below the notebook cell for each thing counted. A bar disappears when its count is
    complete, or when the cell ends, even with an error.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # what -> its display, when it began and with what count, when it was last drawn
        self._bars: dict[str, tuple[Any, float, int, float]] = {}

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` are done; a total of 0 means unknown."""
        from IPython.display import HTML, display

        now = time.monotonic()
        with self._lock:
            shown, began, before, drawn = self._bars.get(what, (None, now, done, now))
            if 0 < total <= done:
                self._bars.pop(what, None)
                if shown is not None:
                    shown.update(HTML(""))
                return
            if now - began >= SHOWN_AFTER_S and now - drawn >= SHOWN_EVERY_S:
                page, drawn = (
                    HTML(_as_html(done, total, what, (done - before) / (now - began))),
                    now,
                )
                if shown is None:
                    shown = display(page, display_id=True)
                    _when_the_cell_ends(self.clear)
                else:
                    shown.update(page)
            self._bars[what] = (shown, began, before, drawn)

    def clear(self) -> None:
        """Remove all bars."""
        from IPython.display import HTML

        with self._lock:
            for shown, *_ in self._bars.values():
                if shown is not None:
                    shown.update(HTML(""))
            self._bars.clear()


def _when_the_cell_ends(act: Callable[[], None]) -> None:
    """Call `act` once, after the current cell ends, fails or is interrupted."""
    from IPython import get_ipython

    events = get_ipython().events

    def once(*_: object) -> None:
        events.unregister("post_run_cell", once)
        act()

    events.register("post_run_cell", once)


def _as_html(done: int, total: int, what: str, rate: float) -> str:
    if not total:
        return f"<progress></progress> {escape(what)}: {done:,}, {rate:.0f}/s"
    left = (total - done) / max(rate, 1e-6)
    return (
        f'<progress value="{done}" max="{total}"></progress> {escape(what)}: {done:,} of '
        f"{total:,}, {rate:.0f}/s, {left:.0f} s left"
    )


def parse_duration(text: str, option: str = "--budget") -> float:
    """Return the seconds of "90", "90s", "5m" or "2h", as given with `option`.

    Raises:
        InvalidArgument: if it is none of these.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidArgument(
            f"The time of {option} must be more than 0 and look like 90s, 5m or 2h, got '{text}'."
        )
    return seconds
