"""Boxes and masks as plain arrays: from a heat map to the box of its strongest blob."""

from __future__ import annotations

import numpy as np


def mask_to_box(mask: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the `xyxy` box of the connected region (4-neighbours) of a mask that weighs most.

    Args:
        mask: (h, w) bool.
        weights: (h, w) float, summed over each region to rank them.

    Returns:
        (x_min, y_min, x_max, y_max) in cells, max exclusive; None where the mask is empty.
    """
    import cv2

    count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    if count == 1:  # region 0 is what lies outside the mask
        return None
    weight = np.bincount(regions.ravel(), weights=weights.ravel(), minlength=count)
    ys, xs = np.nonzero(regions == 1 + int(weight[1:].argmax()))
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


def scale_box(box: tuple[float, float, float, float], grid: tuple[int, int], size: tuple[int, int]) -> list[float]:
    """Scale an `xyxy` box from a grid (height, width) to an image of size (height, width), to 0.1 pixel."""
    y_scale, x_scale = size[0] / grid[0], size[1] / grid[1]
    x_min, y_min, x_max, y_max = box
    return [round(x_min * x_scale, 1), round(y_min * y_scale, 1), round(x_max * x_scale, 1), round(y_max * y_scale, 1)]
