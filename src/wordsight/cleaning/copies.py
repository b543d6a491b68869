"""The search for images of a data set that show the same. It does not choose which to keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.threads import cores, parallel_map
from ..heads.linear import power_normalize
from ..heads.neighbours import Neighbours
from ..heads.rows import read_in_parts
from ..images.copies import (
    MIN_CORNERS,
    NEIGHBOURS,
    PERHAPS_COSINE,
    hash_pairs,
    matching_corners,
)
from ..images.fingerprints import mirrored, resembles
from ..images.measures import Measures


def find_copies(
    files: np.ndarray,
    labels: np.ndarray,
    shas: Sequence[str | None],
    measures: Sequence[Measures | None],
    embeddings: np.ndarray,
) -> dict[tuple[int, int], float]:
    """Return pairs of images that show the same, with how alike they are, 0–1; also files of equal
    bytes in two classes.

    Hashes and near embeddings propose pairs; the images themselves must agree. Of files with equal
    bytes in one class, only the first counts.

    Args:
        files: (m,) int, indices of the images to look at, all of which could be decoded.
        labels: (n,) int, index of each image's class.
        shas: hash of each of the n files.
        measures: what was measured of each of the n images.
        embeddings: (n, C) float32.
    """
    first: dict[tuple[str | None, int], int] = {}
    rows = np.array(
        [i for i in files if first.setdefault((shas[i], int(labels[i])), i) == i], dtype=int
    )
    if len(rows) < 2:
        return {}

    def measured(row: int) -> Measures:
        found = measures[rows[row]]
        assert found is not None
        return found

    found: dict[tuple[int, int], float] = {}
    bits = (np.frombuffer(measured(row).look.bits, dtype=np.uint8) for row in range(len(rows)))
    for a, b in hash_pairs(np.stack([*bits])).tolist():
        if resembles(measured(a).look, measured(b).look):
            found[a, b] = 0.99
    near = Neighbours(map(power_normalize, read_in_parts(embeddings, rows)))

    def compare(pair: list[int]) -> float:
        """Return how alike two images are that the hashes told apart, 0 if no copies."""
        one, other = map(measured, pair)
        if resembles(one.look, mirrored(other.look)):
            return 0.98
        corners = matching_corners(one.points, one.descriptors, other.points, other.descriptors)
        return corners / (corners + MIN_CORNERS) if corners >= MIN_CORNERS else 0.0

    pairs = [
        pair
        for pair in near.pairs(NEIGHBOURS, PERHAPS_COSINE)[0].tolist()
        if tuple(pair) not in found
    ]
    for (a, b), score in zip(pairs, parallel_map(compare, pairs, cores()), strict=True):
        if score:
            found[a, b] = score
    return {
        (int(rows[a]), int(rows[b])): 1.0 if shas[rows[a]] == shas[rows[b]] else score
        for (a, b), score in found.items()
    }
