"""Models that classify the frames of a clip: a trained model, or a pretrained network with groups
of its classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..classification.classifier import Classifier, load
from ..classification.predictions import Prediction
from ..detection.detections import Detection
from ..detection.objects import objects_of
from ..errors import InvalidArgument
from ..heads.objects import OBJECT_THRESHOLD
from ..images.decoding import Photo
from ..recognition.recognizer import THRESHOLD, Recognizer, Seen


class FrameModel(Protocol):
    """A model that classifies frames.

    Attributes:
        names: classes or groups.
        threshold: probability from which a label is given; None for none.
        embedder: the network.
        catch_all: name that means "anything else", whose place is nowhere, or None.
    """

    names: list[str]
    threshold: float | None
    embedder: Embedder
    catch_all: str | None

    def classify(self, photo: Photo) -> tuple[np.ndarray, bool, Seen]:
        """Return the probabilities (names,) of a frame, whether it is a stranger, and the pass."""

    def locate(self, seen: Seen, label: str) -> tuple[np.ndarray, list[float] | None]:
        """Return the heat map (h, w) of a label, 0–1, and its box in pixels."""

    def find(self, photo: Photo) -> list[Detection] | None:
        """Return the objects in a frame, the surest first; None for a model that finds none."""


class TrainedModel:
    """Classify frames with a trained model."""

    def __init__(self, model: Classifier, threshold: float | None) -> None:
        self.names, self._model = model.class_names, model
        self.threshold = model.threshold_for(threshold)[0]
        self._least = OBJECT_THRESHOLD if threshold is None else threshold
        self.embedder = model.embedder
        self.catch_all = None if model.catch_all is None else model.class_names[model.catch_all]

    def classify(self, photo: Photo) -> tuple[np.ndarray, bool, Seen]:
        """See `FrameModel.classify`."""
        encoding = self.embedder.encode(photo, feature_map=True)
        decision = self._model.decide_all(encoding.embedding[None], None)
        scores = decision.probabilities[0]
        return scores, bool(decision.stranger[0]), Seen(photo, scores, encoding)

    def locate(self, seen: Seen, label: str) -> tuple[np.ndarray, list[float] | None]:
        """See `FrameModel.locate`."""
        where = Prediction("", label)
        self._model.localize(where, seen.photo, seen.encoding)
        assert where.map is not None
        return where.map, where.box_xyxy

    def find(self, photo: Photo) -> list[Detection] | None:
        """See `FrameModel.find`."""
        if self._model.object_head is None:
            return None
        return objects_of(photo, self._model, self._least)[0]


class GroupModel:
    """Classify frames with groups of a pretrained network's classes."""

    catch_all: str | None = None
    threshold: float | None

    def __init__(self, recognizer: Recognizer) -> None:
        self.names, self.threshold, self.embedder = (
            list(recognizer.groups),
            recognizer.threshold,
            recognizer.embedder,
        )
        self._recognizer = recognizer

    def classify(self, photo: Photo) -> tuple[np.ndarray, bool, Seen]:
        """See `FrameModel.classify`."""
        seen = self._recognizer.see(photo)
        return (
            np.array([self._recognizer.share(seen.probabilities, name) for name in self.names]),
            False,
            seen,
        )

    def locate(self, seen: Seen, label: str) -> tuple[np.ndarray, list[float] | None]:
        """See `FrameModel.locate`."""
        grid, box = self._recognizer.locate(seen, label)
        return grid, None if box is None else list(box)

    def find(self, photo: Photo) -> list[Detection] | None:
        """See `FrameModel.find`."""
        return None


def open_frame_model(
    model: str | os.PathLike | Classifier | None,
    groups: str | Iterable[str],
    threshold: float | None,
    backbone: str | Backbone | None,
) -> FrameModel:
    """Return a frame model: a trained model, or a pretrained network for groups.

    Raises:
        InvalidArgument: if neither or both are given, or a backbone is given with a model.
    """
    if (model is None) == (not groups):
        raise InvalidArgument(
            "Give either a model (-m) or a group of a known network's classes (--group vehicle)."
        )
    if model is None:
        return GroupModel(
            Recognizer(
                groups,
                THRESHOLD if threshold is None else threshold,
                backbone or DEFAULT_BACKBONE,
            )
        )
    if backbone is not None:
        raise InvalidArgument(
            "A model brings its own backbone, so --backbone goes with --group only. Leave it out."
        )
    return TrainedModel(model if isinstance(model, Classifier) else load(model), threshold)
