from __future__ import annotations

import numpy as np
import pytest

from wordsight.errors import InvalidArgument
from wordsight.heads.linear import (
    LinearHead,
    fit_head,
    fit_temperature,
    log_loss,
    nearest_mean,
    softmax,
)


def blobs(counts, width=64, spread=1.0, seed=0):
    """Embeddings of classes that lie around random centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (len(counts), width))
    labels = np.repeat(np.arange(len(counts)), counts)
    return (centres[labels] + rng.normal(0, spread, (len(labels), width))).astype(
        np.float32
    ), labels


@pytest.mark.parametrize("counts", [(30, 30), (40, 30, 20), (200, 200)])
def test_fit_head_learns_and_is_calibrated(counts):
    x, y = blobs(counts)
    head, report = fit_head(x, y, len(counts))
    assert report.accuracy > 0.97
    assert (head.logits(x).argmax(axis=1) == y).mean() > 0.97
    assert np.allclose(head.probabilities(x).sum(axis=1), 1, atol=1e-5)


def test_fit_head_is_deterministic_and_leaves_its_input_alone():
    x, y = blobs((25, 25))
    before = x.copy()
    first, second = fit_head(x, y, 2, seed=3)[0], fit_head(x, y, 2, seed=3)[0]
    assert np.array_equal(first.weight, second.weight) and first.temperature == second.temperature
    assert np.array_equal(x, before)


def test_fit_head_gives_small_classes_the_same_voice():
    x, y = blobs((300, 8), spread=1.6)
    fresh, truth = blobs((100, 100), spread=1.6)
    head, _ = fit_head(x, y, 2)
    assert (head.logits(fresh).argmax(axis=1) == truth)[truth == 1].mean() > 0.85


def test_fit_head_probabilities_mean_what_they_say():
    x, y = blobs((400, 400), width=16, spread=2.5)
    fresh, truth = blobs((4000, 4000), width=16, spread=2.5)
    head, _ = fit_head(x, y, 2)
    p = head.probabilities(fresh)
    assert abs(p.max(axis=1).mean() - (p.argmax(axis=1) == truth).mean()) < 0.03


@pytest.mark.parametrize("labels", [[0, 0, 1], [0, 0, 0]])
def test_fit_head_refuses_too_few(labels):
    with pytest.raises(InvalidArgument, match="at least 2 pictures each"):
        fit_head(np.eye(3, 8, dtype=np.float32), np.array(labels), 2)


def test_logistic_equals_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    from wordsight.heads.linear import _fit_logistic, _spanning_columns

    x, y = blobs((40, 60, 50), width=200, spread=3.0)
    z = (x - x.mean(axis=0)) @ _spanning_columns(x - x.mean(axis=0))
    z /= np.sqrt(z.var(axis=0).sum() / 200)
    weight, bias = _fit_logistic(z, y, 3, 0.3, (z**2).sum(axis=0))
    reference = linear_model.LogisticRegression(
        C=0.3, class_weight="balanced", max_iter=3000, tol=1e-8
    ).fit(z, y)
    ours, theirs = z @ weight.T + bias, reference.decision_function(z)
    assert (
        np.abs(
            (ours - ours.mean(axis=1, keepdims=True))
            - (theirs - theirs.mean(axis=1, keepdims=True))
        ).max()
        < 0.1
    )
    assert np.abs(softmax(ours) - softmax(theirs)).max() < 0.01


def test_discriminant_equals_scikit_learn():
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    from wordsight.heads.linear import _fit_lda, _within_scatter

    x, y = blobs((50, 50, 50), width=20, spread=2.0)
    weight, bias = _fit_lda(_within_scatter(x.astype(float), y, 3), 0.5, 20)
    reference = discriminant.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(x, y)
    ours, theirs = x @ weight.T + bias, reference.decision_function(x)
    ours, theirs = (z - z.mean(axis=1, keepdims=True) for z in (ours, theirs))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.99


def test_fit_temperature_finds_the_one_that_was_used():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 3))
    labels = (softmax(logits).cumsum(axis=1) > rng.random((20000, 1))).argmax(axis=1)
    assert abs(fit_temperature(logits * 4.0, labels) - 4.0) < 0.2
    assert log_loss(logits, labels) < log_loss(logits * 4.0, labels)


def test_nearest_mean_averages_the_largest():
    assert nearest_mean(np.array([[1.0, 5.0, 3.0]]), 2).tolist() == [4.0]
    assert nearest_mean(np.array([[1.0, 5.0]]), 10).tolist() == [3.0]


def test_linear_head_shapes():
    head = LinearHead(np.ones((3, 5), np.float32), np.zeros(3, np.float32), 2.0)
    assert head.probabilities(np.zeros((7, 5), np.float32)).shape == (7, 3)
