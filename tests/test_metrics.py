"""The figures agree with scikit-learn, with scipy and with what one computes by hand; their
intervals with theory.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from wordsight.metrics import classification as metrics
from wordsight.metrics.classification import (
    Estimate,
    calibration,
    clopper_pearson,
    confusion,
    proportion,
    ranking,
    risk_coverage,
    thin,
)


@pytest.mark.parametrize(
    ("successes", "total"),
    [(0, 299), (299, 299), (1, 7), (63, 100), (0, 1), (1, 1), (1, 10**6), (999_999, 10**6)]
    + [(n, 12) for n in range(13)]
    + [(31_415, 10**6), (500_000, 10**6), (49_990, 50_000)],
)
def test_clopper_pearson_agrees_with_scipy(successes, total):
    theirs = binomtest(successes, total).proportion_ci(0.95, "exact")
    ours = clopper_pearson(successes, total)
    assert ours == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-12)


def test_clopper_pearson_of_299_without_a_mistake_is_one_percent():
    assert (
        clopper_pearson(0, 299, tail=0.05)[1]
        == pytest.approx(1 - 0.05 ** (1 / 299))
        == pytest.approx(0.01, abs=5e-5)
    )
    assert clopper_pearson(0, 299)[1] == pytest.approx(1 - 0.025 ** (1 / 299))  # two-sided
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_proportion_of_nothing_is_empty():
    assert proportion(0, 0) == Estimate(None, None, None)
    assert proportion(0, 0).to_dict() == {"value": None, "low": None, "high": None}
    assert proportion(1, 4).value == 0.25


def test_confusion_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth, top = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    assert (confusion(truth, top, 4) == confusion_matrix(truth, top)).all()
    assert confusion(np.array([0]), np.array([2]), 3).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_calibration_of_known_bins():
    probability = np.array([0.9] * 10 + [0.6] * 10)
    right = np.array([True] * 8 + [False] * 2 + [True] * 6 + [False] * 4)
    found = calibration(probability, right)
    assert found.ece.value == pytest.approx(0.5 * 0.1 + 0.5 * 0.0)
    # (13/15, 14/15], (8/15, 9/15]
    assert found.counts.sum() == 20 and found.counts[13] == found.counts[8] == 10
    assert found.probability[13] == pytest.approx(0.9) and found.accuracy[13].value == 0.8
    assert found.accuracy[0] == Estimate()


def test_calibration_bins_hold_their_upper_edge_and_all_of_zero_to_one():
    assert calibration(
        np.array([0.0, 1.0, 0.2, 0.5]), np.ones(4, bool), bins=5
    ).counts.tolist() == [2, 0, 1, 0, 1]
    assert calibration(np.array([1.0]), np.array([True])).ece == Estimate(0.0, 0.0, 0.0)
    assert calibration(np.array([1.0]), np.array([False])).ece.value == 1.0


def test_calibration_interval_holds_its_value():
    rng = np.random.default_rng(1)
    probability = rng.uniform(0.5, 1, 80)
    ece = calibration(probability, rng.random(80) < probability).ece
    assert 0 <= ece.low <= ece.value <= ece.high <= 1


def test_aurc_of_a_perfect_and_of_a_reversed_ranking():
    confidence, wrong = np.linspace(1, 0.5, 10), np.array([False] * 8 + [True] * 2)
    perfect, reversed_ = risk_coverage(confidence, wrong), risk_coverage(confidence, wrong[::-1])
    assert perfect.aurc.value == pytest.approx((1 / 9 + 2 / 10) / 10)
    assert reversed_.aurc.value == pytest.approx((1 + 1 + sum(2 / k for k in range(3, 11))) / 10)
    assert perfect.coverage_at[0.01].value == 0.8 and reversed_.coverage_at[0.05].value == 0.0
    assert perfect.risk[-1] == reversed_.risk[-1] == 0.2 and perfect.coverage[-1] == 1.0
    assert perfect.aurc.low <= perfect.aurc.value <= perfect.aurc.high


def test_risk_coverage_lets_equals_in_together_whatever_their_order():
    confidence = np.array([0.9, 0.5, 0.5, 0.5, 0.0, 0.0])
    wrong = np.array([False, True, False, False, True, True])
    curve = risk_coverage(confidence, wrong)
    assert curve.confidence.tolist() == [0.9, 0.5, 0.0]
    assert curve.coverage == pytest.approx([1 / 6, 4 / 6, 1]) and curve.risk == pytest.approx(
        [0, 1 / 4, 1 / 2]
    )
    assert curve.aurc.value == pytest.approx((1 * 0 + 3 * 0.25 + 2 * 0.5) / 6)
    order = np.array([5, 3, 4, 2, 1, 0])
    assert risk_coverage(confidence[order], wrong[order]).aurc.value == pytest.approx(
        curve.aurc.value
    )


def test_coverage_at_risk_counts_the_very_limit():
    wrong = np.zeros(100, bool)
    wrong[50] = True
    assert risk_coverage(np.linspace(1, 0, 100), wrong).coverage_at[0.01].value == 1.0
    assert risk_coverage(np.ones(3), np.ones(3, bool)).coverage_at[0.05].value == 0.0


def test_ranking_agrees_with_scikit_learn_and_its_resamples_with_itself():
    rng = np.random.default_rng(2)
    wanted, unwanted = rng.normal(1, 1, 200).round(1), rng.normal(0, 1, 90).round(1)  # with ties
    found = ranking(wanted, unwanted)
    truth, scores = np.repeat([1, 0], [200, 90]), np.concatenate([wanted, unwanted])
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, scores))
    fpr, tpr, _ = roc_curve(truth, scores)
    np.testing.assert_allclose(found.fpr, fpr)
    np.testing.assert_allclose(found.tpr, tpr)
    assert found.average_precision.value == pytest.approx(average_precision_score(truth, scores))
    lines = -np.unique(-scores)
    whole = metrics._separation(
        metrics._at_least(wanted, lines)[None], metrics._at_least(unwanted, lines)[None]
    )
    assert whole[:2, 0] == pytest.approx([found.auroc.value, found.average_precision.value])
    for estimate in (found.auroc, found.average_precision, found.fpr_at_95_tpr):
        assert 0 <= estimate.low < estimate.value < estimate.high <= 1


def test_fpr_at_95_tpr_by_hand():
    wanted = np.arange(100, 200)  # 95 % of them reach 105
    assert ranking(wanted, np.array([104.0, 105.0, 90.0, 300.0])).fpr_at_95_tpr.value == 0.5
    none = ranking(wanted, np.zeros(10))
    assert none.fpr_at_95_tpr.low == 0 and none.fpr_at_95_tpr.high == pytest.approx(
        clopper_pearson(0, 10)[1]
    )
    assert none.auroc == Estimate(1.0, 1.0, 1.0)
    assert ranking(np.ones(5), np.ones(5)).auroc.value == 0.5


def test_ranking_of_nothing_is_empty():
    found = ranking(np.zeros(0), np.ones(3))
    assert found.auroc == found.fpr_at_95_tpr == Estimate() and found.to_dict()["curve"] == {
        "fpr": [],
        "tpr": [],
    }


def test_bootstrap_interval_of_the_area_is_as_wide_as_theory_says():
    rng = np.random.default_rng(3)
    found = ranking(rng.normal(1, 1, 400), rng.normal(0, 1, 400)).auroc
    a = found.value  # standard error after Hanley and McNeil
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + 399 * (q1 - a * a) + 399 * (q2 - a * a)) / 400**2)
    assert (found.high - found.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.15)


def test_same_numbers_same_intervals():
    rng = np.random.default_rng(4)
    confidence, wrong = rng.random(50), rng.random(50) < 0.3
    assert (
        risk_coverage(confidence, wrong).to_dict()
        == risk_coverage(confidence.copy(), wrong.copy()).to_dict()
    )
    assert calibration(confidence, wrong).to_dict() == calibration(confidence, wrong).to_dict()


def test_curves_are_thinned_to_500_points_with_both_ends():
    assert thin(3).tolist() == [0, 1, 2] and thin(0).tolist() == []
    index = thin(100_000)
    assert len(index) == 500 and index[0] == 0 and index[-1] == 99_999
    curve = risk_coverage(np.linspace(0, 1, 3000), np.zeros(3000, bool)).to_dict()["curve"]
    assert {len(column) for column in curve.values()} == {500} and curve["coverage"][-1] == 1.0


def test_memory_stays_flat_at_100_000_images(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 20)  # memory doesn't depend on how many
    rng = np.random.default_rng(5)
    probability = rng.uniform(0.5, 1, 100_000).astype(np.float32)
    right = rng.random(100_000) < probability
    tracemalloc.start()
    started = time.perf_counter()
    calibration(probability, right)
    risk_coverage(probability, ~right)
    ranking(probability[right], probability[~right])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20 and time.perf_counter() - started < 20
