"""How right the objects found in images are: average precision as COCO measures it, and counts.
Plain values only.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from .boxes import iou

AP_IOUS = (0.3, 0.5, *np.arange(0.55, 0.96, 0.05).round(2).tolist())
MOST_DETECTIONS = 100  # an image, as COCO has it

Sides = Sequence[float]  # x_min, y_min, x_max, y_max
Known = tuple[str, Sides]  # label, box
Found = tuple[str, float, Sides]  # label, probability, box
_CocoBox = tuple[int, int, Sides, float]  # image number, class number, xyxy, score


def average_precision(
    images: Sequence[tuple[Iterable[Known], Iterable[Found]]], class_names: Sequence[str]
) -> dict[str, float]:
    """Return COCO's average precision of detections by IoU: "0.3", "0.5" and the mean over
    "0.5:0.95"; empty if there is no object.

    Args:
        images: of each the true (label, `xyxy`) and the found (label, probability, `xyxy`).
        class_names: the classes that count; others are left out on both sides.
    """
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    truth: list[_CocoBox] = []
    found: list[_CocoBox] = []
    for number, (known, detections) in enumerate(images, start=1):
        truth += [(number, numbers[label], xyxy, 1.0) for label, xyxy in known if label in numbers]
        found += [
            (number, numbers[label], xyxy, probability)
            for label, probability, xyxy in detections
            if label in numbers
        ]
    if not truth:
        return {}
    names = ("0.3", "0.5", "0.5:0.95")
    if not found:
        return dict.fromkeys(names, 0.0)
    precision = _coco_precision(truth, found, len(images), numbers)
    by_iou = [float(row[row > -1].mean()) for row in precision]  # -1: a class without an object
    return dict(zip(names, (by_iou[0], by_iou[1], float(np.mean(by_iou[1:]))), strict=True))


def count_errors(
    images: Sequence[tuple[Iterable[Known], Iterable[Found]]],
    class_names: Sequence[str],
    threshold: float,
) -> dict[str, float]:
    """Return by how many objects an image's count is wrong in the mean, by class; "" is that of
    the objects of all classes.

    Args:
        images: of each the true (label, `xyxy`) and the found (label, probability, `xyxy`).
        class_names: the classes that count.
        threshold: probability from which an object counts.
    """
    wanted = {*class_names}
    sums: Counter[str] = Counter()
    for known, detections in images:
        true = Counter(label for label, _ in known if label in wanted)
        seen = Counter(
            label
            for label, probability, _ in detections
            if label in wanted and probability >= threshold
        )
        for name in class_names:
            sums[name] += abs(true[name] - seen[name])
        sums[""] += abs(true.total() - seen.total())
    return {name: sums[name] / max(1, len(images)) for name in (*class_names, "")}


def matches(known: Sequence[Known], found: Sequence[Found], least: float = 0.5) -> np.ndarray:
    """Return which of the objects found in one image are there, (n,) bool: those whose IoU with a
    true one of their class is at least `least`; each true one has at most one, the surest.
    """
    right = np.zeros(len(found), dtype=bool)
    for label in {name for name, *_ in found}:
        true = np.array([xyxy for name, xyxy in known if name == label]).reshape(-1, 4)
        rows = [index for index, one in enumerate(found) if one[0] == label]
        rows.sort(key=lambda index: -found[index][1])
        overlaps = iou(np.array([found[index][2] for index in rows]), true)
        for row, index in enumerate(rows):
            if true.size and overlaps[row].max() >= least:
                overlaps[:, overlaps[row].argmax()] = -1
                right[index] = True
    return right


def _coco_precision(
    truth: list[_CocoBox], found: list[_CocoBox], images: int, numbers: dict[str, int]
) -> np.ndarray:
    """Return pycocotools' precision (IoUs, recalls, classes) of found boxes, at `AP_IOUS`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints to the terminal
        known = COCO()
        known.dataset = {
            "images": [{"id": number} for number in range(1, images + 1)],
            "annotations": _coco_rows(truth),
            "categories": [{"id": n, "name": name} for name, n in numbers.items()],
        }
        known.createIndex()
        measured = COCOeval(known, known.loadRes(_coco_rows(found)), "bbox")
        measured.params.iouThrs = np.array(AP_IOUS)
        measured.params.maxDets = [1, 10, MOST_DETECTIONS]
        measured.evaluate()
        measured.accumulate()
    # (IoUs, recalls, classes, areas, limits) -> (IoUs, recalls, classes)
    return measured.eval["precision"][:, :, :, 0, -1]


def _coco_rows(boxes: list[_CocoBox]) -> list[dict]:
    """Return boxes as COCO writes annotations."""
    rows = []
    for number, (image, category, (x_min, y_min, x_max, y_max), score) in enumerate(boxes, start=1):
        width, height = x_max - x_min, y_max - y_min
        rows.append(
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": [x_min, y_min, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": score,
            }
        )
    return rows
