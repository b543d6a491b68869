"""The report of a run: every photo with what it shows, the silent ones with their best guess,
and how the model came about.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from ..reports.corrections import Corrections
from ..reports.gallery import Card, Gallery
from ..reports.page import Outcomes, Report, Section, pages
from ..reports.sections import listed
from ..words.class_names import is_catch_all
from .predictions import EMPTY, Counts, Prediction

LIKELIEST = 5  # classes told of each photo
# probabilities are told in six digits; they must stay on the side of the threshold on which they
# fell
NUDGE = 1e-9
NONE = "none of these"
PART_TEXTS = {
    NONE: "They match no class, at any threshold.",
    EMPTY: "No box of the detector’s counts.",
}


class ResultsReport:
    """Gathers what a report shows while photos are predicted.

    Args:
        folder: where the report will lie; it exists.
        class_names: in the model's order.
        threshold: probability from which a label is given; None: none is.
        corrections: how the labels are corrected, or None where they can't be.
    """

    def __init__(
        self,
        folder: Path,
        class_names: list[str],
        threshold: float | None,
        corrections: Corrections | None = None,
    ) -> None:
        self.folder, self.class_names = folder, class_names
        self._corrections = corrections
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
        if self._corrections is not None:
            place = self._corrections.places.get(card.name, "")
            card = replace(card, place=place)
        index = self.class_names.index(card.top)
        key = (1 if prediction.label is not None else 0, index, -(card.probability or 0.0))
        self._gallery.add(card, (2, card.group, 0.0) if card.stranger else key)
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
        report = Report(
            f"What {_photos(counts.total)} show{'s' if counts.total == 1 else ''}",
            summarise(counts, self._threshold, note),
            about,
            outcomes=self._outcomes,
            images_heading="The photos",
            in_parts=True,
            part_texts=PART_TEXTS,
            rest=[name for name in self.class_names if is_catch_all(name)],
            corrections=self._corrections,
        )
        report.groups = [
            ("fate:unsure", "those that need your eyes"),
            ("fate:labelled", "those with a label"),
            *((f"group:{name}", f"{name}, sure or not") for name in self.class_names),
        ]
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
    stranger = prediction.stranger or empty
    top = EMPTY if empty else str(prediction.label or prediction.top_label)
    said = " · ".join(f"{one.label} {percent(one.probability)}" for one in prediction.labels)
    said = said or f"{top} {percent(float(prediction.probability or 0.0))}"
    known = sorted((prediction.probabilities or {}).items(), key=lambda item: -item[1])[:LIKELIEST]
    none = EMPTY if empty else NONE
    box = prediction.box_xyxy
    height, width = size
    return Card(
        prediction.file_name,
        none if stranger else top,
        none if stranger else said,  # of a stranger, a percentage would mean nothing
        "seen in a part of the photo" if prediction.part is not None else "",
        probability,
        top,
        stranger=stranger,
        likeliest=() if stranger else tuple(known),
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
    """Return in sentences what came out; the first one holds all counts."""
    named = [f"{number} {name}" for name, number in counts.accepted.most_common(8) if number]
    named += ["…"] if len(counts.accepted) > 8 else []
    labels = f" ({', '.join(named)})" if named else ""
    labelled = f"{counts.labelled or 'none'} {_verb(counts.labelled or 1, 'has', 'have')}"
    told = [f"{labelled} a label{labels}"]
    if counts.unsure:
        told.append(f"{counts.unsure} {_verb(counts.unsure, 'needs', 'need')} your eyes")
    if counts.strangers:
        told.append(f"{counts.strangers} {_verb(counts.strangers, 'shows', 'show')} {NONE}")
    if counts.empty:
        told.append(f"{counts.empty} {_verb(counts.empty, 'is', 'are')} empty")
    if counts.unreadable:
        told.append(f"{len(counts.unreadable)} can’t be read")
    whole = ", ".join(told[:-1]) + " and " + told[-1] if len(told) > 1 else told[0]
    sentences = [f"Of {_photos(counts.total)}, {whole}."]
    if threshold is None:
        sentences.append(
            "No label is given at all: nothing supports a threshold that keeps the promise."
        )
    return [*sentences, note] if note else sentences


def _verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _photos(number: int) -> str:
    return "1 photo" if number == 1 else f"{number} photos"
