"""What one image shows, what photos of one event show together, and how many fared how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ..heads.decision import accepts
from ..heads.pooling import pooled

FIELDS = (
    "file_name",
    "status",
    "label",
    "labels",
    "top_label",
    "probability",
    "probabilities",
    "box_xyxy",
    "heatmap",
    "mask",
    "error",
    "taken_at",
    "time_source",
    "event",
)
EVENTS = "events.csv"
EVENT_FIELDS = (
    *("event", "folder", "start", "end", "photos", "status", "label", "top_label", "probability"),
    *("best_photo", "labels"),
)
PART_FIELDS = (
    "file_name",
    "part",
    "x_min",
    "y_min",
    "x_max",
    "y_max",
    "label",
    "top_label",
    "probability",
    "answers",
)
LABEL_FIELDS = ("label", "probability", "box_xyxy", "heatmap", "mask")
NONE_OF_THESE = "none_of_these"  # status of an image that resembles no class
EMPTY = "empty"  # status of an image in which a detector found nothing
CROP_FIELDS = (
    *("detection", "category", "confidence", "bbox", "box_xyxy"),
    *("status", "label", "top_label", "probability"),
)
SET_ASIDE = "set_aside"  # status of a box that recurs at one place of one camera


@dataclass(frozen=True)
class Part:
    """What one part of an image shows.

    Attributes:
        xyxy: where the part lies, in pixels of the upright original.
        label: class name, or None where the part is rejected.
        top_label: the best guess, whether accepted or not.
        probability: calibrated probability of `top_label`, 0–1.
        stranger: whether it was rejected because it resembles nothing the model learned from.
    """

    xyxy: tuple[float, float, float, float]
    label: str | None
    top_label: str
    probability: float
    stranger: bool


@dataclass
class Crop:
    """What is in one box that a detector drew.

    Attributes:
        detection: the box's place in the detector's list for this image, from 0.
        category: what the detector calls it, such as "animal".
        confidence: the detector's, 0–1.
        bbox: [x_min, y_min, width, height] in fractions of the upright image's sides.
        box_xyxy: [x_min, y_min, x_max, y_max] in pixels of the upright original; None where the
            image was not read.
        status: "labelled", "unsure" or "none_of_these", as of an image; "set_aside" for a box that
            recurs at one place of one camera.
        label: class name, or the detector's category of what is no animal; None without a label.
        top_label: the best guess, whether accepted or not, or None.
        probability: calibrated probability of `top_label`, 0–1, or the detector's confidence for
            its own categories; None where it would mean nothing.
    """

    detection: int
    category: str
    confidence: float
    bbox: list[float]
    box_xyxy: list[float] | None = None
    status: str = NONE_OF_THESE
    label: str | None = None
    top_label: str | None = None
    probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in `crops` of predictions.jsonl."""
        return {name: getattr(self, name) for name in CROP_FIELDS}


@dataclass
class Label:
    """One thing that an image shows.

    Attributes:
        label: class name.
        probability: calibrated, 0–1.
        box_xyxy: [x_min, y_min, x_max, y_max] in pixels of the upright original, or None.
        heatmap: path of the superimposed heat map, relative to the results folder, or None.
        mask: path of the segmentation mask, likewise.
        map: (h, w) float32 heat map, 0–1, or None; not part of the tables.
        extent: (rows, columns) float32, 0–1: how far it reaches, or None; likewise.
    """

    label: str
    probability: float
    box_xyxy: list[float] | None = None
    heatmap: str | None = None
    mask: str | None = None
    map: np.ndarray | None = None
    extent: np.ndarray | None = None

    @property
    def reach(self) -> np.ndarray | None:
        """What masks and boxes are cut from: the extent, or the heat map where there is none."""
        return self.map if self.extent is None else self.extent

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in `labels` of predictions.jsonl."""
        return {name: getattr(self, name) for name in LABEL_FIELDS}


@dataclass
class Prediction:
    """What one image shows.

    Attributes:
        file_name: path relative to the folder given.
        label: class name, or None where the image is rejected or unreadable; of several the surest.
        labels: all of them, the surest first; empty where it is rejected.
        top_label: the best guess, whether accepted or not; None where unreadable.
        probability: calibrated probability of `top_label`, 0–1; None for a stranger to what a model
            learned from, of which it would mean nothing.
        probabilities: the same for every class.
        box_xyxy: of `label`: [x_min, y_min, x_max, y_max] in pixels of the upright original, or
            None.
        heatmap: of `label`: path of the superimposed heat map, relative to the results folder, or
            None.
        mask: path of the segmentation mask, likewise.
        error: None, or why the file could not be read.
        taken_at: when it was taken, ISO 8601, by the camera's clock; None where unreadable.
        time_source: "camera", or "file" where only the file's own time is known.
        event: number of its event in events.csv, where photos are grouped.
        stranger: whether it was rejected because it lies outside what the model learned from.
        map: (h, w) float32 heat map, 0–1, or None; not part of the tables.
        extent: (rows, columns) float32, 0–1: how far `label` reaches, or None; likewise.
        parts: what parts of the image show, where they were looked at; in parts.csv.
        part: `xyxy` of the part whose answer this is, or None where it is the whole image's.
        crops: what is in the boxes of a detector, where its boxes were given, else None.
        detected_as: what the detector's file calls the image, or None.
        several: whether its classes are words that may stand together in one image.
        remark: what is to be said of the file, such as that it is cut off; not part of the tables.
    """

    file_name: str
    label: str | None = None
    top_label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    box_xyxy: list[float] | None = None
    heatmap: str | None = None
    mask: str | None = None
    error: str | None = None
    taken_at: str | None = None
    time_source: str | None = None
    event: int | None = None
    stranger: bool = False
    map: np.ndarray | None = None
    extent: np.ndarray | None = None
    parts: list[Part] = field(default_factory=list)
    part: tuple[float, float, float, float] | None = None
    labels: list[Label] = field(default_factory=list)
    several: bool = False
    remark: str = ""
    crops: list[Crop] | None = None
    detected_as: str | None = None

    @property
    def status(self) -> str:
        """What became of the image: "labelled", "unsure", "none_of_these", "unreadable", or "empty"
        where a detector's boxes were given and none counts.
        """
        if self.error is not None:
            return "unreadable"
        if self.label is not None:
            return "labelled"
        if self.crops is not None and all(crop.status == SET_ASIDE for crop in self.crops):
            return EMPTY
        return NONE_OF_THESE if self.stranger else "unsure"

    def take(self, labels: Sequence[str]) -> None:
        """Take the labels that a person has given, which are certain; none of them means "none of
        these".
        """
        given = [Label(label, 1.0) for label in labels]
        self.labels, self.stranger = given, not given
        if given:
            self.label = self.top_label = given[0].label
            self.probability = 1.0
            certain = dict.fromkeys(labels, 1.0)
            self.probabilities = {**dict.fromkeys(self.probabilities or {}, 0.0), **certain}
        else:
            self.label = self.probability = self.probabilities = None

    def labels_at(self, threshold: float | None) -> list[Label]:
        """Return the labels that the image gets at a threshold, the surest first."""
        if self.top_label is None or not accepts(self.probability or 0.0, self.stranger, threshold):
            return []
        others = [
            Label(name, probability)
            for name, probability in (self.probabilities or {}).items()
            if self.several and name != self.top_label and accepts(probability, False, threshold)
        ]
        others.sort(key=lambda label: -label.probability)
        return [Label(self.top_label, self.probability or 0.0), *others]

    @property
    def reach(self) -> np.ndarray | None:
        """What masks and boxes are cut from: the extent, or the heat map where there is none."""
        return self.map if self.extent is None else self.extent

    def without_maps(self) -> Prediction:
        """Forget the heat maps and extents, which take memory, and return itself."""
        self.map = self.extent = None
        for label in self.labels:
            label.map = label.extent = None
        return self

    def to_dict(self) -> dict:
        """Return the fields of `predictions.jsonl`, in order; those of crops only where a
        detector's boxes were given.
        """
        fields = {name: getattr(self, name) for name in FIELDS}
        fields["labels"] = [label.to_dict() for label in self.labels]
        if self.crops is not None:
            fields["crops"] = [crop.to_dict() for crop in self.crops]
            fields["detected_as"] = self.detected_as
        return fields


@dataclass(frozen=True)
class Event:
    """What the photos of one event show together.

    Attributes:
        event: its number, from 1, in the order of the photos' names.
        folder: where they lie, relative to the folder given; "." for that itself.
        start: when the first was taken, ISO 8601, by the camera's clock; None if unknown.
        end: when the last was taken.
        photos: how many there are, unreadable ones left out.
        status: as in `Prediction.status`.
        label: class name, or None where it is not sure; of several the surest.
        top_label: the best guess; None where no photo resembles a class.
        probability: of `top_label`, 0–1, or None likewise.
        best_photo: the photo that shows `top_label` best, or None.
        labels: all labels, the surest first.
    """

    event: int
    folder: str
    start: str | None
    end: str | None
    photos: int
    status: str
    label: str | None
    top_label: str | None
    probability: float | None
    best_photo: str | None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shown:
    """What an event needs of one of its photos.

    Attributes:
        prediction: without anything large.
        row: (classes,) float64 probabilities; None where none of the classes is there.
    """

    prediction: Prediction
    row: np.ndarray | None


class EventPool:
    """Pools what photos show into one answer an event.

    Args:
        events: file name -> number of its event.
        class_names: the model's classes, in order; other labels are those that a detector gave.
        threshold: probability from which a label is given; None gives none.
        power: of odds; see `ModelRecord.event_power`.
        none: classes that mean "none of the others".
    """

    def __init__(
        self,
        events: Mapping[str, int],
        class_names: Sequence[str],
        threshold: float | None,
        power: float = 1.0,
        none: Collection[str] = (),
    ) -> None:
        self._events, self._names, self._threshold = events, list(class_names), threshold
        self._power, self._none = power, none
        self._left = Counter(events.values())
        self._photos: dict[int, list[_Shown]] = {}
        self._done: dict[int, Event] = {}

    def add(self, prediction: Prediction) -> None:
        """Note the event of a photo, and keep what its event needs until its last photo."""
        number = prediction.event = self._events.get(prediction.file_name)
        if number is None:
            return
        photos = self._photos.setdefault(number, [])
        if prediction.error is None:
            shares, row = prediction.probabilities, None
            if shares and not prediction.stranger and prediction.top_label in self._names:
                row = np.array([shares.get(name, 0.0) for name in self._names])
            labels = [Label(one.label, one.probability) for one in prediction.labels]
            bare = replace(
                prediction, map=None, extent=None, parts=[], probabilities=None, labels=labels
            )
            photos.append(_Shown(bare, row))
        self._left[number] -= 1
        if not self._left[number]:
            del self._photos[number]
            if photos:
                self._done[number] = self._event(number, photos)

    def events(self) -> list[Event]:
        """Return every event, in order; events of which no photo could be read are left out."""
        return [event for _, event in sorted(self._done.items())]

    def _event(self, number: int, shown: list[_Shown]) -> Event:
        photos = [one.prediction for one in shown]
        known = [one for one in shown if one.row is not None]
        telling = [one for one in known if one.prediction.top_label not in self._none] or known
        shares = self._pooled(telling, len(shown))
        detected: dict[str, float] = {}  # what a detector named, by its surest box
        for label in (label for one in photos for label in one.labels):
            if label.label not in self._names:
                detected[label.label] = max(label.probability, detected.get(label.label, 0.0))
        top = max(shares, key=lambda name: shares[name], default=None)
        said = Prediction(
            "",
            top_label=top,
            probability=None if top is None else shares[top],
            probabilities=shares,
            stranger=top is None,
            several=any(one.several for one in photos),
            crops=[] if all(one.status == EMPTY for one in photos) else None,
        )
        own = [one.label for one in said.labels_at(self._threshold)]
        labels = [*own, *sorted(detected, key=lambda name: -detected[name])]
        if detected and not own:
            said.top_label, said.probability = labels[0], detected[labels[0]]
        said.label = labels[0] if labels else None
        times = sorted(str(one.taken_at) for one in photos if one.time_source == "camera")
        return Event(
            number,
            str(PurePosixPath(photos[0].file_name).parent),
            times[0] if times else None,
            times[-1] if times else None,
            len(photos),
            said.status,
            said.label,
            said.top_label,
            None if said.probability is None else round(said.probability, 6),
            self._best_photo(shown, said.top_label),
            tuple(labels),
        )

    def _pooled(self, telling: list[_Shown], count: int) -> dict[str, float]:
        """Return the probability of each class in photos that show some class."""
        if not telling:
            return {}
        rows = np.stack([one.row for one in telling if one.row is not None])
        several = telling[0].prediction.several
        together = pooled(rows, count, several, 1.0 if several else self._power)
        return {name: float(p) for name, p in zip(self._names, together, strict=True)}

    def _best_photo(self, shown: list[_Shown], name: str | None) -> str | None:
        """Return the photo that shows a class, or what a detector named, best."""

        def share(one: _Shown) -> float:
            if name in self._names:
                return 0.0 if one.row is None else float(one.row[self._names.index(str(name))])
            return max(
                (label.probability for label in one.prediction.labels if label.label == name),
                default=0.0,
            )

        best = max(shown, key=share)
        return best.prediction.file_name if name is not None and share(best) > 0 else None


LOWER = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # thresholds that may be advised
MORE = 1.05  # times as many labels as there are, for a lower threshold to be worth a line
WRONG = 0.1  # share of them that may be wrong


@dataclass
class Counts:
    """How many images fared how.

    Attributes:
        accepted: by class name; an image of several labels counts for each.
        labelled: images that got a label.
        unsure: rejected because the probability is below the threshold.
        strangers: rejected because they resemble nothing the model learned from.
        empty: images in which a detector found nothing.
        unreadable: (file name, reason) of each.
        skipped: names of files that are no images.
        remarks: (file name, remark) of each image of which something is to be said.
        lower: threshold -> images that it would label, and how many of these would be wrong, as
            their probabilities say.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    unsure: int = 0
    strangers: int = 0
    empty: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    lower: dict[float, tuple[int, float]] = field(
        default_factory=lambda: dict.fromkeys(LOWER, (0, 0.0))
    )

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        if prediction.remark:
            self.remarks.append((prediction.file_name, prediction.remark))
        if prediction.probability is not None and not prediction.stranger:
            for threshold, (count, wrong) in self.lower.items():
                if prediction.probability >= threshold:
                    self.lower[threshold] = (count + 1, wrong + 1 - prediction.probability)
        if prediction.error is not None:
            self.unreadable.append((prediction.file_name, prediction.error))
        elif prediction.label is not None:
            self.labelled += 1
            self.accepted.update(label.label for label in prediction.labels)
        elif prediction.status == EMPTY:
            self.empty += 1
        elif prediction.stranger:
            self.strangers += 1
        else:
            self.unsure += 1

    def advice(self, threshold: float | None) -> str | None:
        """Return what a lower threshold would label, and how much of that would be wrong; None
        where none would label more.
        """
        if threshold is None:
            return None
        labelled = self.labelled
        worth = [
            (lower, count, wrong)
            for lower, (count, wrong) in self.lower.items()
            if lower < threshold and count >= MORE * labelled + 1 and wrong <= WRONG * count
        ]
        if not worth:
            return None
        lower, count, wrong = min(worth)
        return (
            f"{labelled} of {self.total} labelled. '-t {lower:g}' would label {count}, about "
            f"{max(1, round(wrong))} of them wrong."
        )

    @property
    def rejected(self) -> int:
        """Images that were read but got no label."""
        return self.unsure + self.strangers

    @property
    def total(self) -> int:
        """Images in all, unreadable ones included."""
        return self.labelled + self.rejected + self.empty + len(self.unreadable)
