"""What an exported model answers and says of itself, whatever format it is in, and how far that is
from the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..backbones.encoding import Encoding
from ..backbones.preprocessing import STRIDE
from ..backbones.runtime import open_multiscale, open_runtime
from ..heads.objects import OBJECT_THRESHOLD, SAME, STRIDE as CELL
from ..heatmaps.one_pass import class_heatmap

if TYPE_CHECKING:
    from ..classification.classifier import Classifier
    from .quantization import Run

MIDDLE = 1  # which of the feature maps at several strides is a pass's middle map
TINY = 1e-12  # divided by instead of zero
# how far an exported model's answers may differ from ours: the largest difference of an output; for
# strangers, the share of images that differ
TOLERANCES = {
    **{"probabilities": 1e-3, "heatmap": 1e-2, "stranger": 0.02, "box": 1e-3},
    **{"object_probabilities": 1e-3, "object_boxes": 1e-3},
}


def answers_of(model: Classifier) -> tuple[str, ...]:
    """Return the names of a model's outputs, in order."""
    there = {
        "probabilities": True,
        "heatmap": model.backbone.pooled,
        "stranger": model.neighbourhood is not None or model.words is not None,
        "box": model.box_head is not None,
        "object_probabilities": model.object_head is not None,
        "object_boxes": model.object_head is not None,
    }
    return tuple(name for name, is_there in there.items() if is_there)


def map_strides(model: Classifier) -> list[int]:
    """Return the strides of the feature maps that a model's object head takes, the finest first."""
    preprocessing = model.backbone.preprocessing
    height, width = preprocessing.input_size(preprocessing.image_size)
    maps = open_multiscale(model.backbone, "openvino").feature_maps(
        np.zeros((height, width, 3), np.uint8)
    )
    return [height // one.shape[1] for one in maps]


def about(model: Classifier) -> dict[str, Any]:
    """Return the metadata that a file holds on its model, ready for JSON."""
    preprocessing = model.backbone.preprocessing
    return {
        "wordsight_version": __version__,
        "class_names": model.class_names,
        "threshold": model.record.threshold,
        "preprocessing": {
            "image_size": list(preprocessing.image_size),
            "fit": preprocessing.fit,
            "multiple_of": STRIDE,
            "interpolation": preprocessing.interpolation,
        },
        **_about_objects(model),
    }


def _about_objects(model: Classifier) -> dict[str, Any]:
    if model.object_head is None:
        return {}
    preprocessing = model.backbone.preprocessing.with_side(model.object_head.side)
    return {
        "objects": {
            "class_names": list(model.object_head.class_names),
            "threshold": OBJECT_THRESHOLD,
            "image_size": list(preprocessing.image_size),
            "overlap": SAME,
        }
    }


def differences(
    model: Classifier, run: Run, outputs: tuple[str, ...], pixels: list[np.ndarray]
) -> dict[str, float]:
    """Return how far each output of an exported model is from wordsight's own on images (height,
    width, 3) uint8: the largest difference; for strangers, the share of images that differ.
    """
    runtime = open_runtime(model.backbone, "openvino")
    maps_of = None
    if model.object_head is not None:
        maps_of = open_multiscale(model.backbone, "openvino").feature_maps
    far: dict[str, list[float]] = {name: [] for name in outputs}
    for one in pixels:
        encoding = runtime.encode(one, feature_map=True)
        own = _own_answers(model, encoding, maps_of and maps_of(one))
        for name, answer in zip(outputs, run(one[None]), strict=True):
            far[name].append(float(np.abs(answer[0].astype(np.float64) - own[name]).max()))
    return {
        name: float(np.mean(values) if name == "stranger" else np.max(values))
        for name, values in far.items()
    }


def _own_answers(
    model: Classifier, encoding: Encoding, maps: tuple[np.ndarray, ...] | None
) -> dict[str, np.ndarray]:
    """Return what the model itself says of an image, by output."""
    decision = model.decide_all(encoding.embedding[None], None)
    answers = {"probabilities": decision.probabilities[0], "stranger": decision.stranger[0]}
    if encoding.feature_map is not None:
        answers["heatmap"] = np.stack(
            [class_heatmap(encoding.feature_map, row) for row in model.head.weight]
        )
        if model.box_head is not None:
            answers["box"] = model.box_head.box(encoding.feature_map, encoding.middle_map)
    if model.object_head is not None and maps is not None:
        reduced = model.object_head.reduce(maps)
        logits, boxes = model.object_head.cells(reduced)
        height, width = reduced.shape[1:]
        answers["object_probabilities"] = model.object_head.calibrated(logits)
        answers["object_boxes"] = boxes / (np.array([width, height] * 2) * CELL)
    return answers
