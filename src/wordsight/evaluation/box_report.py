"""The report of boxes measured: each image with its predicted box and the annotated one, the
worst first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.annotations import Annotated
from ..images.decoding import Photo
from ..metrics.boxes import paired_iou
from ..reports.gallery import Card, Gallery
from ..reports.page import Report, Section, pages
from ..reports.sections import listed


class BoxReport:
    """Gathers what a report shows while boxes are measured.

    Args:
        folder: where the report will lie, or where it will be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._gallery = Gallery(folder)
        self._labels: set[str] = set()

    def keep(
        self,
        image: Annotated,
        top_label: str,
        predicted: Sequence[float],
        photo: Photo,
        heat: np.ndarray,
    ) -> None:
        """Keep what is shown of one image. Safe from many threads.

        Args:
            image: with its annotated boxes, the largest of which counts.
            top_label: the class the box was looked for.
            predicted: `xyxy` in pixels of the upright original.
            photo: the decoded image.
            heat: (h, w) heat map, 0–1.
        """
        truth = image.boxes[0]
        overlap = float(paired_iou(np.array([predicted]), np.array([truth.xyxy]))[0])
        sides = np.array([image.size[1], image.size[0]] * 2, dtype=float)
        box, true_box = (
            tuple(np.round(np.array(xyxy) / sides, 4).tolist()) for xyxy in (predicted, truth.xyxy)
        )
        note = "" if truth.label == top_label else f"annotated as {truth.label}"
        card = Card(
            image.file.name,
            truth.label,
            f"{top_label}, IoU {overlap:.2f}",
            note,
            box=box,
            true_box=true_box,
        )
        self._labels.add(truth.label)
        self._gallery.add(card.with_image(photo.image, heat), (round(overlap, 6),))

    def pages(self, result: Any) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each page of the report of a `BoxEvaluation`."""
        best = result.kinds["predict"]
        told = [
            f"{result.images} annotated pictures; the mean IoU of the predicted box is "
            f"{best.mean_iou.value:.3f}."
        ]
        told.append(
            "Always the median box would reach "
            f"{result.kinds['median box'].mean_iou.value:.3f}. White is predicted, green and "
            "dashed is annotated."
        )
        rows = [
            [name, f"{kind.mean_iou.value:.3f}", f"{kind.box_accuracy.value:.3f}"]
            for name, kind in result.kinds.items()
        ]
        figures = Section(
            "Kinds of boxes",
            (),
            ("box", "mean IoU", "mean share at IoU 0.3, 0.5, 0.7"),
            rows,
            first=True,
        )
        missing = listed(
            "What can’t be read or used", [*result.unreadable, *result.skipped], ("what", "why")
        )
        report = Report(
            "How right the boxes are",
            told,
            "Made by wordsight.",
            [section for section in (figures, missing) if section is not None],
        )
        report.groups = [(f"group:{name}", f"annotated as {name}") for name in sorted(self._labels)]
        report.images_heading = "The pictures, the worst boxes first"
        return pages(report, self._gallery)

    def close(self) -> None:
        """Forget what was kept."""
        self._gallery.close()
