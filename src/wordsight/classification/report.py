"""The report of a run: every photo with what it shows, the silent ones with their best guess,
and how the model came about.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from ..reports.gallery import Card, Gallery
from ..reports.page import Outcomes, Report, Section, pages
from ..reports.sections import listed
from .predictions import EMPTY, Counts, Prediction

LIKELIEST = 5  # classes told of each photo
# probabilities are told in six digits; they must stay on the side of the threshold on which they
# fell
NUDGE = 1e-9


class ResultsReport:
    """Gathers what a report shows while photos are predicted.

    Args:
        folder: where the report will lie; it exists.
        class_names: in the model's order.
        threshold: probability from which a label is given; None: none is.
    """

    def __init__(self, folder: Path, class_names: list[str], threshold: float | None) -> None:
        self.folder, self.class_names = folder, class_names
        self._threshold = threshold
        self._outcomes = Outcomes(class_names, self._threshold)
        self._gallery = Gallery(folder)
        self._lock = threading.Lock()

    def keep(
        self,
        prediction: Prediction,
        image: Image.Image,
        size: tuple[int, int],
        heat: np.ndarray | None,
    ) -> None:
        """Keep what is shown of one photo. Safe from many threads.

        Args:
            prediction: what was said of it.
            image: upright RGB, possibly reduced.
            size: (height, width) of the upright original.
            heat: (h, w) heat map of the likeliest class, 0–1, or None.
        """
        card = prediction_card(prediction, self._threshold, size).with_image(image, heat)
        index = self.class_names.index(card.top)
        self._gallery.add(card, (prediction.label is None, index, -(card.probability or 0.0)))
        with self._lock:
            self._outcomes.add(card, index)

    def pages(
        self, counts: Counts, sections: list[Section], about: str, note: str | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each page of the report.

        Args:
            counts: how many photos fared how.
            sections: on the model.
            about: which model, for the foot of the page.
            note: what stands behind the threshold, or None.
        """
        accepted = counts.labelled
        report = Report(
            f"What {accepted + counts.rejected + counts.empty} photos show",
            summarise(counts, self._threshold, note),
            about,
            outcomes=self._outcomes,
        )
        report.groups = [
            ("fate:silent", "left without a label"),
            *((f"group:{name}", f"{name} (likeliest)") for name in self.class_names),
        ]
        report.images_heading = "The photos, those with a label first"
        unreadable = listed("What can’t be read", counts.unreadable, ("file", "why"))
        skipped = listed(
            "Files that are no pictures", [[name] for name in counts.skipped], ("file",)
        )
        report.sections = [
            section for section in (unreadable, *sections, skipped) if section is not None
        ]
        return pages(report, self._gallery)

    def close(self) -> None:
        """Forget what was kept."""
        self._gallery.close()


def prediction_card(prediction: Prediction, threshold: float | None, size: tuple[int, int]) -> Card:
    """Return a photo's card, still without its image."""
    probability = float(prediction.probability or 0.0)
    if threshold is not None and not prediction.stranger:
        probability = (
            max(probability, threshold)
            if prediction.label is not None
            else min(probability, threshold - NUDGE)
        )
    empty = prediction.status == EMPTY
    top = EMPTY if empty else str(prediction.label or prediction.top_label)
    said = " · ".join(f"{one.label} {percent(one.probability)}" for one in prediction.labels)
    said = said or f"{top} {percent(float(prediction.probability or 0.0))}"
    known = sorted((prediction.probabilities or {}).items(), key=lambda item: -item[1])[:LIKELIEST]
    box = prediction.box_xyxy
    height, width = size
    return Card(
        prediction.file_name,
        top,
        said if prediction.probability is not None else EMPTY if empty else "none of these",
        "seen in a part of the photo" if prediction.part is not None else "",
        probability,
        top,
        stranger=prediction.stranger or empty,
        likeliest=tuple(known),
        box=None
        if box is None
        else tuple(
            round(side / whole, 4)
            for side, whole in zip(box, (width, height, width, height), strict=True)
        ),
        link=None
        if prediction.heatmap is None
        else quote(prediction.heatmap, errors="surrogateescape"),
    )


def percent(probability: float) -> str:
    """Return a probability in words: never 100 %, which none is."""
    return f"{min(999, math.floor(1000 * probability)) / 10:g}%"


def summarise(counts: Counts, threshold: float | None, note: str | None) -> list[str]:
    """Return in sentences what came out."""
    accepted = counts.labelled
    parts = ", ".join(
        f"{number} {name}" for name, number in counts.accepted.most_common(8) if number
    )
    more = "" if len(counts.accepted) <= 8 else ", …"
    told = [
        f"{_photos(counts.total)} looked at; {accepted} {'gets' if accepted == 1 else 'get'} a "
        "label" + (f": {parts}{more}." if parts else ".")
    ]
    if threshold is None:
        told.append(
            "No label is given at all: nothing supports a threshold that keeps the promise."
        )
    elif counts.rejected:
        if counts.unsure:
            needs = "needs" if counts.unsure == 1 else "need"
            told.append(
                f"{_photos(counts.unsure)} {needs} your eyes: no class reaches {threshold:.4g}."
            )
        if counts.strangers:
            are = "is" if counts.strangers == 1 else "are"
            told.append(f"{_photos(counts.strangers)} {are} unlike any class.")
    if counts.empty:
        are = "is" if counts.empty == 1 else "are"
        told.append(f"{_photos(counts.empty)} {are} empty: no box of the detector’s counts.")
    if counts.unreadable:
        told.append(f"{_photos(len(counts.unreadable))} can’t be read; they are listed below.")
    return [*told, note] if note else told


def _photos(number: int) -> str:
    return "1 photo" if number == 1 else f"{number} photos"
