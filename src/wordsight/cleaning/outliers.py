"""How far an image lies from the others of its class. It does not say how far is too far."""

from __future__ import annotations

import numpy as np

from ..heads.linear import normalize, power_normalize, softmax
from ..heads.rows import gather, read_in_parts


def strangeness(
    rows: np.ndarray,
    labels: np.ndarray,
    embeddings: np.ndarray,
    imagenet: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Return how far each of some images lies from the middle of its class, (m,), in deviations.

    Averages two distances: of the embedding's square root, and of the probabilities of the
    backbone's own head. The middle of a class comes from its inner 70 %, so that junk does not move
    it.

    Args:
        rows: (m,) int, indices of the images; at least one.
        labels: (n,) int, index of each image's class.
        embeddings: (n, C) float32.
        imagenet: weight (1000, C) and bias (1000,) of the backbone's own ImageNet head, None if it
            has none.
    """
    views = [(gather(map(power_normalize, read_in_parts(embeddings, rows)), unit=True), 0.03)]
    if imagenet is not None:
        weight, bias = imagenet
        shares = (
            np.sqrt(softmax((some @ weight.T + bias) / 0.3))
            for some in read_in_parts(embeddings, rows)
        )
        views.append((gather(shares, unit=True), 0.2))
    total = np.zeros(len(rows))
    for view, floor in views:
        distance = _distance_to_middle(view, labels[rows])
        deviation = 1.4826 * np.median(np.abs(distance - np.median(distance)))
        total += (distance - np.median(distance)) / max(deviation, floor)
    return total / len(views)


def _distance_to_middle(unit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return 1 - cosine (n,) of rows (n, C) of unit length to the middle of their class."""
    distance = np.zeros(len(unit))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        inner = np.ones(len(members), dtype=bool)
        for _ in range(4):
            sums = [part.sum(axis=0) for part in read_in_parts(unit, members[inner])]
            middle = normalize(np.sum(sums, axis=0)[None] / int(inner.sum()))[0]
            own = 1 - np.concatenate([part @ middle for part in read_in_parts(unit, members)])
            inner = own <= np.quantile(own, 0.7)
        distance[members] = own
    return distance
