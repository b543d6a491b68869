"""The outcome of predicting many images: what came of each, in memory or read back from disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.notebook import frame
from ..core.regular import open_text
from ..core.summary import Table, text_of
from ..errors import NotFound
from ..reports.image_results import ImageResults
from .events import Event
from .predictions import (
    EMPTY,
    FIELDS,
    LABEL_FIELDS,
    NONE_OF_THESE,
    Counts,
    Crop,
    Label,
    Prediction,
)

if TYPE_CHECKING:
    import pandas


@dataclass(kw_only=True, repr=False)
class Results(ImageResults[Prediction]):
    """The outcome of predicting many images.

    Attributes:
        class_names: in the model's order.
        threshold: probability from which a label is given; None where none is.
        counts: how many fared how.
        model: folder of the model, or None where it was not saved.
        output: folder of the results, or None.
        copied_bytes: what the originals take there: 0 where they are linked, None where none are
            there.
        events: what the photos of each event show together, where they were grouped.
        note: what stands behind the threshold where it keeps a promise, or why none can; else None.
    """

    TABLE = "the error column of predictions.csv"

    class_names: list[str]
    counts: Counts
    model: Path | None = None
    copied_bytes: int | None = None
    note: str | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def predictions(self) -> list[Prediction]:
        """Every prediction, in order of file name; read back from disk where they were written
        there.
        """
        return list(self)

    def __iter__(self) -> Iterator[Prediction]:
        if self.output is None:
            yield from self._kept
            return
        path = self.output / "predictions.jsonl"
        if not path.is_file():
            raise NotFound(
                f"The results in '{self.output}' are no longer there. Predict again, or without "
                "an output, which keeps them in memory."
            )
        with open_text(path) as lines:
            for line in lines:
                row = json.loads(line)
                status = row.pop("status", None)  # which wordsight 0.1 did not write
                labels = [Label(**label) for label in row.pop("labels", None) or _only(row)]
                crops = row.pop("crops", None)
                yield Prediction(
                    **row,
                    stranger=status == NONE_OF_THESE,
                    labels=labels,
                    crops=None if crops is None else [Crop(**crop) for crop in crops],
                )

    def __len__(self) -> int:
        return self.counts.total

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns of predictions.csv, a row an image."""
        return frame((prediction.to_dict() for prediction in self), FIELDS)

    def tables(self) -> list[Table]:
        """Return how many photos got which label."""
        counts = self.counts
        heading = (
            "label" if self.threshold is None else f"label (probability ≥ {self.threshold:.4g})"
        )
        rows = {name: counts.accepted[name] for name in self.class_names}
        rows |= {
            "rejected: not sure enough": counts.unsure,
            "rejected: resembles none of them": counts.strangers,
            **({EMPTY: counts.empty} if counts.empty else {}),
            "unreadable": len(counts.unreadable),
            "total": counts.total,
        }
        if sum(counts.accepted.values()) > counts.labelled:
            rows["photos with a label (some have several)"] = counts.labelled
        return [Table([heading, "photos"], [[name, str(count)] for name, count in rows.items()])]

    def notes(self) -> list[str]:
        """Return what stands behind the threshold, and where the results are."""
        notes = [self.note] if self.note else []
        advice = self.counts.advice(self.threshold)
        if advice is not None:
            notes.append(advice)
        if self.events:
            notes.append(self._told_events())
        if self.skipped:
            listed = " (listed in skipped.csv)." if self.output else "."
            count = len(self.skipped)
            told = (
                "1 other file is no picture"
                if count == 1
                else f"{count} other files are no pictures"
            )
            notes.append(f"{told}{listed}")
        if self.counts.remarks:
            listed = " (all are listed in remarks.csv)" if self.output else ""
            name, remark = self.counts.remarks[0]
            count = len(self.counts.remarks)
            notes.append(
                f"{name}: {remark}."
                if count == 1
                else f"{count} photos show less than their files hold{listed}, such as {name}: "
                f"{remark}."
            )
        if self.output is not None:
            drawn = self.copied_bytes is not None
            page = "report.html (open it in a browser), " if drawn else ""
            notes.append(
                f"Results: {self.output}/{page}predictions.csv, predictions.jsonl{self._cost()}"
            )
        return notes

    def _told_events(self) -> str:
        """Return how many events there are, and how many of them got a label."""
        labelled = sum(event.label is not None for event in self.events)
        several = sum(event.photos > 1 for event in self.events)
        alone = sum(event.start is None for event in self.events)
        listed = " (events.csv)" if self.output else ""
        read = self.counts.total - len(self.counts.unreadable)
        said = (
            f"Events: {len(self.events)}{listed} of {read} photos; several photos: {several}; "
            f"labelled: {labelled}."
        )
        if alone:
            said += f" Photos without a time of the camera, each an event by itself: {alone}."
        if self.note is not None:
            said += " A promised precision is about single photos, not about events."
        return said

    def _cost(self) -> str:
        """Return what the drawings are, and what the originals among them take."""
        if self.copied_bytes is None:
            return ""
        cost = (
            f"copies of your photos, {self.copied_bytes / 2**20:.0f} MiB"
            if self.copied_bytes
            else "links to your photos, no space used"
        )
        return f", images/ ({cost}), heatmaps/, masks/"

    def _files(self) -> list[str]:
        """Return the tables and the report in the results folder."""
        tables = ("predictions", "crops", "events", "skipped", "remarks", "parts", "repeats")
        names = ["report.html", *(f"{name}.csv" for name in tables), "predictions.jsonl"]
        names.append("repeats.png")
        return [n for n in names if self.output is not None and (self.output / n).is_file()]

    def drawn(self) -> Iterator[tuple[str, Path]]:
        """Yield (caption, path) of the heat maps."""
        folder = self.output
        if folder is None or self.copied_bytes is None:
            return
        if (folder / "predictions.jsonl").is_file():
            for one in self:
                if one.heatmap:
                    yield (
                        f"{one.file_name}: {one.label} {one.probability:.3f}",
                        folder / one.heatmap,
                    )

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        counts = self.counts
        common = super().to_dict()
        return {
            "classes": self.class_names,
            "threshold": self.threshold,
            "note": self.note,
            "events": [asdict(event) for event in self.events],
            "total": counts.total,
            "labelled": counts.labelled,
            "accepted": {name: counts.accepted[name] for name in self.class_names},
            "rejected": counts.rejected,
            "rejected_unsure": counts.unsure,
            "rejected_strangers": counts.strangers,
            **({"empty": counts.empty} if counts.empty else {}),
            "unreadable": common["unreadable"],
            "skipped": common["skipped"],
            "remarks": [
                {"file_name": name, "remark": remark} for name, remark in self.counts.remarks
            ],
            "copied_bytes": self.copied_bytes,
            "model": text_of(self.model),
            "output": common["output"],
            "files": self._files(),
        }


def _only(row: dict) -> list[dict]:
    """Return the label of a row that wordsight 0.1 wrote, as a list."""
    return [{name: row[name] for name in LABEL_FIELDS}] if row["label"] is not None else []
