"""What a model suggests for one picture, as Label Studio's predictions are written."""

from __future__ import annotations

import hashlib
from typing import Any

from ..backbones.embedder import EncodedImage
from ..classification.classifier import Classifier
from ..classification.predictions import Prediction
from ..detection.objects import objects_of
from ..heatmaps.heatmap import HeatmapSettings
from ..words.class_names import is_catch_all
from .interface import CHOICES, Control, Interface
from .pictures import Picture

Box = tuple[float, float, float, float]
NO_IDEA = 0.0  # score of a picture that the model can say nothing of: it comes first
FAINT = 0.05  # probability of a box from which it is a doubt


def suggest(
    model: Classifier | None, picture: Picture, interface: Interface, threshold: float | None
) -> tuple[list[dict[str, Any]], float]:
    """Return the results for a picture, and the score of the prediction, 0–1.

    What the model is not sure of has no result. The score says how sure it is, so that Label
    Studio's uncertainty sampling, the lowest score first, asks about doubtful ones first: the
    probability of the likeliest class; where a picture may have several labels, that of the least
    sure answer, yes or no; and 0 for a picture that is unlike all that was learned.

    Args:
        model: what answers, or None where nothing was learned yet.
        picture: the picture.
        interface: what is asked.
        threshold: probability from which a label is suggested; None for the model's own.

    Raises:
        UnreadableImage, SourceUnavailable: if the picture can't be decoded, or not be had.
    """
    embedding = picture.embedding  # even where nothing answers yet: it will be learned from
    if model is None:
        return [], NO_IDEA
    sure = model.threshold_for(threshold)[0]
    prediction = model.decide_photo("", embedding, lambda: picture.encoded.feature_map, sure)
    results, scores = [], []
    if interface.choices is not None:
        results += _choices(prediction, interface.choices)
        scores.append(_certainty(prediction, interface.choices))
    if interface.rectangles is not None:
        boxes, certainty = _boxes(model, picture.encoded, prediction, interface.rectangles, sure)
        results += boxes
        scores.append(certainty)
    for number, result in enumerate(results):
        told = f"{picture.address}|{number}|{result['from_name']}"
        result["id"] = hashlib.sha256(told.encode()).hexdigest()[:10]
    return results, round(float(min(scores)), 6)


def _choices(prediction: Prediction, control: Control) -> list[dict[str, Any]]:
    found = [(control.label_of(one.label), one.probability) for one in prediction.labels]
    chosen = {name: share for name, share in found if name is not None}
    if not control.several:
        chosen = dict(list(chosen.items())[:1])
    if not chosen:
        return []
    return [_result(control, {CHOICES: list(chosen)}, min(chosen.values()))]


def _certainty(prediction: Prediction, control: Control) -> float:
    """Return how sure the model is of its answer to a tag, 0–1."""
    if prediction.probability is None:
        return NO_IDEA
    shares = (prediction.probabilities or {}).values()
    if control.several and prediction.several:
        return min(max(share, 1 - share) for share in shares)
    return prediction.probability


def _boxes(
    model: Classifier,
    one: EncodedImage,
    prediction: Prediction,
    control: Control,
    threshold: float | None,
) -> tuple[list[dict[str, Any]], float]:
    """Return the boxes, from the object head or else from heat maps, and how sure the model is of
    them, 0–1.
    """
    height, width = one.photo.size
    if model.object_head is not None:
        faint = FAINT if threshold is None else min(FAINT, threshold)
        every, _, _ = objects_of(one.photo, model, faint)
        shares = [found.probability for found in every]
        certainty = min((max(share, 1 - share) for share in shares), default=1.0)
        rows = [
            (found.xyxy, found.label, found.probability)
            for found in every
            if threshold is not None and found.probability >= threshold
        ]
    else:
        certainty = _certainty(prediction, control)
        if prediction.label is not None:
            needed = one.encoding if model.needs_map(HeatmapSettings()) else None
            model.localize(prediction, one.photo, needed)
        rows = [
            (_box(found.box_xyxy), found.label, found.probability)
            for found in prediction.labels
            if found.box_xyxy is not None and not is_catch_all(found.label)
        ]
    results = []
    for xyxy, class_name, probability in rows:
        label = control.label_of(class_name)
        if label is not None:
            value = {**_sides(xyxy, width, height), "rotation": 0, control.kind: [label]}
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            results.append({**_result(control, value, probability), **size})
    return results, certainty


def _box(sides: list[float]) -> Box:
    x_min, y_min, x_max, y_max = sides
    return x_min, y_min, x_max, y_max


def _sides(xyxy: Box, width: int, height: int) -> dict[str, float]:
    """Return a box in pixels as Label Studio writes it, in percent of the upright picture."""
    x_min, x_max = (min(max(side, 0), width) / width for side in xyxy[::2])
    y_min, y_max = (min(max(side, 0), height) / height for side in xyxy[1::2])
    sides = {"x": x_min, "y": y_min, "width": x_max - x_min, "height": y_max - y_min}
    return {name: round(100 * side, 4) for name, side in sides.items()}


def _result(control: Control, value: dict[str, Any], score: float) -> dict[str, Any]:
    return {
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": control.kind,
        "value": value,
        "score": round(float(score), 6),
    }
