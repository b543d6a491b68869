"""Work on many items in threads: in order, ended together, and only where threads are worth it."""

from __future__ import annotations

import threading
import time

import pytest

from wordsight.core import threads
from wordsight.core.threads import map_if_worth, parallel_map


def test_interrupted_work_ends_the_work_within_it():
    done: list[int] = []

    def inner(number):
        time.sleep(0.01)
        done.append(number)
        return number

    def outer(number):
        if number == 0:
            time.sleep(0.2)
            raise ZeroDivisionError
        return list(parallel_map(inner, range(1000), 1))

    with pytest.raises(ZeroDivisionError):
        list(parallel_map(outer, range(4), 2))
    assert 0 < len(done) < 200  # of 3,000: the others were given up


def test_what_is_quick_stays_in_the_callers_thread(monkeypatch):
    monkeypatch.setattr(threads, "WORTH_S", 60.0)  # however busy the machine is
    where = set()

    def quick(number):
        where.add(threading.current_thread())
        return -number

    assert list(map_if_worth(quick, range(100), 3)) == [-n for n in range(100)]
    assert where == {threading.current_thread()}


def test_what_waits_goes_to_threads_and_is_tried_again_later(monkeypatch):
    monkeypatch.setattr(threads, "HANDED", 20)
    here, elsewhere = [], []

    def slow(number):
        time.sleep(0.005)
        own = threading.current_thread() is threading.main_thread()
        (here if own else elsewhere).append(number)
        return -number

    assert list(map_if_worth(slow, range(50), 3)) == [-n for n in range(50)]
    assert here == [*range(4), *range(24, 28), *range(48, 50)]
    assert sorted(elsewhere) == [*range(4, 24), *range(28, 48)]


@pytest.mark.parametrize("wait", [0, 0.005])
def test_an_error_comes_in_its_turn(wait):
    def fail(number):
        time.sleep(wait)
        return 1 // (10 - number)

    got = map_if_worth(fail, range(100), 3)
    assert [next(got) for _ in range(8)] == [1 // (10 - n) for n in range(8)]
    with pytest.raises(ZeroDivisionError):
        list(got)
