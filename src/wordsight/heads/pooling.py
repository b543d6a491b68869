"""What photos of one event show together."""

from __future__ import annotations

import numpy as np

TINY = 1e-6
UNSURE = 1e-3  # that a photo is at least, so that none decides alone


def pooled_logits(probabilities: np.ndarray) -> np.ndarray:
    """Return logits (classes,) of what photos show together, for the probabilities (n, classes) of
    each, which add up to 1.

    The mean of their logarithms, in which a photo's weight is 1 / (1 - p) for the probability p of
    its likeliest class, as a measurement's is 1 / variance. So a clear photo decides among blurred
    ones, and clear photos that contradict each other leave the event open.
    """
    weight = 1 / (1 - probabilities.max(axis=1) + UNSURE)
    logs = np.log(np.clip(probabilities, TINY, 1.0))
    return (logs * weight[:, None]).sum(axis=0) / weight.sum()
