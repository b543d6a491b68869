"""What a model suggests for one picture, as Label Studio's predictions are written."""

from __future__ import annotations

import hashlib
from typing import Any

from ..backbones.embedder import EncodedImage
from ..classification.classifier import Classifier
from ..classification.predictions import Prediction
from ..detection.objects import objects_of
from ..heatmaps.heatmap import HeatmapSettings
from .interface import CHOICES, Control, Interface
from .pictures import Picture

Box = tuple[float, float, float, float]
NO_IDEA = 0.0  # score of a picture that the model can say nothing of: it comes first


def suggest(
    model: Classifier | None, picture: Picture, interface: Interface, threshold: float | None
) -> tuple[list[dict[str, Any]], float]:
    """Return the results for a picture, and the score of the prediction, 0–1.

    What the model is not sure of has no result. The score is the probability of the likeliest
    class, and 0 for a picture that is unlike all that was learned, so that Label Studio's
    uncertainty sampling, the lowest score first, asks about doubtful ones first.

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
    score = NO_IDEA if prediction.probability is None else prediction.probability
    results = []
    if interface.choices is not None:
        results += _choices(prediction, interface.choices)
    if interface.rectangles is not None:
        boxes, least = _boxes(model, picture.encoded, prediction, interface.rectangles, sure)
        results += boxes
        score = min(score, least) if interface.choices is not None else least
    for number, result in enumerate(results):
        told = f"{picture.address}|{number}|{result['from_name']}"
        result["id"] = hashlib.sha256(told.encode()).hexdigest()[:10]
    return results, round(float(score), 6)


def _choices(prediction: Prediction, control: Control) -> list[dict[str, Any]]:
    found = [(control.label_of(one.label), one.probability) for one in prediction.labels]
    chosen = {name: share for name, share in found if name is not None}
    if not control.several:
        chosen = dict(list(chosen.items())[:1])
    if not chosen:
        return []
    return [_result(control, {CHOICES: list(chosen)}, min(chosen.values()))]


def _boxes(
    model: Classifier,
    one: EncodedImage,
    prediction: Prediction,
    control: Control,
    threshold: float | None,
) -> tuple[list[dict[str, Any]], float]:
    """Return the boxes, from the object head or else from heat maps, and the probability of the
    least sure one; where there is none, of the likeliest.
    """
    height, width = one.photo.size
    if model.object_head is not None:
        every, _, _ = objects_of(one.photo, model, min(threshold or 0.0, 0.05))
        likeliest = max((found.probability for found in every), default=NO_IDEA)
        rows = [
            (found.xyxy, found.label, found.probability)
            for found in every
            if threshold is not None and found.probability >= threshold
        ]
    else:
        likeliest = prediction.probability or NO_IDEA
        needed = one.encoding if model.needs_map(HeatmapSettings()) else None
        if prediction.label is not None:
            model.localize(prediction, one.photo, needed)
        rows = [
            (_box(found.box_xyxy), found.label, found.probability)
            for found in prediction.labels
            if found.box_xyxy is not None
        ]
    results = []
    for xyxy, class_name, probability in rows:
        label = control.label_of(class_name)
        if label is not None:
            value = {**_sides(xyxy, width, height), "rotation": 0, control.kind: [label]}
            size = {"original_width": width, "original_height": height, "image_rotation": 0}
            results.append({**_result(control, value, probability), **size})
    return results, min([share for _, _, share in rows], default=likeliest)


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
