"""Work on many items in threads, in order and at bounded memory."""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

log = logging.getLogger("wordsight")
Item = TypeVar("Item")
Result = TypeVar("Result")
# items tried in the caller's thread, the seconds one takes there if threads are worth it, and how
# many then go to threads before some are tried again
TRIED, WORTH_S, HANDED = 4, 5e-4, 1024
TOGETHER = 4  # of those, handed to a thread at once
_counting, _resting = threading.Lock(), 0
_limits: threadpool_limits | None = None
_share: int | None = None  # of the cores, for this process
_within = threading.local()  # in our worker threads: whether the job they belong to has ended


def share_cores(count: int) -> None:
    """Limit this process to `count` cores, not particular ones; other processes use the rest."""
    global _share
    _share = count


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if _share is not None:
        return _share
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_are_shared() -> bool:
    """Return whether `share_cores` has limited this process."""
    return _share is not None


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int | None = None
) -> Iterator[Result]:
    """Map in threads and yield results in order, with at most `most` items (by default a few per
    thread) in progress.

    If the outer job ends by Ctrl-C or an error, jobs nested in it end soon after. Meanwhile numpy's
    own threads rest: for the small products of one image they would only take cores from the
    others.
    """
    most = max(2 * threads, 8) if most is None else most
    _rest_blas()
    outer, ended = getattr(_within, "ended", None), threading.Event()
    executor = ThreadPoolExecutor(threads, "wordsight", lambda: setattr(_within, "ended", ended))
    under_way: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            if outer is not None and outer.is_set():
                raise CancelledError
            under_way.append(executor.submit(function, item))
            if len(under_way) >= most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        ended.set()
        executor.shutdown(wait=True, cancel_futures=True)
        _wake_blas()


def map_if_worth(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Map as `parallel_map` does where items take long or wait for a disk, and in the caller's
    thread where they don't: a small file is read faster than it is handed from thread to thread.
    """
    rest = iter(items)
    while tried := list(itertools.islice(rest, TRIED)):
        began = time.perf_counter()
        done = [function(item) for item in tried]
        slow = time.perf_counter() - began > WORTH_S * len(tried)
        yield from done
        if slow:
            chunks = _chunks(itertools.islice(rest, HANDED))
            every = parallel_map(lambda chunk: [function(item) for item in chunk], chunks, threads)
            yield from itertools.chain.from_iterable(every)


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(itertools.islice(items, TOGETHER)):
        yield chunk


@contextlib.contextmanager
def blas_resting() -> Iterator[None]:
    """Hold numpy to one thread within the block; `parallel_map` then needn't switch each time."""
    _rest_blas()
    try:
        yield
    finally:
        _wake_blas()


def _rest_blas() -> None:
    """Hold numpy to one thread until `_wake_blas` has been called as often as this function."""
    global _resting, _limits
    with _counting:
        if _resting == 0:
            _limits = threadpool_limits(limits=1, user_api="blas")
        _resting += 1


def _wake_blas() -> None:
    global _resting
    with _counting:
        _resting -= 1
        if _resting == 0 and _limits is not None:
            _limits.restore_original_limits()


@contextlib.contextmanager
def interrupted_with(sentence: str) -> Iterator[None]:
    """Log `sentence` if the block is interrupted; for work that can't be resumed."""
    try:
        yield
    except KeyboardInterrupt as stop:
        say_interrupted(str(stop) or sentence)
        raise


def say_interrupted(sentence: str) -> None:
    """Log what Ctrl-C left behind, instead of the command line's usual sentence."""
    log.warning(sentence, extra={"interrupted": True})


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block is done; only in the main thread, which Ctrl-C reaches."""
    asked: list[bool] = []
    own = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if own:
        signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield
    finally:
        if own:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked:
        raise KeyboardInterrupt
