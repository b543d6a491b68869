"""The report of an evaluation: mistakes first, the threshold's price, every figure with its
interval, and how the model came about.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.embedder import Embedded, Embedder
from ..classification.classifier import Classifier
from ..classification.model_sections import about_model
from ..classification.report import prediction_card
from ..datasets.files import ImageFile
from ..errors import UnreadableImage
from ..heatmaps.one_pass import class_heatmap
from ..metrics.classification import Estimate
from ..reports.gallery import Gallery
from ..reports.page import Outcomes, Report, Section, pages
from ..reports.sections import MOST_ROWS, listed, made_by

# up to so many classes the confusion matrix is shown whole, beyond that the most frequent
# confusions
MATRIX = 40
NONE = "none of the classes"


class EvaluationReport:
    """Gathers what a report shows while images are judged.

    Args:
        folder: where the report will lie, or where it will be made.
        model: who judges.
        embedder: its network.
        threshold: probability from which a label is given; None: none is.
    """

    def __init__(
        self, folder: Path, model: Classifier, embedder: Embedder, threshold: float | None
    ) -> None:
        self.folder, self._model, self._embedder, self._threshold = (
            folder,
            model,
            embedder,
            threshold,
        )
        self._outcomes = Outcomes(model.class_names, threshold, judged=True)
        self._gallery = Gallery(folder)
        self._lock = threading.Lock()

    def look_at(self, file: ImageFile) -> Embedded:
        """Embed an image as `Embedder.embed` does, and keep what is shown of it. One without a
        label shows none of the classes.
        """
        sha = None
        try:
            one = self._embedder.open(file, feature_map=self._embedder.backbone.pooled)
            sha, photo = one.sha256.hex(), one.photo
            prediction = self._model.decide(file.name, one.embedding, self._threshold)
            # where the best guess for a stranger comes from says nothing
            feature_map = None if prediction.stranger else one.feature_map
        except UnreadableImage as error:
            return Embedded(file, sha, None, str(error))
        names = self._model.class_names
        index = names.index(str(prediction.top_label))
        heat = (
            None
            if feature_map is None
            else class_heatmap(feature_map, self._model.head.weight[index])
        )
        card = prediction_card(prediction, self._threshold, photo.size).with_image(
            photo.image, heat
        )
        foreign = file.label is None
        # A model of one thing against the rest may say of a stranger that it is the rest.
        wrong = index != self._model.catch_all if foreign else file.label != card.top
        note = (
            "" if not (wrong or foreign) else f"shows {NONE}" if foreign else f"truth: {file.label}"
        )
        card = replace(
            card, right=not wrong, foreign=foreign, note=note, group=NONE if foreign else card.top
        )
        self._gallery.add(
            card, (not wrong, prediction.label is None, index, -(card.probability or 0.0))
        )
        with self._lock:
            self._outcomes.add(card, index)
        return Embedded(file, sha, one.embedding)

    def pages(self, result: Any) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each page of the report of an `Evaluation`."""
        model = self._model
        title = f"{result.data.name or 'Pictures'}: how right the model is"
        about = made_by(model.backbone.name, model.class_names)
        report = Report(
            title,
            _summary(result),
            about,
            outcomes=self._outcomes,
            images_heading="The pictures, mistakes first",
        )
        report.groups = [
            ("fate:mistakes", "mistakes: labelled, and wrong"),
            ("fate:wrong-guess", "wrong best guesses, labelled or not"),
        ]
        report.groups += [
            ("fate:silent", "left without a label"),
            *((f"group:{name}", f"taken for {name}") for name in model.class_names),
        ]
        report.groups += (
            [(f"group:{NONE}", "those of none of the classes")] if result.others is not None else []
        )
        sections = [
            _figures(result),
            _classes(result),
            _confusion(result),
            _others(result),
            *about_model(model.record, model.history, model.class_names),
        ]
        sections.append(
            listed(
                "What can’t be read or used", [*result.unreadable, *result.unused], ("file", "why")
            )
        )
        report.sections = [section for section in sections if section is not None]
        return pages(report, self._gallery)

    def close(self) -> None:
        """Forget what was kept."""
        self._gallery.close()


def _summary(result: Any) -> list[str]:
    read = int(result.confusion.sum())
    right = int(result.confusion.diagonal().sum())
    told = [
        f"Of {read} pictures the model’s best guess is right on {right}: "
        f"{_share(result.total_accuracy)}."
    ]
    if result.threshold is None:
        told.append("It gives no label: nothing supports a threshold that keeps the promise.")
    elif result.accepted:
        told.append(
            f"At threshold {result.threshold:.4g} it labels {result.accepted} of "
            f"them ({result.coverage.value:.1%}); "
            f"{result.right} of these labels are right and {result.wrong} wrong: "
            f"{_share(result.selective_accuracy)}."
        )
    else:
        told.append(f"At threshold {result.threshold:.4g} it labels none of them.")
    if result.others is not None:
        others = result.others
        told.append(
            f"Of {others.images} pictures of {NONE} it labels {others.labelled}; by "
            f"probability alone it would label {others.labelled_by_probability}."
        )
    if result.split:
        told.append(
            f"Only the pictures marked '{result.split}' were evaluated; {result.set_aside} "
            "others of the data are left out."
        )
    if result.unreadable:
        told.append(f"{len(result.unreadable)} can’t be read; they are listed below.")
    return told


def _share(estimate: Estimate) -> str:
    if estimate.value is None:
        return "nothing to measure it on"
    return f"{estimate.value:.1%} (95 % interval {estimate.low:.1%} to {estimate.high:.1%})"


def _figures(result: Any) -> Section:
    rows = [[name, *_numbers(estimate)] for name, estimate in result.figures().items()]
    return Section("All figures", ["Shares are 0–1."], ("figure", "value", "95 % interval"), rows)


def _classes(result: Any) -> Section:
    rows = [
        [c.name, c.images, *_numbers(c.precision), *_numbers(c.recall)] for c in result.classes
    ][:MOST_ROWS]
    return Section(
        "By class",
        ["Of the best guess, labelled or not."],
        ("class", "pictures", "precision", "95 %", "recall", "95 %"),
        rows,
    )


def _confusion(result: Any) -> Section:
    names, matrix = result.class_names, np.asarray(result.confusion)
    if len(names) > MATRIX:
        away = matrix - np.diag(matrix.diagonal())
        worst = [
            np.unravel_index(index, away.shape) for index in np.argsort(-away, axis=None)[:MATRIX]
        ]
        rows = [
            [names[truth], names[said], int(away[truth, said])]
            for truth, said in worst
            if away[truth, said]
        ]
        return Section(
            "What is taken for what",
            ["The most frequent confusions."],
            ("truth", "taken for", "pictures"),
            rows,
        )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    rows = [[name, *counts] for name, counts in zip(names, matrix.tolist(), strict=True)]
    text = ["Rows are the truth, columns the best guess, labelled or not."]
    return Section(
        "Confusion matrix", text, ("", *names), rows, shades=np.round(shares, 3).tolist()
    )


def _others(result: Any) -> Section | None:
    if result.others is None:
        return None
    others = result.others
    told = {
        "AUROC by familiarity": others.familiarity.auroc,
        "AUROC by probability": others.probability.auroc,
    }
    told |= {
        "labelled": others.labelled_share,
        "labelled, by probability alone": others.labelled_by_probability_share,
    }
    rows = [[name, *_numbers(estimate)] for name, estimate in told.items()]
    return Section(
        f"Pictures of {NONE}",
        [f"{others.images} pictures that should get no label."],
        ("figure", "value", "95 % interval"),
        rows,
    )


def _numbers(estimate: Estimate) -> list[str]:
    return (
        ["–", ""]
        if estimate.value is None
        else [f"{estimate.value:.4f}", f"{estimate.low:.4f}–{estimate.high:.4f}"]
    )
