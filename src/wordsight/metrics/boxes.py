"""How right boxes are: overlap with the truth, and the localisation accuracies of Choe et al.
2020. Plain arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IOUS = (0.3, 0.5, 0.7)  # overlaps that MaxBoxAccV2 averages over


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n, m) of `xyxy` boxes (n, 4) and (m, 4)."""
    boxes, others = (
        np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        np.asarray(others, dtype=np.float64).reshape(-1, 4),
    )
    corner, opposite = (
        np.maximum(boxes[:, None, :2], others[None, :, :2]),
        np.minimum(boxes[:, None, 2:], others[None, :, 2:]),
    )
    shared = np.clip(opposite - corner, 0, None).prod(axis=2)
    areas = [np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1) for b in (boxes, others)]
    union = areas[0][:, None] + areas[1][None, :] - shared
    return np.where(union > 0, shared / np.maximum(union, 1e-12), 0.0)


def covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the share (n, m), 0–1, of each of `xyxy` boxes (n, 4) that lies in each of others
    (m, 4); 0 for a box without area.
    """
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    opposite = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(opposite - corner, 0, None).prod(axis=2)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return np.where(area[:, None] > 0, shared / np.maximum(area[:, None], 1e-12), 0.0)


def paired_iou(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the intersection over union (n,) of each `xyxy` box (n, 4) with the truth of its
    image (n, 4).
    """
    return np.array([iou(box, true)[0, 0] for box, true in zip(boxes, truth, strict=True)])


def box_accuracy(overlaps: np.ndarray) -> float:
    """Return the mean over IoU 0.3, 0.5 and 0.7 of the share of images (n,) whose box
    overlaps the truth that much.
    """
    return float(np.mean([(overlaps >= least).mean() for least in IOUS]))


def max_box_acc(overlaps: Sequence[np.ndarray]) -> tuple[float, int]:
    """Return MaxBoxAcc and the threshold it is reached at: the largest share, over thresholds, of
    boxes with IoU 0.5 or more.

    Args:
        overlaps: for each threshold the IoU (n,) of each image's largest box with the truth.

    Source: Choe et al. 2020, "Evaluating Weakly Supervised Object Localization Methods Right".
    """
    shares = [float((row >= 0.5).mean()) for row in overlaps]
    best = int(np.argmax(shares))
    return shares[best], best


def max_box_acc_v2(overlaps: Sequence[np.ndarray]) -> float:
    """Return MaxBoxAccV2: for each of IoU 0.3, 0.5 and 0.7 the largest share over thresholds, then
    their mean.

    Args:
        overlaps: for each threshold the IoU (n,) of each image's best box, of all its blobs, with
            the truth.

    Source: Choe et al. 2020.
    """
    return float(np.mean([max((row >= least).mean() for row in overlaps) for least in IOUS]))
