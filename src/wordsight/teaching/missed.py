"""How many photos are missed, told from a few random ones among those without a label.

The head says how likely each photo is to show a word, but it learned from photos it chose itself,
so its probabilities can be far off among the rest: it may miss a few of a thousand, or most of
them. Ten random photos of the rest correct them (Platt 1999, "Probabilistic outputs for support
vector machines", with a normal prior on both parameters).
"""

from __future__ import annotations

import numpy as np

from ..heads.logistic import sigmoid

LOOKS = 10
LIKELY = 0.5  # share of the looks that goes to likely photos; the rest goes to all alike
# standard deviations of the prior: of the log-odds' shift, and of their slope
SHIFT, SLOPE = 6.0, 3.0
STEPS = 50


class Missed:
    """A random look at the photos without a label.

    Args:
        photos: (m,) int, the photos.
        odds: (m,) float64, log-odds that each shows a word, by the head.
        slope: what the log-odds are thought to be too small by, before anything was looked at.
        rng: draws the photos to look at.

    Attributes:
        order: photos to look at, in turn.
    """

    def __init__(
        self, photos: np.ndarray, odds: np.ndarray, slope: float, rng: np.random.Generator
    ) -> None:
        self._odds, self._slope = dict(zip(photos.tolist(), odds.tolist(), strict=True)), slope
        shares = sigmoid(odds)
        chances = LIKELY * shares / max(shares.sum(), 1e-12) + (1 - LIKELY) / max(len(photos), 1)
        looks = min(LOOKS, len(photos))
        self.order: list[int] = []
        if looks:
            self.order = rng.choice(photos, looks, False, chances / chances.sum()).tolist()
        self._answers: dict[int, bool] = {}

    @property
    def next(self) -> list[int]:
        """The photos still to be looked at."""
        return [photo for photo in self.order if photo not in self._answers]

    def take(self, photo: int, shows: bool) -> None:
        """Take the answer on a photo of `order`: whether it shows a word."""
        self._answers[photo] = shows

    def estimate(self, known: set[int]) -> float:
        """Return about how many of the photos show a word, leaving out those that are known."""
        shift, slope = self._fit()
        rest = [odds for photo, odds in self._odds.items() if photo not in known]
        return float(sigmoid(shift + slope * np.array(rest)).sum()) if rest else 0.0

    def _fit(self) -> tuple[float, float]:
        """Return shift and slope of the log-odds, by Newton's method."""
        x = np.array([[1.0, self._odds[photo]] for photo in self._answers]).reshape(-1, 2)
        y = np.array(list(self._answers.values()), dtype=float)
        middle, precision = np.array([0.0, self._slope]), np.diag([SHIFT**-2, SLOPE**-2])
        found = middle.copy()
        for _ in range(STEPS):
            shares = sigmoid(x @ found)
            gradient = x.T @ (shares - y) + precision @ (found - middle)
            curvature = (x * (shares * (1 - shares))[:, None]).T @ x + precision
            step = np.clip(np.linalg.solve(curvature, gradient), -1, 1)
            found -= step
            if np.abs(step).max() < 1e-6:
                break
        return float(found[0]), max(float(found[1]), 0.0)
