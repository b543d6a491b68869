"""Boxes and masks as plain arrays: from a heat map to the boxes of its regions."""

from __future__ import annotations

import numpy as np


def mask_to_boxes(
    mask: np.ndarray, weights: np.ndarray, least: float = 0.0
) -> list[tuple[float, float, float, float]]:
    """Return the `xyxy` boxes of the connected regions (4-neighbours) of a mask, the one that
    weighs most first.

    Args:
        mask: (h, w) bool.
        weights: (h, w) float, summed over each region to rank them.
        least: share of the heaviest region's weight; lighter ones are left out.

    Returns:
        (x_min, y_min, x_max, y_max) of each in cells, max exclusive.
    """
    import cv2

    count, regions, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    # region 0 is what lies outside the mask
    weight = np.bincount(regions.ravel(), weights=weights.ravel(), minlength=count)[1:]
    corners = stats[1:, :4].astype(float)  # x, y, width, height
    order = np.argsort(-weight, kind="stable")
    order = order[weight[order] >= least * weight.max(initial=0.0)]
    return [(x, y, x + width, y + height) for x, y, width, height in corners[order].tolist()]


def scale_box(
    box: tuple[float, float, float, float], grid: tuple[int, int], size: tuple[int, int]
) -> list[float]:
    """Scale an `xyxy` box from a grid (height, width) to an image of size (height, width), to
    0.1 pixel.
    """
    y_scale, x_scale = size[0] / grid[0], size[1] / grid[1]
    x_min, y_min, x_max, y_max = box
    return [
        round(x_min * x_scale, 1),
        round(y_min * y_scale, 1),
        round(x_max * x_scale, 1),
        round(y_max * y_scale, 1),
    ]
