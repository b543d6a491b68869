"""The check behind a promise: random photos of those that would be labelled, until enough of them
are right.
"""

from __future__ import annotations

import math

import numpy as np

CONFIDENCE = 0.95
# share of the permitted error (1 - CONFIDENCE) that the first check, the second, … may use up
SPENT = (0.7, 0.15, 0.08, 0.04, 0.02)
FLAWLESS = 0.65  # weight of the hypothesis that no label is wrong
FEW = 0.25  # of the errors allowed: the weights of the others fall by e over so many
MOST_HYPOTHESES = 200
MOST = 700.0  # of a logarithm that becomes a number


class Audit:
    """Checks one fixed set of labels by looking at random ones, one after the other.

    The evidence is a likelihood ratio: how well "at most the allowed number of labels is wrong"
    explains the answers so far, a mixture over numbers, against "one more than allowed". Drawn
    without replacement, it is a supermartingale if too many labels are wrong, so the chance that it
    ever reaches 1 / risk is at most `risk` (Ville 1939; Waudby-Smith and Ramdas 2020, "Confidence
    sequences for sampling without replacement"). So one may look after every answer and stop as
    soon as it is enough.

    Args:
        photos: (n,) int, the photos whose labels are checked.
        precision: share of the labels that must be right.
        number: of this check among those of a session, from 0; later ones have to show more.
        rng: decides the order.
    """

    def __init__(
        self, photos: np.ndarray, precision: float, number: int, rng: np.random.Generator
    ) -> None:
        self.photos = photos
        self.precision = precision
        self.risk = (1 - CONFIDENCE) * (SPENT[number] if number < len(SPENT) else 0.0)
        self.order = rng.permutation(photos)
        self.answers: list[bool] = []  # whether labels were right, in order
        self._early: dict[int, bool] = {}  # answers that came before their turn
        self._allowed = math.floor((1 - precision) * len(photos) + 1e-9)
        self._numbers, self._shares = _hypotheses(self._allowed)
        # logarithms of 0!, 1!, … n!
        self._factorials = np.append(0.0, np.cumsum(np.log(np.arange(1, len(photos) + 1))))
        self._known: dict[tuple[int, int], float] = {}  # evidence, by what it was asked for

    @property
    def checked(self) -> int:
        """How many labels were looked at."""
        return len(self.answers)

    @property
    def wrong(self) -> int:
        """How many of them were wrong."""
        return self.answers.count(False)

    def take(self, photo: int, right: bool) -> None:
        """Take the answer on a photo, in any order; it counts once all before it are known."""
        self._early[photo] = right
        while not self.ended and int(self.order[self.checked]) in self._early:
            self.answers.append(self._early.pop(int(self.order[self.checked])))

    @property
    def next(self) -> int | None:
        """The photo to look at next, or None once the check has ended."""
        return None if self.ended else int(self.order[self.checked])

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        left = len(self.photos) - self.checked
        if self.wrong + left <= self._allowed:  # known, whatever the rest is
            return True
        return self.risk > 0 and self.evidence(self.checked, self.wrong) >= 1 / self.risk

    @property
    def failed(self) -> bool:
        """Whether the promise can't hold any more, or only after more answers than it is worth."""
        return self.wrong > self._allowed or self.more() is None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to look at."""
        return self.kept or self.failed or self.checked == len(self.photos)

    def evidence(self, checked: int, wrong: int) -> float:
        """Return the likelihood ratio for so many labels looked at, and so many of them wrong."""
        if (checked, wrong) not in self._known:
            self._known[checked, wrong] = self._evidence(checked, wrong)
        return self._known[checked, wrong]

    def _evidence(self, checked: int, wrong: int) -> float:
        n, edge = len(self.photos), self._allowed + 1
        if wrong > self._allowed:
            return 0.0
        if checked - wrong > n - edge:  # there aren't so many right ones
            return math.inf
        base = self._log_chances(np.array([edge]), checked, wrong)
        ratios = self._log_chances(self._numbers, checked, wrong) - base
        return float(self._shares @ np.exp(np.minimum(ratios, MOST)))

    def _log_chances(self, bad: np.ndarray, checked: int, wrong: int) -> np.ndarray:
        """Return, for each number of wrong labels, the logarithm of the chance of these answers
        in one order, but for what is the same for all numbers.
        """
        good, right = len(self.photos) - bad, checked - wrong
        possible = (bad >= wrong) & (good >= right)
        logs = self._factorials
        chances = logs[bad] - logs[bad - wrong] + logs[good] - logs[good - right]
        return np.where(possible, chances, -math.inf)

    def more(self) -> int | None:
        """Return how many more right answers in a row the promise takes, or None if all there are
        would not do.
        """
        left = len(self.photos) - self.checked
        if self.kept:
            return 0
        if self.wrong > self._allowed:
            return None
        low, high = 1, left
        while low < high:  # evidence grows with each right answer
            middle = (low + high) // 2
            if self._would_do(middle):
                high = middle
            else:
                low = middle + 1
        return low if left and self._would_do(low) else None

    def _would_do(self, more: int) -> bool:
        left = len(self.photos) - self.checked - more
        if self.wrong + left <= self._allowed:
            return True
        return self.risk > 0 and self.evidence(self.checked + more, self.wrong) >= 1 / self.risk


def _hypotheses(allowed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of wrong labels up to the allowed one, and the weight of each."""
    if allowed == 0:
        return np.zeros(1, int), np.ones(1)
    numbers = np.unique(np.linspace(1, allowed, MOST_HYPOTHESES).round().astype(int))
    weights = np.exp(-numbers / (FEW * allowed))
    weights *= (1 - FLAWLESS) / weights.sum()
    return np.append(0, numbers), np.append(FLAWLESS, weights)
