"""What one image shows, and how many images fared how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..heads.decision import accepts

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
    map: np.ndarray | None = field(default=None, repr=False)
    extent: np.ndarray | None = field(default=None, repr=False)

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
        label: class name, or a word above several classes where no class is sure (`roll_up`); None
            where the image is rejected or unreadable; of several the surest.
        labels: all of them, the surest first; empty where it is rejected.
        top_label: the best guess, whether accepted or not; None where unreadable.
        probability: calibrated probability of `label`, or else of `top_label`, 0–1; None for a
            stranger to what a model learned from, of which it would mean nothing.
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
        parents: probabilities of the words above `top_label` that a label may fall back to, the
            narrowest first; not part of the tables.
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
    map: np.ndarray | None = field(default=None, repr=False)
    extent: np.ndarray | None = field(default=None, repr=False)
    parts: list[Part] = field(default_factory=list)
    part: tuple[float, float, float, float] | None = None
    labels: list[Label] = field(default_factory=list)
    several: bool = False
    parents: dict[str, float] = field(default_factory=dict)
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

    @property
    def rolled_up(self) -> bool:
        """Whether `label` is no class, but a word above several."""
        return self.label is not None and self.label in self.parents

    def roll_up(self, threshold: float | None) -> None:
        """Take the narrowest word above `top_label` for a label that is sure enough, if one is, in
        an image of which no class is.
        """
        fitting = [
            Label(name, round(probability, 6))
            for name, probability in self.parents.items()
            if accepts(probability, self.stranger, threshold)
        ]
        if fitting:
            self.labels = fitting[:1]
            self.label, self.probability = fitting[0].label, fitting[0].probability

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
            chances = [prediction.probability, *prediction.parents.values()]
            for threshold, (count, wrong) in self.lower.items():
                sure = next((chance for chance in chances if chance >= threshold), None)
                if sure is not None:
                    self.lower[threshold] = (count + 1, wrong + 1 - sure)
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
