"""Where the network looked: heat maps, masks and boxes from a feature map, without a second
pass.
"""

from __future__ import annotations

import numpy as np

from .regions import mask_to_boxes, scale_box

# of the peak; on 259 annotated images the best box by the mean over IoU 0.3, 0.5 and 0.7
MASK_THRESHOLD = 0.2
# cells on the longer side at which a heat map is thresholded; its own cells are too coarse for a
# box
GRID = 56


def class_heatmap(feature_map: np.ndarray, class_weight: np.ndarray) -> np.ndarray:
    """Return the heat map (h, w) of one class, 0–1 (all zero where nothing speaks for the class).

    For a head that is linear in the spatial mean of the feature map, Grad-CAM (Selvaraju et al.
    2017) at that map is exactly this weighted sum (Zhou et al. 2016): the gradient is the same at
    every place, so no backward pass is due.

    Args:
        feature_map: (C, h, w) float32.
        class_weight: (C,) the class's row of the head's weight.
    """
    # (C,) . (C, h, w) -> (h, w)
    evidence = np.maximum(np.tensordot(class_weight, feature_map, axes=1), 0.0)
    peak = float(evidence.max())
    return (evidence / peak if peak > 0 else evidence).astype(np.float32)


def upsample(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a heat map (h, w) interpolated smoothly to (height, width) `size`, still 0–1."""
    import cv2

    smooth = cv2.resize(heatmap, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0.0, 1.0, out=smooth)


def heatmap_box(
    heatmap: np.ndarray, size: tuple[int, int], threshold: float = MASK_THRESHOLD
) -> list[float] | None:
    """Return the `xyxy` box of the strongest blob at or above `threshold`.

    Args:
        heatmap: (h, w), 0–1.
        size: (height, width) in pixels of the image the box is for.
        threshold: 0–1, of the map's peak.

    Returns:
        [x_min, y_min, x_max, y_max] in pixels of `size`, or None where the map is empty.
    """
    found = heatmap_boxes(heatmap, size, threshold)
    return found[0] if found else None


def heatmap_boxes(
    heatmap: np.ndarray, size: tuple[int, int], threshold: float, least: float = 0.0
) -> list[list[float]]:
    """Return the `xyxy` boxes, in pixels of `size`, of all blobs at or above `threshold`, the
    strongest first; those weaker than a share `least` of it are left out. For the rest see
    `heatmap_box`.
    """
    fine = fine_heatmap(heatmap, size)
    found = mask_to_boxes(fine >= threshold, fine, least) if fine.max() > 0 else []
    return [scale_box(box, fine.shape, size) for box in found]


def fine_heatmap(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a heat map (h, w) on the grid that boxes are cut from, `GRID` cells on the longer
    side of an image of (height, width) `size`.
    """
    scale = GRID / max(size)
    return upsample(
        heatmap,
        (
            max(heatmap.shape[0], round(size[0] * scale)),
            max(heatmap.shape[1], round(size[1] * scale)),
        ),
    )
