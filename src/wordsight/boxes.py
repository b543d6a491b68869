"""Boxes and masks as plain numpy: from a heat map to the box of its strongest blob."""

from __future__ import annotations

from collections import deque

import numpy as np


def mask_to_box(mask: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the `xyxy` box of the connected region (4-neighbours) of a mask that weighs most.

    Args:
        mask: (h, w) bool.
        weights: (h, w) float, summed over each region to rank them.

    Returns:
        (x_min, y_min, x_max, y_max) in cells, max exclusive; None where the mask is empty.
    """
    height, width = mask.shape
    seen = np.zeros_like(mask, dtype=bool)
    best, best_weight = None, -np.inf
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        region, queue = [], deque([start])
        while queue:
            y, x = queue.popleft()
            region.append((y, x))
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= neighbour[0] < height and 0 <= neighbour[1] < width
                if inside and mask[neighbour] and not seen[neighbour]:
                    seen[neighbour] = True
                    queue.append(neighbour)
        ys, xs = np.array(region).T
        weight = float(weights[ys, xs].sum())
        if weight > best_weight:
            best_weight = weight
            best = (float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1))
    return best


def scale_box(box: tuple[float, float, float, float], grid: tuple[int, int], size: tuple[int, int]) -> list[float]:
    """Scale an `xyxy` box from a grid (height, width) to an image of size (height, width), to 0.1 pixel."""
    y_scale, x_scale = size[0] / grid[0], size[1] / grid[1]
    x_min, y_min, x_max, y_max = box
    return [round(x_min * x_scale, 1), round(y_min * y_scale, 1), round(x_max * x_scale, 1), round(y_max * y_scale, 1)]
