"""Which embeddings are near: the one index for search by example, for copies, and for whatever else
asks. Knows no images.

Few rows are compared with one another in full. Of many, each is compared with those in the cells
around it only (an inverted file, Sivic and Zisserman 2003), in the 64 directions in which the rows
vary most; what is found there is measured again in all directions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..core.threads import cores, parallel_map
from .linear import normalize
from .rows import FEW, STEP, gather, products, read, read_in_parts

SKETCH = 64  # principal directions that pairs are searched in
BLOCK = 512  # rows compared at once
SAMPLE = 20_000  # rows that tell the principal directions
ROUNDS, ROWS_A_CELL = 4, 30  # of k-means, and how many rows it learns from
PROBED = 4  # cells nearest to a row, in which its neighbours are searched
MOST = 1 << 22  # entries of a table of similarities
FARTHEST = -1e30
FOLDS = 16  # the largest of so many at once, so that fewer need to be put in order
ROUNDED = 1e-3  # by how much int16 may change a cosine


class Neighbours:
    """Embeddings scaled to unit length, and which of them are near.

    Up to 20,000 rows stay in memory. More lie in a file as int16, 2.6 KB a row of 1,280
    numbers. Memory then is about 1 KB a row while pairs are searched, and next to none otherwise.

    Args:
        chunks: (n, C) float32 each, in the order of the rows.

    Raises:
        OutputError: if there is no space for the file.
    """

    def __init__(self, chunks: Iterable[np.ndarray]) -> None:
        self._rows = gather(map(_unit, chunks), unit=True)

    def __len__(self) -> int:
        return len(self._rows)

    def nearest(self, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows nearest to an embedding (C,), the nearest first: indices (count,) int,
        and cosines (count,). Every row is compared; of equal ones, the first comes first.
        """
        unit = normalize(query[None])[0].astype(np.float32)
        blocks = parallel_map(lambda at: self._at(at) @ unit, self._starts(), cores())
        cosines = np.concatenate([*blocks, np.zeros(0, dtype=np.float32)])
        order = np.argsort(-cosines, kind="stable")[:count]
        return order, cosines[order]

    def pairs(self, count: int, at_least: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs of each row and its nearest neighbours: (pairs, 2) int, the smaller
        index first, sorted, each once; and their cosines (pairs,).

        Neighbours are those nearest in the 64 directions in which the rows vary most. Among more
        than 20,000 rows, copies are found in 99 of 100 cases; of the neighbours that are nearest
        in all directions, about three in four.

        Args:
            count: neighbours of each row.
            at_least: cosine of a pair.
        """
        count = min(count, len(self) - 1)
        if count < 1:
            return np.zeros((0, 2), dtype=int), np.zeros(0, dtype=np.float32)
        sketch = self._sketch()
        if len(self) <= FEW:
            near = _among_all(sketch, count)
        else:
            near = _in_cells(sketch, count)
            # a projection brings rows nearer, never apart
            far = _distances(sketch, near) > 2 - 2 * (at_least - ROUNDED)
            near[far] = -1
        del sketch
        left, place = np.nonzero(near >= 0)
        right = near[left, place]
        keys = np.unique(np.minimum(left, right) * len(self) + np.maximum(left, right))
        pairs = np.stack(np.divmod(keys, len(self)), axis=1)
        cosines = products(self._rows, pairs)
        return pairs[cosines >= at_least], cosines[cosines >= at_least]

    def _starts(self) -> range:
        return range(0, len(self), STEP)

    def _at(self, start: int) -> np.ndarray:
        """Return the rows from here on that are read at once."""
        return read(self._rows, slice(start, start + STEP))

    def _sketch(self) -> np.ndarray:
        """Return the rows (n, 64) in the directions in which they vary most."""
        every = -(-len(self) // SAMPLE)
        some = np.arange(0, len(self), every)
        sample = np.concatenate([*read_in_parts(self._rows, some)])
        middle = sample.mean(axis=0)
        centred = sample - middle
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = np.ascontiguousarray(vectors[:, -SKETCH:])  # (C, 64)
        if every == 1:
            return np.ascontiguousarray(centred @ axes)
        del sample, centred
        sketch = np.empty((len(self), axes.shape[1]), dtype=np.float32)

        def fill(at: int) -> None:
            sketch[at : at + STEP] = self._at(at) @ axes - middle @ axes

        for _ in parallel_map(fill, self._starts(), cores()):
            pass
        return sketch


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, C) scaled to unit length, float32, as they are if they have it."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    squares = np.einsum("ij,ij->i", rows, rows)
    return rows if np.abs(squares - 1).max(initial=0) < 1e-5 else normalize(rows)


def _among_all(sketch: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest neighbours (n, count) of each of the rows (n, d), in any order."""
    square = (sketch**2).sum(axis=1)
    found = np.empty((len(sketch), count), dtype=int)
    for top in range(0, len(sketch), BLOCK):
        # (block, n); the row's own square doesn't change the order
        distance = square[None, :] - 2 * sketch[top : top + BLOCK] @ sketch.T
        rows = np.arange(len(distance))
        distance[rows, rows + top] = np.inf
        found[top : top + BLOCK] = np.argpartition(distance, count - 1, axis=1)[:, :count]
    return found


def _in_cells(sketch: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest neighbours (n, count) of each of the rows (n, d) among those whose cell's
    middle is one of the few nearest to the row, in any order; -1 where there are not so many.
    """
    centres = _centres(sketch, FOLDS * max(1, round(len(sketch) ** 0.5 / FOLDS)))
    probed = _nearest_centres(sketch, centres, PROBED)  # (n, PROBED)
    home = probed[:, 0]
    members = _sorted_by(home, len(centres))
    asking = _sorted_by(probed.ravel(), len(centres))  # of each cell: row * PROBED + which probe
    half = (sketch**2).sum(axis=1) / 2
    found = np.full((len(sketch) * PROBED, count), -1, dtype=np.int32)
    nearness = np.full(found.shape, -np.inf, dtype=np.float32)

    def search(cell: int) -> None:
        theirs = members[cell]
        kept = min(count, len(theirs))
        # x y - y y / 2 by one product; columns that are no member are the farthest
        width = -(-len(theirs) // FOLDS) * FOLDS
        right = np.zeros((width, sketch.shape[1] + 1), dtype=np.float32)
        right[: len(theirs), :-1] = sketch[theirs]
        right[:, -1] = FARTHEST
        right[: len(theirs), -1] = -half[theirs]
        step = max(1, min(BLOCK, MOST // max(1, width)))
        for top in range(0, len(asking[cell]) if kept else 0, step):
            slots = asking[cell][top : top + step]
            mine = slots // PROBED
            left = np.ones((len(mine), right.shape[1]), dtype=np.float32)
            left[:, :-1] = sketch[mine]
            near = left @ right.T  # of a row, the largest is the nearest
            inside = np.flatnonzero(home[mine] == cell)
            near[inside, np.searchsorted(theirs, mine[inside])] = FARTHEST  # itself
            best = _largest(near, kept)
            nearness[slots, :kept] = np.take_along_axis(near, best, axis=1)
            found[slots, :kept] = theirs[np.minimum(best, len(theirs) - 1)]

    for _ in parallel_map(search, range(len(centres)), cores()):
        pass
    found[nearness <= FARTHEST / 2] = -1
    found = found.reshape(len(sketch), -1)
    nearness = nearness.reshape(found.shape)
    best = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
    return np.take_along_axis(found, best, axis=1)


def _sorted_by(cell: np.ndarray, cells: int) -> list[np.ndarray]:
    """Return which entries of (n,) hold each of the numbers below `cells`, in order."""
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.cumsum(np.bincount(cell, minlength=cells))[:-1])


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return the columns (n, count) of the largest entries of each row of (n, FOLDS * m).

    They lie in the `count` of m groups of columns whose largest entries are largest, so only
    these are put in order.
    """
    groups = values.shape[1] // FOLDS
    if count >= groups:
        return np.argpartition(-values, count - 1, axis=1)[:, :count]
    largest = values.reshape(len(values), FOLDS, groups).max(axis=1)  # (n, m)
    best = np.argpartition(largest, groups - count, axis=1)[:, -count:]
    columns = (best[:, :, None] + groups * np.arange(FOLDS)).reshape(len(values), -1)
    chosen = np.take_along_axis(values, columns, axis=1)
    order = np.argpartition(chosen, chosen.shape[1] - count, axis=1)[:, -count:]
    return np.take_along_axis(columns, order, axis=1)


def _centres(rows: np.ndarray, cells: int) -> np.ndarray:
    """Return the middles (cells, d) of cells that part the rows (n, d), by k-means on some."""
    rng = np.random.default_rng(0)
    some = rng.choice(len(rows), min(len(rows), cells * ROWS_A_CELL), replace=False)
    sample = rows[np.sort(some)]
    centres = sample[rng.choice(len(sample), cells, replace=False)]
    for _ in range(ROUNDS):
        cell = _nearest_centres(sample, centres, 1)[:, 0]
        counts = np.bincount(cell, minlength=cells)
        full = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[full]
        sums = np.add.reduceat(sample[np.argsort(cell, kind="stable")], starts, axis=0)
        centres[full] = sums / counts[full, None]
    return centres


def _nearest_centres(rows: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """Return the nearest of the centres (m, d) of each of the rows (n, d), the nearest first,
    (n, count).
    """
    half = (centres**2).sum(axis=1) / 2

    def nearest(at: int) -> np.ndarray:
        near = rows[at : at + BLOCK] @ centres.T - half
        if count == 1:
            return near.argmax(axis=1)[:, None]
        best = _largest(near, count)
        order = np.argsort(-np.take_along_axis(near, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    return np.concatenate([*parallel_map(nearest, range(0, len(rows), BLOCK), cores())])


def _distances(rows: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Return the squared distance (n, count) of each of the rows (n, d) to its neighbours."""
    found = np.empty(near.shape, dtype=np.float32)
    for top in range(0, len(rows), STEP):
        apart = rows[near[top : top + STEP]] - rows[top : top + STEP, None]
        found[top : top + STEP] = np.einsum("ijk,ijk->ij", apart, apart)
    return found
