"""Turns at looking at images, so that no visitor keeps others waiting for longer than one image
takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets a few threads look at images at once; next come those of the call that has had the
    least time.

    Args:
        count: how many at once.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[tuple[Call, threading.Event]] = []  # in the order in which they came
        self._lock = threading.Lock()

    def begin(self, call: Call) -> float:
        """Wait for a turn; return when it began, by the monotonic clock."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append((call, mine))
            self._pass_on()
        mine.wait()
        begun = time.monotonic()
        with self._lock:
            call.begun.append(begun)
        return begun

    def end(self, call: Call, begun: float) -> None:
        """Give a turn back."""
        with self._lock:
            call.begun.remove(begun)
            call.done_s += time.monotonic() - begun
            self._free += 1
            self._pass_on()

    def _pass_on(self) -> None:
        if self._free and self._waiting:
            now = time.monotonic()
            first = min(self._waiting, key=lambda one: one[0].spent_s(now))
            self._waiting.remove(first)
            self._free -= 1
            first[1].set()


class Call:
    """One call of the page, which may look at several images at once.

    Args:
        turns: shared by all calls.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.done_s, self.begun = 0.0, list[float]()

    def spent_s(self, now: float) -> float:
        """Return the time it has had, images that it is looking at included."""
        return self.done_s + sum(now - begun for begun in self.begun)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and hold it."""
        begun = self._turns.begin(self)
        try:
            yield
        finally:
            self._turns.end(self, begun)
