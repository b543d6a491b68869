"""A promised precision: kept as often as it says, with as much coverage as the pictures allow,
and honest where they don't.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wordsight.errors import InvalidArgument
from wordsight.heads.guarantee import (
    HeldOut,
    binomial_tail,
    check_precision,
    critical_sizes,
    keep_promise,
)


def held_out(scores, right, strangers=None):
    said = ["a" if ok else "b" for ok in right]
    strange = np.zeros(len(scores), bool) if strangers is None else strangers
    return HeldOut(
        [""] * len(scores), ["a"] * len(scores), said, np.asarray(scores, np.float32), strange
    )


def test_binomial_tail_equals_scipy():
    from scipy.stats import binom

    for errors, n, risk in (
        (0, 299, 0.01),
        (3, 150, 0.05),
        (40, 1000, 0.05),
        (5, 5, 0.5),
        (0, 1, 0.3),
    ):
        assert binomial_tail(errors, n, risk) == pytest.approx(binom.cdf(errors, n, risk), rel=1e-9)


def test_a_precision_of_99_needs_299_without_an_error():
    assert critical_sizes(0.01, 1000) == [299, 473, 628, 773, 913]
    scores = np.linspace(0.6, 1.0, 299)
    assert keep_promise(held_out(scores, [True] * 299), 0.99).threshold == pytest.approx(0.6)
    short = keep_promise(held_out(scores[:298], [True] * 298), 0.99)
    assert short.threshold is None and short.needed == 299
    assert "About 1 more labelled pictures" in short.sentence()


@pytest.mark.parametrize(("precision", "n"), [(0.95, 400), (0.9, 300)])
def test_the_truth_keeps_the_promise_in_94_of_100_calibrations(precision, n):
    rng = np.random.default_rng(7)

    # right far more often than promised above 0.5, far less below: the hardest case for a threshold
    def chance(score):
        return np.where(score > 0.5, 0.995, 1 - 2 * (1 - precision))

    grid = np.sort(rng.random(200_000))[::-1]
    risk = np.cumsum(1 - chance(grid)) / np.arange(1, len(grid) + 1)  # true, at every threshold
    broken = 0
    for _ in range(500):
        scores = rng.random(n)
        threshold = keep_promise(
            held_out(scores, rng.random(n) < chance(scores)), precision
        ).threshold
        broken += (
            threshold is not None
            and risk[np.searchsorted(-grid, -threshold, side="right") - 1] > 1 - precision
        )
    assert broken <= 33


def test_an_error_among_the_doubtful_costs_only_those():
    scores = np.linspace(0.5, 1.0, 600)
    right = np.ones(600, bool)
    right[:4] = False
    promise = keep_promise(held_out(scores, right), 0.99)
    assert promise.accepted == 597 and promise.wrong == 1


def test_images_of_one_probability_stand_and_fall_together():
    promise = keep_promise(held_out(np.ones(400), [True] * 399 + [False]), 0.99)
    assert promise.threshold is None
    assert keep_promise(held_out(np.ones(400), [True] * 400), 0.99).accepted == 400


def test_strangers_are_never_accepted():
    strangers = np.zeros(400, bool)
    strangers[:50] = True
    promise = keep_promise(held_out(np.ones(400), [False] * 50 + [True] * 350, strangers), 0.99)
    assert promise.accepted == 350 and promise.wrong == 0


def test_where_even_the_surest_are_wrong_more_images_would_not_help():
    promise = keep_promise(held_out(np.linspace(0, 1, 300), np.arange(300) % 5 > 0), 0.99)
    assert (
        promise.threshold is None
        and promise.needed is None
        and "would not help" in promise.sentence()
    )


def test_where_only_a_few_sure_ones_are_right_no_number_of_images_is_named():
    """The surest 36 of 290 are right, but the search begins with the surest third, of which too
    many are wrong.
    """
    right = np.arange(290) < 36
    right[36:] = np.arange(254) % 3 > 0
    promise = keep_promise(held_out(np.linspace(1, 0, 290), right), 0.9)
    assert promise.threshold is None and promise.needed is None
    assert "would not help" in promise.sentence()
    noted_before = replace(promise, needed=235)
    assert noted_before.sentence() == promise.sentence()


@pytest.mark.parametrize("rounded", [False, True])
def test_more_images_than_there_are_is_what_is_asked_for(rounded):
    rng = np.random.default_rng(5)
    asked = 0
    for _ in range(150):
        scores = rng.random(int(rng.integers(5, 600)))
        scores = np.round(scores, 1) if rounded else scores
        right = rng.random(len(scores)) > rng.random() * 0.5 * (1 - scores)
        promise = keep_promise(held_out(scores, right), float(rng.choice([0.8, 0.9, 0.95, 0.99])))
        if promise.threshold is None and promise.needed is not None:
            asked += 1
            assert promise.needed > promise.held_out
    assert asked > 10


@pytest.mark.parametrize("precision", [0.3, 1.0, 99.0])
def test_a_precision_that_cannot_be_promised_is_refused(precision):
    with pytest.raises(InvalidArgument, match=r"between 0.5 and 0.9999"):
        check_precision(precision)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_images_promise_nothing(count):
    promise = keep_promise(held_out(np.ones(count), [True] * count), 0.9)
    assert promise.threshold is None and promise.held_out == count and promise.sentence()
