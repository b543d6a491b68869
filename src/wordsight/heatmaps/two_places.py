"""Several words in one photo, from the feature map of the one pass: windows over it are small
photos of their own, and two words count where two windows that don't overlap each show one.

One window alone proves nothing: where a photo is hard to name, some window of it looks like every
word in turn. Two that lie apart did so wrongly on one of 1,103 mixed photos.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .windows import Level, shares, window_means

WINDOW = 2 / 3  # of the shorter side
STEP = 1 / 2  # of a window, at most
FEWEST_CELLS = 4  # across a window


def together(words: Callable[[np.ndarray], np.ndarray], feature_map: np.ndarray) -> np.ndarray:
    """Return for each word the probability that a photo shows it and, at another place, another of
    the words: that of the less likely of the two, (words,) float32, 0–1.

    Args:
        words: returns the probabilities (n, words) of two words or more, of embeddings (n, C).
        feature_map: (C, h, w) of the photo.
    """
    level = _windows(feature_map.shape[1], feature_map.shape[2])
    side = level.window[0]
    down = shares(level.ys, side, 0.0, 1.0, feature_map.shape[1])
    across = shares(level.xs, side, 0.0, 1.0, feature_map.shape[2])
    means = window_means(feature_map, down, across)  # (C, h, w) -> (C, a, b)
    seen = words(means.reshape(len(means), -1).T)  # (windows, words)
    ordered = np.sort(seen, axis=1)
    # of each window, the likeliest word but one's own
    others = np.where(seen == ordered[:, -1:], ordered[:, -2:-1], ordered[:, -1:])
    elsewhere = np.where(_apart(level.boxes())[:, :, None], others[None], 0.0).max(axis=1)
    return np.minimum(seen, elsewhere).max(axis=0).astype(np.float32)


def _windows(height: int, width: int) -> Level:
    """Return square windows over a feature map of height × width cells, in cells."""
    side = min(max(WINDOW * min(height, width), FEWEST_CELLS), height, width)
    ys, xs = (
        np.linspace(0, length - side, math.ceil((length - side) / (STEP * side)) + 1)
        for length in (height, width)
    )
    return Level((side, side), ys, xs)


def _apart(boxes: np.ndarray) -> np.ndarray:
    """Whether two of n boxes (n, 4) have nothing in common, (n, n) bool."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    beside: np.ndarray = (high <= boxes[None, :, :2]) | (boxes[None, :, 2:] <= low)
    return np.any(beside, axis=2)
