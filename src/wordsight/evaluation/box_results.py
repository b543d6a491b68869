"""How right boxes are: the figures of one kind of box, and all of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..core.notebook import frame
from ..core.summary import Problems, Table, as_html, as_text, text_of, unreadable_as_dicts
from ..metrics.classification import Estimate

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class BoxFigures:
    """The accuracy of one kind of box.

    Attributes:
        mean_iou: of the one box an image gets, with the true one.
        box_accuracy: mean over IoU 0.3, 0.5 and 0.7 of the share of images whose one box overlaps
            the truth that much.
        max_box_acc: share with IoU 0.5 or more at the best threshold, the largest region's box
            (Choe et al. 2020).
        threshold: that threshold; None for boxes that have none.
        max_box_acc_v2: mean over IoU 0.3, 0.5, 0.7 of the share at the best threshold of each, the
            best of all regions' boxes.
    """

    mean_iou: Estimate
    box_accuracy: Estimate
    max_box_acc: float
    threshold: float | None
    max_box_acc_v2: float

    def cells(self) -> list[str]:
        """Return the figures as cells of a table."""
        means = [
            "–" if e.value is None else f"{e.value:.3f} ({e.low:.3f}–{e.high:.3f})"
            for e in (self.mean_iou, self.box_accuracy)
        ]
        at = "" if self.threshold is None else f" at {self.threshold:.2f}"
        return [*means, f"{self.max_box_acc:.3f}{at}", f"{self.max_box_acc_v2:.3f}"]

    def to_dict(self) -> dict:
        """Return the figures, ready for JSON."""
        plain = {
            name: value if value is None else round(value, 6)
            for name, value in vars(self).items()
            if not isinstance(value, Estimate)
        }
        return {
            "mean_iou": self.mean_iou.to_dict(),
            "box_accuracy": self.box_accuracy.to_dict(),
            **plain,
        }


@dataclass
class BoxEvaluation:
    """The accuracy of a model's boxes.

    Attributes:
        annotations: where the true boxes are from.
        model: folder of the model, or None.
        output: folder of the report, or None.
        images: how many were looked at; each counts with its largest box.
        objects: how many boxes they have in all, which detections are measured on.
        kinds: figures by kind of box: "predict" (what `predict` gives), "box head" or "heat map",
            "centre box", "median box".
        median_of: what the median box is the median of.
        ap: COCO's average precision of detections by IoU, "0.3", "0.5" and "0.5:0.95"; empty where
            none could be looked for.
        count_errors: by how many objects a count is wrong in the mean image, by class, and "" for
            those of all classes; empty where detections were not measured or never count.
        unknown: classes of the annotations that the model doesn't know; detections are measured
            without them.
        skipped: (where, reason) of annotations that could not be used.
        unreadable: (file name, reason) of images that could not be read.
    """

    annotations: Path
    model: str | None
    output: Path | None
    images: int
    objects: int
    kinds: dict[str, BoxFigures]
    median_of: str
    ap: dict[str, float]
    count_errors: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"Boxes of {self.images:,} pictures", self)

    @property
    def complete(self) -> bool:
        """Whether every image could be read and every annotation be used."""
        return not (self.unreadable or self.skipped)

    def tables(self) -> list[Table]:
        """Return the accuracy of each kind of box."""
        headings = [
            f"box ({self.images} pictures)",
            "mean IoU",
            "mean share at IoU 0.3, 0.5, 0.7",
            "MaxBoxAcc",
            "MaxBoxAccV2",
        ]
        return [Table(headings, [[name, *kind.cells()] for name, kind in self.kinds.items()])]

    def notes(self) -> list[str]:
        """Return what the median box is, how right detections are, and where the report is."""
        notes = [f"The median box is that of {self.median_of}."]
        if self.ap:
            by_iou = ", ".join(f"{value:.3f} at IoU {iou}" for iou, value in self.ap.items())
            notes.append(f"Detections, {self.objects} objects: AP {by_iou}.")
        if self.count_errors:
            by_class = ", ".join(f"{n} {e:.2f}" for n, e in self.count_errors.items() if n)
            notes.append(
                f"Counts per picture are wrong by {self.count_errors['']:.2f} on average "
                f"({by_class})."
            )
        if self.unknown:
            notes.append(
                "Classes that the model doesn't know, left out of the AP: "
                f"{', '.join(self.unknown)}."
            )
        if self.output is not None:
            notes.append(
                f"Report: {self.output}/report.html (open it in a browser), "
                "boxes.json, boxes.csv, boxes.png"
            )
        return notes

    def problems(self) -> list[Problems]:
        """Return the annotations and images that could not be used."""
        return [
            Problems("Not used", self.skipped, "boxes.json"),
            Problems("Unreadable", self.unreadable, "boxes.json"),
        ]

    def _rows(self) -> Iterator[dict]:
        for name, kind in self.kinds.items():
            mean = kind.mean_iou
            yield {
                "box": name,
                "mean_iou": mean.value,
                "low": mean.low,
                "high": mean.high,
                "box_accuracy": kind.box_accuracy.value,
            }

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with a row a kind of box: its mean IoU with the bounds of its 95 %
        interval, and its box accuracy.
        """
        return frame(self._rows())

    def to_dict(self) -> dict:
        """Return everything, ready for JSON."""
        return {
            "wordsight_version": __version__,
            "annotations": str(self.annotations),
            "model": self.model,
            "output": text_of(self.output),
            "pictures": self.images,
            "objects": self.objects,
            "boxes": {name: figures.to_dict() for name, figures in self.kinds.items()},
            "median_of": self.median_of,
            "average_precision": {name: round(value, 6) for name, value in self.ap.items()},
            "count_errors": {
                name or "all": round(value, 6) for name, value in self.count_errors.items()
            },
            "unknown_classes": self.unknown,
            "skipped": [{"where": where, "reason": reason} for where, reason in self.skipped],
            "unreadable": unreadable_as_dicts(self.unreadable),
        }
