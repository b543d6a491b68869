"""Learn a head from annotated pictures' embeddings, and judge it beside the model given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backbones.embedder import Embedder
from ..classification.classifier import Classifier
from ..classification.record import ModelRecord
from ..datasets.training_set import apart, judged_on
from ..errors import some_of
from ..heads.linear import LinearHead, fit_head, fit_temperature
from ..heads.logistic import Directions
from ..heads.novelty import fit_neighbourhood
from ..heads.zero_shot import of_learned
from ..words.class_names import catch_all_index, catch_all_name
from .interface import Control

FEWEST = 2  # pictures of a label, to learn it
FOLDS = 5
LOOSE = 10.0  # inverse penalty of the weights where a picture may have several labels
THRESHOLD = 0.8  # calibrated probability from which a learned head suggests a label
SURE = 0.5  # probability from which a picture is taken to have a label, to judge two heads


@dataclass(frozen=True)
class Lesson:
    """Annotated pictures to learn from.

    Attributes:
        control: the tag that was answered.
        embeddings: (n, C) float32.
        labels: the labels of each picture, n sets; empty for a picture without any.
        events: (n,) int, pictures of one number show one event, and count as one observation.
    """

    control: Control
    embeddings: np.ndarray
    labels: Sequence[frozenset[str]]
    events: np.ndarray

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures have each label of the interface."""
        return {name: sum(name in labels for labels in self.labels) for name in self.control.labels}

    @property
    def learnable(self) -> list[str]:
        """The labels that enough pictures have."""
        return [name for name, count in self.counts.items() if count >= FEWEST]


@dataclass(frozen=True)
class Learned:
    """A model learned from annotations.

    Attributes:
        model: the model.
        right: on how many of the annotated pictures heads were right that had not seen them.
        before: on how many the model given was right; None where there is none.
        judged: how many pictures judged both.
        lost: labels that the model given knows, and annotations don't teach yet.
    """

    model: Classifier
    right: int
    before: int | None
    judged: int
    lost: list[str]

    @property
    def kept(self) -> bool:
        """Whether it is at least as good as the model given, and knows all that this does."""
        return not self.lost and (self.before is None or self.right >= self.before)

    @property
    def sentence(self) -> str:
        """In words, which of the two answers now, and why."""
        told = (
            f"of {self.judged} annotated pictures, heads that had not seen them got {self.right} "
            "right"
        )
        if self.before is not None:
            told += f", the model given {self.before}"
        who = "a head learned from annotations" if self.kept else "still the model given"
        lost = (
            f", which also knows {some_of(self.lost)} (too few pictures of that are annotated)"
            if self.lost
            else ""
        )
        return f"What answers now is {who}{lost}: {told}."


def missing(lesson: Lesson) -> str | None:
    """Return what is missing to learn from, as a sentence; None for nothing."""
    counts, names = lesson.counts, lesson.learnable
    told = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"
    if lesson.control.several:
        varied = [name for name in names if counts[name] < len(lesson.labels)]
        if varied:
            return None
        need = f"{FEWEST} pictures with a label, and one without it"
    else:
        if len(names) >= 2:
            return None
        need = f"{FEWEST} pictures each of two labels"
    return (
        f"Too few annotations to learn from: at least {need} are needed (so far: {told or 'none'})."
    )


def learn(lesson: Lesson, given: Classifier | None, embedder: Embedder) -> Learned:
    """Learn a head from annotated pictures, of which enough are there (see `missing`), and judge it
    in folds beside the model given, which never learned from them.

    Args:
        lesson: the pictures.
        given: the model that answers without annotations, or None; its boxes are taken over.
        embedder: what made the embeddings.
    """
    model, right, judged = (_several if lesson.control.several else _single)(lesson, embedder)
    if given is not None:
        model.box_head, model.object_head = given.box_head, given.object_head
        model.record.boxes, model.record.objects = given.record.boxes, given.record.objects
        model.record.mask_threshold = given.record.mask_threshold
    model.embedder = embedder
    before = None if given is None else int(_right(given, lesson)[judged].sum())
    known = [lesson.control.label_of(name) for name in ([] if given is None else given.class_names)]
    lost = [label for label in known if label is not None and label not in model.class_names]
    return Learned(model, int(right[judged].sum()), before, len(judged), lost)


def _single(lesson: Lesson, embedder: Embedder) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """Learn one label a picture. Return the model, which pictures heads were right on that had not
    seen them, (n,) bool, and the rows that were judged.
    """
    names = lesson.learnable
    told = [next(iter(labels)) for labels in lesson.labels]
    rows = np.array([row for row, label in enumerate(told) if label in names])
    labels = np.array([names.index(told[row]) for row in rows])
    embeddings = lesson.embeddings[rows]
    parted = apart(lesson.events[rows], labels, names)
    head, report = fit_head(embeddings, labels, len(names), together=parted)
    assert report is not None
    catch_all = catch_all_index(names)
    near = np.ones(len(labels), bool) if catch_all is None else labels != catch_all
    known = fit_neighbourhood(embeddings[near], labels[near], 0, embedder.backbone.concept_head())
    model = Classifier(names, head, embedder.backbone, known, catch_all=catch_all)
    model.record = _record(lesson, embedder, report.method, report.accuracy, rows, parted)
    right = np.zeros(len(told), bool)
    right[rows[report.rows]] = report.probabilities.argmax(axis=1) == labels[report.rows]
    return model, right, rows[report.rows]


def _several(lesson: Lesson, embedder: Embedder) -> tuple[Classifier, np.ndarray, np.ndarray]:
    """Learn labels of which a picture may have several, or none; see `_single`."""
    names = [name for name in lesson.learnable if lesson.counts[name] < len(lesson.labels)]
    shown = np.array([[name in labels for name in names] for labels in lesson.labels])
    space, every = Directions(lesson.embeddings), np.arange(len(shown))
    judged = _out_of_fold(space, lesson, shown)
    # each label of each picture is one yes or no
    flat = judged.reshape(-1, 1)
    temperature = fit_temperature(
        np.append(flat, 0 * flat, axis=1), (~shown.reshape(-1)).astype(int)
    )
    fitted = [space.fit(every, shown[:, at], LOOSE) for at in range(len(names))]
    weight = np.stack([one for one, _ in fitted]) / np.float32(temperature)
    bias = np.array([one for _, one in fitted], np.float32) / np.float32(temperature)
    alone = len(names) == 1
    rows = LinearHead(
        np.append(weight, 0 * weight, axis=0) if alone else weight,
        np.append(bias, 0 * bias) if alone else bias,
    )
    classes = [*names, catch_all_name(names)] if alone else names
    right = (judged > 0) == shown
    model = Classifier(
        classes,
        rows,
        embedder.backbone,
        words=of_learned(weight, bias),
        catch_all=1 if alone else None,
        record=_record(lesson, embedder, "logistic", float(right.mean()), every, _together(lesson)),
    )
    return model, right.all(axis=1), every


def _together(lesson: Lesson) -> np.ndarray:
    """Return what is held out together, (n,) int: events, or where all is one, pictures."""
    several = len(np.unique(lesson.events)) > 1
    return lesson.events if several else np.arange(len(lesson.labels))


def _out_of_fold(space: Directions, lesson: Lesson, shown: np.ndarray) -> np.ndarray:
    """Return logits (n, labels) by heads that had not seen the picture, nor its event."""
    logits, together = np.zeros(shown.shape), _together(lesson)
    order = np.random.default_rng(0).permutation(np.unique(together))
    for events in np.array_split(order, min(FOLDS, len(order))):
        held = np.isin(together, events)
        rest = np.flatnonzero(~held)
        for at in range(shown.shape[1]):
            weight, bias = space.fit(rest, shown[rest, at], LOOSE)
            logits[held, at] = lesson.embeddings[held] @ weight + bias
    return logits


def _right(model: Classifier, lesson: Lesson) -> np.ndarray:
    """Return on which pictures a model that never saw them is right, (n,) bool."""
    decisions = model.decide_all(lesson.embeddings, None)
    named = [lesson.control.label_of(name) for name in model.class_names]
    if lesson.control.several:
        said = [
            {named[at] for at in np.flatnonzero(row >= SURE)} - {None}
            for row in decisions.probabilities
        ]
        return np.array([one == labels for one, labels in zip(said, lesson.labels, strict=True)])
    tops = [{named[top]} for top in decisions.top]
    return np.array([top == labels for top, labels in zip(tops, lesson.labels, strict=True)])


def _record(
    lesson: Lesson,
    embedder: Embedder,
    method: str,
    accuracy: float,
    rows: np.ndarray,
    parted: np.ndarray,
) -> ModelRecord:
    counts = lesson.counts
    return ModelRecord(
        recipe="probe",
        threshold=THRESHOLD,
        images={name: counts[name] for name in lesson.learnable},
        method=method,
        judged_on=judged_on(lesson.events[rows], parted, "annotated pictures"),
        metrics={"accuracy": accuracy},
        dtype=embedder.dtype,
    )
