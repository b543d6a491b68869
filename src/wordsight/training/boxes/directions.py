"""The directions of a feature map that a head on it learns from."""

from __future__ import annotations

import numpy as np


def principal_directions(cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (C,) and the half whitened principal directions (at most `count`, C) of
    cells (n, C), of mean square 1.
    """
    mean = cells.mean(axis=0)
    cells = cells - mean
    values, vectors = np.linalg.eigh(cells.T @ cells / len(cells))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    turned = (vectors / np.maximum(values, max(1e-6, values[0] * 1e-4)) ** 0.25).T.astype(
        np.float32
    )
    return mean, turned / np.sqrt(np.mean((cells @ turned.T) ** 2))
