"""Sliding windows: where they lie, what a feature map says of all of them at once, and which of
many overlapping ones to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

SMALLEST_STEP = 1 / 64  # of a window; finer ones would only be the same again


@dataclass(frozen=True)
class Level:
    """All windows of one size.

    Attributes:
        window: (height, width) in pixels of the image.
        ys: (a,) top edges, ascending.
        xs: (b,) left edges, ascending; the windows are all a × b pairs.
    """

    window: tuple[float, float]
    ys: np.ndarray
    xs: np.ndarray

    def boxes(self) -> np.ndarray:
        """Return the `xyxy` boxes (a × b, 4), row by row."""
        y, x = (grid.ravel() for grid in np.meshgrid(self.ys, self.xs, indexing="ij"))
        return np.stack([x, y, x + self.window[1], y + self.window[0]], axis=1)

    def split(self, most: tuple[float, float], count: int) -> Iterator[Level]:
        """Yield parts of the level, each of at most `count` windows that span at most (height,
        width) `most` pixels, or of a single window.
        """
        for ys in _runs(self.ys, most[0] - self.window[0]):
            for xs in _runs(self.xs, most[1] - self.window[1]):
                wide = min(len(xs), max(1, count))
                tall = max(1, count // wide)
                for y in range(0, len(ys), tall):
                    for x in range(0, len(xs), wide):
                        yield Level(self.window, ys[y : y + tall], xs[x : x + wide])

    @property
    def span(self) -> tuple[float, float, float, float]:
        """The `xyxy` box that all windows lie in."""
        return (
            float(self.xs[0]),
            float(self.ys[0]),
            float(self.xs[-1] + self.window[1]),
            float(self.ys[-1] + self.window[0]),
        )


def pyramid(
    size: tuple[int, int],
    window: tuple[float, float],
    step: tuple[float, float],
    factor: float,
    levels: int | None = None,
) -> list[Level]:
    """Return the levels of an image pyramid: windows of one size over ever smaller images, said
    in pixels of the original.

    Args:
        size: (height, width) of the image in pixels.
        window: (height, width) of the smallest windows; no larger than the image is used.
        step: (height, width) from one to the next, at the smallest windows; larger ones step in
            proportion.
        factor: how much larger the windows of the next level are.
        levels: how many; by default as many as fit into the image.
    """
    found: list[Level] = []
    scale = 1.0
    while levels is None or len(found) < levels:
        larger = (window[0] * scale, window[1] * scale)
        if found and (larger[0] > size[0] or larger[1] > size[1]):
            break
        fitting = (min(larger[0], size[0]), min(larger[1], size[1]))
        found.append(
            Level(
                fitting,
                _starts(size[0], fitting[0], step[0] * scale),
                _starts(size[1], fitting[1], step[1] * scale),
            )
        )
        scale *= factor
    return found


def shares(starts: np.ndarray, length: float, begin: float, cell: float, cells: int) -> np.ndarray:
    """Return what share of each window's mean each cell of a feature map has, along one axis, (n,
    cells) float32.

    Args:
        starts: (n,) where windows begin, in pixels.
        length: of every window, in pixels.
        begin: where the first cell begins, in pixels.
        cell: width of a cell in pixels.
        cells: how many.
    """
    edges = begin + cell * np.arange(cells + 1)
    low, high = (
        np.maximum(starts[:, None], edges[None, :-1]),
        np.minimum(starts[:, None] + length, edges[None, 1:]),
    )
    part = np.clip(high - low, 0, None)  # (n, cells) pixels that window and cell share
    return (part / part.sum(axis=1, keepdims=True)).astype(np.float32)


def window_means(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the mean of a map over every window: values (C, h, w), shares rows (a, h) and
    columns (b, w) -> (C, a, b).
    """
    return rows @ (values @ columns.T)  # (C, h, w) @ (w, b) -> (C, h, b); (a, h) @ -> (C, a, b)


def suppress(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, covered: float
) -> np.ndarray:
    """Return the indices of boxes that no better one of the same label covers, the best first
    (non-maximum suppression).

    What counts is the share of the smaller box, not the IoU: of windows of many sizes over one
    thing, the small ones lie within the large.

    Args:
        boxes: (n, 4) `xyxy`.
        labels: (n,) int.
        scores: (n,).
        covered: share (0–1) of the smaller of two boxes above which the one with the lower score
            goes.
    """
    chosen = _group(
        boxes,
        labels,
        scores,
        lambda shared, area, areas: shared > covered * np.minimum(area, areas),
    )
    kept = np.flatnonzero(chosen == np.arange(len(chosen)))
    return kept[np.argsort(-scores[kept], kind="stable")]


def representatives(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, same: float
) -> np.ndarray:
    """Return for each of many boxes the index of the best one of its label that is nearly the same,
    (n,) int.

    Args:
        boxes, labels, scores: as `suppress` has them.
        same: IoU (0–1) from which two boxes are nearly the same.
    """
    return _group(
        boxes, labels, scores, lambda shared, area, areas: shared >= same * (area + areas - shared)
    )


def _group(
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    near: Callable[[np.ndarray, float, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the index (n,) of the box that stands for each: the best one stands for all near
    it, then the best of the others, and so on.
    """
    waiting = np.argsort(-scores, kind="stable")
    x_min, y_min, x_max, y_max = boxes[waiting].T.astype(np.float32)
    areas, kinds = (x_max - x_min) * (y_max - y_min), labels[waiting]
    chosen = np.empty(len(boxes), dtype=int)
    while len(waiting):
        width = np.minimum(x_max, x_max[0]) - np.maximum(x_min, x_min[0])
        height = np.minimum(y_max, y_max[0]) - np.maximum(y_min, y_min[0])
        joins = near(np.maximum(width, 0) * np.maximum(height, 0), areas[0], areas) & (
            kinds == kinds[0]
        )
        joins[0] = True
        chosen[waiting[joins]] = waiting[0]
        waiting, x_min, y_min, x_max, y_max, areas, kinds = (
            column[~joins] for column in (waiting, x_min, y_min, x_max, y_max, areas, kinds)
        )
    return chosen


def _starts(length: int, window: float, step: float) -> np.ndarray:
    """Return where windows begin along one side; the last one ends where the side ends."""
    last = length - window
    starts = np.arange(0.0, last + 1e-6, step)
    return starts if last - starts[-1] < 1e-6 else np.append(starts, last)


def _runs(starts: np.ndarray, most: float) -> Iterator[np.ndarray]:
    """Cut ascending starts into runs whose ends lie at most `most` apart."""
    begin = 0
    while begin < len(starts):
        end = max(
            begin + 1, int(np.searchsorted(starts, starts[begin] + most + 1e-6, side="right"))
        )
        yield starts[begin:end]
        begin = end
