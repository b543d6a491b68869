"""What photos of one event show together."""

from __future__ import annotations

import numpy as np

from .linear import softmax

TINY = 1e-12
UNSURE = 1e-3  # that a photo is at least, so that none decides alone


def pooled(rows: np.ndarray, count: int, several: bool = False, power: float = 1.0) -> np.ndarray:
    """Return the probabilities (classes,) of what photos of an event show together.

    Of classes that exclude each other: the mean of the photos' logarithms, in which a photo's
    weight is 1 / (1 - p) for the probability p of its likeliest class, as a measurement's is 1 /
    variance. So a clear photo decides among blurred ones, and clear photos that contradict each
    other leave the event open; photos that agree are not less sure than the least sure of them. Of
    words that may stand together: the surest photo of each.

    The more photos an event has, the likelier one of them is a false alarm. So the probability is
    at most 1 - `count` × the chance that all photos that show something are wrong (Bonferroni).

    Args:
        rows: (k, classes) probabilities of each photo that shows something.
        count: photos of the event, with those that show nothing.
        several: whether classes may stand together; else rows add up to 1.
        power: that odds are raised to, learned from events that were held out.
    """
    most = np.clip(1 - count * np.prod(1 - rows, axis=0), 0.0, 1.0)
    if several:
        return np.minimum(rows.max(axis=0), most)
    weight = 1 / (1 - rows.max(axis=1) + UNSURE)
    logs = np.log(np.clip(rows, TINY, 1.0))
    said = softmax((logs * weight[:, None]).sum(axis=0) / weight.sum())
    best = int(said.argmax())
    if (rows.argmax(axis=1) == best).all():
        said = _with(said, best, max(said[best], rows[:, best].min()))
    said = _with(said, best, min(said[best], most[best]))
    return said if power == 1.0 else _with(said, best, _raised(said[best], power))


def fit_power(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Return the power of the odds, at most 1, at which probabilities (n,) of answers say best
    whether they are right, (n,) bool, by log loss.
    """
    powers = np.linspace(0.05, 1.0, 96)
    said = np.array([[_raised(p, power) for p in probabilities] for power in powers])
    said = np.clip(said, TINY, 1 - TINY)
    # as if one answer more were right and one wrong at even odds: few answers don't decide alone
    loss = -np.where(right, np.log(said), np.log(1 - said)).sum(axis=1)
    loss += np.log(powers) ** 2
    return float(powers[loss.argmin()])


def _raised(probability: float, power: float) -> float:
    """Return a probability with its odds raised to a power."""
    if probability in (0.0, 1.0):
        return probability
    odds = (probability / (1 - probability)) ** power
    return float(odds / (1 + odds))


def _with(said: np.ndarray, best: int, probability: float) -> np.ndarray:
    """Return probabilities of which one is as given, and the others share the rest as before."""
    rest = 1 - said[best]
    others = said * ((1 - probability) / rest) if rest > 0 else np.zeros_like(said)
    others[best] = probability
    return others
