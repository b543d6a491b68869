"""Logistic regression on the directions in which the photos of a folder differ most: what a head
learns from few photos.
"""

from __future__ import annotations

import numpy as np

DIRECTIONS = 128
TINY_SHARE = 1e-6  # of probability; less is not told from none


class Directions:
    """The directions in which the photos of a folder differ most, each dimension scaled alike.

    Attributes:
        places: (n, r) float64, the photos in these directions.

    Args:
        embeddings: (n, C) float32 of the photos.
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        width = embeddings.shape[1]
        self._mean = embeddings.mean(axis=0)
        self._scale = (embeddings.std(axis=0) + 1e-3) * np.sqrt(width)
        scaled = (embeddings - self._mean) / self._scale
        n = len(scaled)
        gram = scaled @ scaled.T if n < width else scaled.T @ scaled  # the smaller of the two
        values, vectors = np.linalg.eigh(gram)
        kept = np.flatnonzero(values > max(values[-1], 0) * 1e-9)[-DIRECTIONS:]
        self._columns = (
            scaled.T @ (vectors[:, kept] / np.sqrt(values[kept])) if n < width else vectors[:, kept]
        ).astype(np.float32)  # (C, r)
        self.places = (scaled @ self._columns).astype(np.float64)

    def fit(self, rows: np.ndarray, shown: np.ndarray, loose: float) -> tuple[np.ndarray, float]:
        """Return weight (C,) and bias of a logistic regression, for plain embeddings.

        Args:
            rows: (m,) int, indices of the photos to learn from.
            shown: (m,) bool, which of them show the word.
            loose: inverse penalty of the weights.
        """
        found = fit_logistic(self.places[rows], shown, loose)
        weight = self._columns @ found[:-1] / self._scale
        return weight.astype(np.float32), float(found[-1] - weight @ self._mean)


def fit_logistic(x: np.ndarray, shown: np.ndarray, loose: float) -> np.ndarray:
    """Return weights (r,) and, last, the bias of logistic regression by Newton's method with step
    halving.

    The targets are Platt's, a little inside 0 and 1, so that they stay finite where both sides are
    far apart (Platt 1999, "Probabilistic outputs for support vector machines").

    Args:
        x: (m, r) float64.
        shown: (m,) bool, which rows are positive.
        loose: inverse penalty of the weights.
    """
    positives, n = int(shown.sum()), len(x)
    targets = np.where(shown, (positives + 1) / (positives + 2), 1 / (n - positives + 2))
    inputs = np.concatenate([x, np.ones((n, 1))], axis=1)
    penalty = np.append(np.full(x.shape[1], 1 / loose), 1e-6)

    def loss(found: np.ndarray) -> float:
        z = inputs @ found
        return float((np.logaddexp(0, z) - targets * z).sum() + (penalty * found**2).sum() / 2)

    found = np.zeros(inputs.shape[1])
    found[-1] = logit(targets.mean())
    least = loss(found)
    for _ in range(30):
        chance = sigmoid(inputs @ found)
        gradient = inputs.T @ (chance - targets) + penalty * found
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs
        curvature[np.diag_indices(len(found))] += penalty
        step = np.linalg.solve(curvature, gradient)
        for length in (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 0):
            tried = loss(found - length * step)
            if tried <= least:
                break
        found, gained, least = found - length * step, least - tried, tried
        if gained < 1e-3:
            break
    return found


def logit(p: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, finite also for 0 and 1."""
    p = np.clip(p, TINY_SHARE, 1 - TINY_SHARE)
    return np.log(p / (1 - p))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z)), without overflow."""
    return 1 / (1 + np.exp(-np.clip(z, -60, 60)))
