"""What a model says of many images at once, a few numbers each. Knows nothing of which of it
is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..backbones.embedder import Embedded
from ..classification.classifier import Classifier
from ..datasets.files import ImageFile

BATCH = 1024  # images; more would only take memory


@dataclass
class Judged:
    """What a model says of images, in their order; those that can't be read are set apart.

    Attributes:
        files: the n images that could be read.
        top: (n,) int, index of the likeliest class.
        probability: (n,) float32, calibrated probability of that class, 0–1.
        positive: (n,) float32, probability of the one class that a one-against-the-rest model looks
            for; of others, `probability`.
        stranger: (n,) bool, whether it lies outside what the model learned from.
        accepted: (n,) bool, whether it is given its top class as a label.
        familiarity: (n,) float32, larger is more familiar; zeros where it wasn't asked for.
        unreadable: (file name, reason) of each.
    """

    files: list[ImageFile]
    top: np.ndarray
    probability: np.ndarray
    positive: np.ndarray
    stranger: np.ndarray
    accepted: np.ndarray
    familiarity: np.ndarray
    unreadable: list[tuple[str, str]]

    @property
    def confidence(self) -> np.ndarray:
        """How sure the model is, (n,): the probability, and 0 for strangers, which are rejected
        before all others.
        """
        return np.where(self.stranger, 0.0, self.probability)


def judge(
    model: Classifier, items: Iterable[Embedded], threshold: float | None, familiarity: bool = False
) -> Judged:
    """Decide on embedded images as `Classifier.decide` does, many at once.

    Args:
        model: who decides.
        items: embedded images; only a thousand are held at a time.
        threshold: probability from which a label is given, 0–1; None gives none.
        familiarity: whether to measure that, too.

    Raises:
        InvalidArgument: if the model knows no familiarity.
    """
    files: list[ImageFile] = []
    unreadable: list[tuple[str, str]] = []
    parts: list[tuple[np.ndarray, ...]] = [
        (
            np.zeros(0, int),
            *[np.zeros(0, np.float32)] * 2,
            *[np.zeros(0, bool)] * 2,
            np.zeros(0, np.float32),
        )
    ]
    for batch in _batches(items):
        unreadable += [
            (item.file.name, item.error or "") for item in batch if item.embedding is None
        ]
        embeddings = [item.embedding for item in batch if item.embedding is not None]
        if embeddings:
            files += [item.file for item in batch if item.embedding is not None]
            parts.append(_judge(model, np.stack(embeddings), threshold, familiarity))
    top, probability, positive, stranger, accepted, familiar = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Judged(files, top, probability, positive, stranger, accepted, familiar, unreadable)


def positive_class(model: Classifier) -> int | None:
    """Return the index of the class that a one-against-the-rest model looks for; None for
    models of several.
    """
    return (
        1 - model.catch_all if model.catch_all is not None and len(model.class_names) == 2 else None
    )


def _judge(
    model: Classifier, embeddings: np.ndarray, threshold: float | None, familiarity: bool
) -> tuple[np.ndarray, ...]:
    decisions = model.decide_all(embeddings, threshold)
    probability, index = decisions.probability, positive_class(model)
    positive = probability if index is None else decisions.probabilities[:, index]
    familiar = (
        model.familiarity(embeddings) if familiarity else np.zeros(len(probability), np.float32)
    )
    return (
        decisions.top,
        probability,
        positive,
        decisions.stranger,
        decisions.accepted,
        familiar,
    )


def _batches(items: Iterable[Embedded]) -> Iterator[list[Embedded]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
