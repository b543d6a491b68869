"""What an image shows as a whole: where it gets a label, each region of the label's heat map is an
object, as `predict` draws it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..classification.classifier import Classifier
from ..heatmaps.one_pass import heatmap_boxes
from ..heatmaps.windows import suppress
from ..images.decoding import Photo
from .scanner import Scan

LEAST = 0.25  # of the strongest region's weight: what weighs less is no second object


def with_whole(
    seen: Scan, photo: Photo, model: Classifier, threshold: float | None, overlap: float
) -> Scan:
    """Return what was found in windows, and what the whole image shows. Windows over a region of
    the whole that has their class go: the likeliest part of an object is not all of it.

    Args:
        seen: what was found in windows.
        photo: the image.
        model: the classifier.
        threshold: probability from which the image gets a label, 0-1; None: it gets none.
        overlap: share (0-1) of the smaller of two boxes of a class above which one goes.
    """
    boxes, labels, probabilities = _regions(photo, model, threshold)
    if not len(boxes):
        return seen
    first = len(boxes)
    boxes, labels = np.concatenate([boxes, seen.boxes]), np.concatenate([labels, seen.labels])
    probabilities = np.concatenate([probabilities, seen.probabilities]).astype(np.float32)
    before = np.arange(len(boxes)) < first
    kept = suppress(boxes, labels, probabilities + before, overlap)
    kept = kept[np.argsort(-probabilities[kept], kind="stable")]
    return replace(seen, boxes=boxes[kept], labels=labels[kept], probabilities=probabilities[kept])


def _regions(
    photo: Photo, model: Classifier, threshold: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes (n, 4) of the regions of each of an image's labels, their class indices and
    probabilities.
    """
    found: list[tuple[list[float], int, float]] = []
    if model.backbone.pooled and threshold is not None:
        encoding = model.embedder.encode(photo, feature_map=True)
        prediction = model.decide("", encoding.embedding, threshold)
        nothing = [model.class_names[i] for i in (model.catch_all, model.nothing) if i is not None]
        shown = prediction.label is not None and not prediction.rolled_up
        if shown and prediction.label not in nothing:
            model.localize(prediction, photo, encoding)
            for label in prediction.labels:
                index = model.class_names.index(label.label)
                reach = label.reach
                several = (
                    []
                    if reach is None
                    else heatmap_boxes(reach, photo.size, model.mask_threshold, LEAST)
                )
                one = [] if label.box_xyxy is None else [label.box_xyxy]
                boxes = several if len(several) > 1 else one
                found += [(box, index, label.probability) for box in boxes]
    return (
        np.array([box for box, _, _ in found], dtype=float).reshape(-1, 4),
        np.array([index for _, index, _ in found], dtype=int),
        np.array([probability for *_, probability in found], dtype=np.float32),
    )
