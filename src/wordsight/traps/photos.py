"""Predict what is in a detector's boxes: each crop by itself, the photo by its surest crop."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from ..classification.classifier import Classifier, load
from ..classification.events import EventPool
from ..classification.photos import Run, event_pool, over
from ..classification.predictions import CROP_FIELDS, SET_ASIDE, Crop, Label, Prediction
from ..classification.results import Results
from ..core.progress import Progress, or_notebook
from ..core.tables import BOXES, note_photos
from ..datasets.files import RESULT_FOLDERS, ImageFile
from ..datasets.work import Photos, find_photos
from ..errors import UnreadableImage
from ..heatmaps.heatmap import HeatmapSettings
from .boxes import Box, Detected, DetectorBoxes, read_boxes
from .crops import CroppedPhoto, EncodedCrop
from .repeats import Repeats, repeats_of

CROPS = "crops.csv"
CELLS = 64  # of the longest side of a photo's heat map


def predict_boxes(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    model: str | os.PathLike | Classifier,
    boxes: str | os.PathLike | DetectorBoxes,
    *,
    output: str | os.PathLike | None = "results",
    threshold: float | None = None,
    precision: float | None = None,
    roll_up: str | Iterable[str] | None = None,
    confidence: float | None = None,
    repeats: str | os.PathLike = "auto",
    draw: bool = True,
    events: str | float | None = None,
    progress: Progress | None = None,
) -> Results:
    """Predict what is in the boxes that MegaDetector drew.

    Each box of an animal is cut out with a margin and classified by a pass of its own. The surest
    crop gives the photo's answer; people and vehicles are labels as the detector names them. A
    photo without a box that counts is empty.

    Args:
        photos: folders, files or globs.
        model: model folder, or what `load` returned.
        boxes: MegaDetector's JSON, or what `read_boxes` made of it.
        output: as in `wordsight.predict`.
        threshold: likewise.
        precision: likewise.
        roll_up: likewise; each crop by itself.
        confidence: of the detector, from which a box counts, 0–1; None: what its file calls
            typical, or 0.2.
        repeats: "auto" sets boxes aside that recur at one place of one camera on more days than
            animals can explain; "keep" sets none aside; a file `repeats.csv` those in its rows.
        draw: as in `wordsight.predict`.
        events: likewise.
        progress: likewise.

    Raises:
        NotFound: if there is nothing to predict, or no such model or file.
        InvalidArgument: if a file or number is none, or not one photo can be read.
        OutputError: if the results can't be written.
    """
    classifier = (model if isinstance(model, Classifier) else load(model)).rolling_up(roll_up)
    chosen, note = classifier.threshold_for(threshold, precision)
    found = find_photos(photos, output, RESULT_FOLDERS)
    told = (
        boxes
        if isinstance(boxes, DetectorBoxes)
        else read_boxes(boxes, found.images, found.sources, confidence)
    )
    aside = repeats_of(told, found.images, repeats, or_notebook(progress))
    pool = event_pool(classifier, chosen, found.images, events, or_notebook(progress))
    said = [*([note] if note else []), *aside.notes(found.output), *_others(told)]
    run = CropRun(classifier, chosen, found, told, aside, draw, " ".join(said) or None, pool)
    results = over(run, found, progress)
    if found.output is not None:
        note_photos(found.output, BOXES, [os.path.abspath(told.path)])
    return results


def _others(told: DetectorBoxes) -> list[str]:
    if not told.others:
        return []
    images = "1 image that is" if told.others == 1 else f"{told.others} images that are"
    return [f"{told.path.name} lists {images} not among these photos."]


class CropRun(Run):
    """One run over crops: predicts photos by them, and takes what comes of each."""

    def __init__(
        self,
        model: Classifier,
        threshold: float | None,
        found: Photos,
        told: DetectorBoxes,
        aside: Repeats,
        draw: bool,
        note: str | None,
        pool: EventPool | None,
    ) -> None:
        super().__init__(
            model,
            threshold,
            photos=found,
            draw=draw,
            note=note,
            names=told.categories,
            files=[CROPS, *aside.files()],
            boxes=True,
            pool=pool,
        )
        self._told, self._aside = told, aside
        self._rows: list[list] = [["file_name", *CROP_FIELDS[:3], *_SIDES, *CROP_FIELDS[5:]]]
        self._files = {file.name: file for file in found.images}

    def predict(self, file: ImageFile) -> Prediction:
        """Predict one photo by its crops, draw it and keep it for the report. Safe from many
        threads.
        """
        if file.name in self._told.problems:
            return Prediction(file.name, error=self._told.problems[file.name])
        detected = self._told.images[file.name]
        animals = [
            box for box in detected.boxes if box.is_animal and not self._aside.has(file.name, box)
        ]
        try:
            return self._predict(file, detected, animals)
        except UnreadableImage as error:
            return Prediction(file.name, error=str(error))

    def _predict(self, file: ImageFile, detected: Detected, animals: list[Box]) -> Prediction:
        model = self.model
        drawn = self.report is not None
        whole = CroppedPhoto(model.embedder, file, animals, feature_map=drawn)
        inside = {
            box.detection: (model.decide(file.name, crop.embedding, self.threshold), crop)
            for box, crop in zip(animals, whole.crops, strict=True)
        }
        answers = {
            box.detection: self._crop(file.name, box, whole.size, inside.get(box.detection))
            for box in detected.boxes
        }
        prediction = answer_of(file.name, list(answers.values()), model)
        surest = _surest_of(prediction, answers, inside)
        if surest is not None:
            prediction.probabilities, prediction.parents = surest.probabilities, surest.parents
        prediction.detected_as = detected.file
        if drawn:
            self._draw(prediction, file, whole, answers, inside)
        prediction.remark = whole.remark
        prediction.taken_at, prediction.time_source = self.told_time(file, whole.data)
        return prediction

    def _crop(
        self,
        name: str,
        box: Box,
        size: tuple[int, int],
        seen: tuple[Prediction, EncodedCrop] | None,
    ) -> Crop:
        """Return what is in a box: what the model says of an animal, else the detector's word."""
        crop = Crop(
            box.detection,
            box.category,
            round(box.confidence, 6),
            [round(side, 6) for side in box.bbox],
            box.pixels(size),
        )
        if self._aside.has(name, box):
            crop.status = SET_ASIDE
        elif seen is None:
            crop.status, crop.label, crop.top_label = "labelled", box.category, box.category
            crop.probability = crop.confidence
        else:
            said = seen[0]
            crop.status, crop.label, crop.top_label = said.status, said.label, said.top_label
            crop.probability = None if said.stranger else said.probability
        return crop

    def _draw(
        self,
        prediction: Prediction,
        file: ImageFile,
        whole: CroppedPhoto,
        answers: dict[int, Crop],
        inside: dict[int, tuple[Prediction, EncodedCrop]],
    ) -> None:
        """Give each label the heat map of its crop, placed in the photo, and draw all of it."""
        heat = None
        for label in prediction.labels:
            place = next((at for at in inside if answers[at].box_xyxy == label.box_xyxy), None)
            if place is None:
                continue
            said, crop = inside[place]
            self.model.localize(said, crop.photo, crop.encoding, HeatmapSettings())
            label.map = _placed(said.map, crop.sides, whole.size)
            label.extent = (
                None if said.extent is None else _placed(said.extent, crop.sides, whole.size)
            )
            heat = label.map if heat is None else heat
        self.show(prediction, file, whole.shown, heat)

    def add(self, prediction: Prediction) -> None:
        """Count a prediction, and write it or keep it."""
        super().add(prediction)
        for crop in prediction.crops or ():
            row = crop.to_dict()
            sides = row["box_xyxy"]
            self._rows.append(
                [
                    prediction.file_name,
                    *(row[name] for name in CROP_FIELDS[:3]),
                    *sides,
                    *("" if row[name] is None else row[name] for name in CROP_FIELDS[5:]),
                ]
            )

    def finish(self) -> None:
        """Write the tables of crops and of repeats, and put everything in place."""
        if self.writer is not None:
            self.writer.write_table(CROPS, self._rows)
            self._aside.write(self.writer, self._files)
        super().finish()


_SIDES = ("x_min", "y_min", "x_max", "y_max")


def answer_of(name: str, crops: list[Crop], model: Classifier) -> Prediction:
    """Return a photo's answer: each label by its surest crop, animals before what the detector
    names; a class that means "anything else" only where nothing else is there. Without a label, the
    surest guess.
    """
    prediction = Prediction(name, crops=crops)
    counted = [crop for crop in crops if crop.status != SET_ASIDE]
    rest = None if model.catch_all is None else model.class_names[model.catch_all]
    ranked = sorted(
        counted,
        key=lambda crop: (crop.label == rest, not _is_animal(crop), -(crop.probability or 0.0)),
    )
    labels: dict[str, Label] = {}
    for crop in ranked:
        if crop.label is not None and not (crop.label == rest and labels):
            labels.setdefault(crop.label, Label(crop.label, crop.probability or 0.0, crop.box_xyxy))
    prediction.labels = list(labels.values())
    if prediction.labels:
        first = prediction.labels[0]
        prediction.label = first.label
        prediction.top_label = next(
            crop.top_label for crop in ranked if crop.label == prediction.label
        )
        prediction.probability, prediction.box_xyxy = first.probability, first.box_xyxy
        return prediction
    unsure = [crop for crop in ranked if crop.status == "unsure"]
    if unsure:
        best = max(unsure, key=lambda crop: crop.probability or 0.0)
        prediction.top_label, prediction.probability = best.top_label, best.probability
    else:
        prediction.stranger = bool(counted)
        prediction.top_label = next((crop.top_label for crop in ranked), None)
    return prediction


def _is_animal(crop: Crop) -> bool:
    return crop.category.casefold() == "animal"


def _surest_of(
    prediction: Prediction,
    answers: dict[int, Crop],
    inside: dict[int, tuple[Prediction, EncodedCrop]],
) -> Prediction | None:
    """Return what the model said of the crop whose answer is the photo's, or None."""
    answer = (prediction.top_label, prediction.probability)
    for place, (said, _) in inside.items():
        if answer == (answers[place].top_label, answers[place].probability):
            return said
    return None


def _placed(
    heat: np.ndarray | None, sides: tuple[int, int, int, int], size: tuple[int, int]
) -> np.ndarray | None:
    """Return a crop's (h, w) heat map as one of the whole photo, which is cold elsewhere."""
    import cv2

    if heat is None:
        return None
    scale = CELLS * 4 / max(size)
    height, width = (max(1, round(side * scale)) for side in size)
    whole = np.zeros((height, width), np.float32)
    left, top = (
        min(round(side * scale), most - 1)
        for side, most in zip(sides[:2], (width, height), strict=True)
    )
    right, bottom = max(left + 1, round(sides[2] * scale)), max(top + 1, round(sides[3] * scale))
    right, bottom = min(right, width), min(bottom, height)
    whole[top:bottom, left:right] = np.clip(
        cv2.resize(heat, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR), 0, 1
    )
    return whole
