"""What a prediction is, and the folder of results: tables, linked originals, heat maps and
masks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..core.names import portable, safe_name, same_file_key
from ..core.notebook import frame
from ..core.regular import open_text
from ..core.summary import Table
from ..core.tables import TableWriter, shortened
from ..datasets.files import RESULT_FOLDERS, ImageFile
from ..errors import NotFound
from ..heatmaps.drawing import segmentation, superimpose, to_jpeg
from ..heatmaps.one_pass import MASK_THRESHOLD
from ..reports.image_results import ImageResults
from ..reports.page import pages_there

if TYPE_CHECKING:
    import pandas


FIELDS = (
    "file_name",
    "status",
    "label",
    "top_label",
    "probability",
    "probabilities",
    "box_xyxy",
    "heatmap",
    "mask",
    "error",
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
NONE_OF_THESE = "none_of_these"  # status of an image that resembles no class
MARKER = ".wordsight-results"  # of 0.1.0
SKIPPED, PARTS = "skipped.csv", "parts.csv"


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
class Prediction:
    """What one image shows.

    Attributes:
        file_name: path relative to the folder given.
        label: class name, or None where the image is rejected or unreadable.
        top_label: the best guess, whether accepted or not; None where unreadable.
        probability: calibrated probability of `top_label`, 0–1; None for a stranger to what a model
            learned from, of which it would mean nothing.
        probabilities: the same for every class.
        box_xyxy: [x_min, y_min, x_max, y_max] in pixels of the upright original, or None.
        heatmap: path of the superimposed heat map, relative to the results folder, or None.
        mask: path of the segmentation mask, likewise.
        error: None, or why the file could not be read.
        stranger: whether it was rejected because it lies outside what the model learned from.
        map: (h, w) float32 heat map, 0–1, or None; not part of the tables.
        parts: what parts of the image show, where they were looked at; in parts.csv.
        part: `xyxy` of the part whose answer this is, or None where it is the whole image's.
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
    stranger: bool = False
    map: np.ndarray | None = None
    parts: list[Part] = field(default_factory=list)
    part: tuple[float, float, float, float] | None = None

    @property
    def status(self) -> str:
        """What became of the image: "labelled", "unsure", "none_of_these" or "unreadable"."""
        if self.error is not None:
            return "unreadable"
        if self.label is not None:
            return "labelled"
        return NONE_OF_THESE if self.stranger else "unsure"

    def to_dict(self) -> dict:
        """Return the fields of `predictions.jsonl`, in order. A best guess stands there only with
        its probability.
        """
        fields = {name: getattr(self, name) for name in FIELDS}
        return fields if self.probability is not None else {**fields, "top_label": None}


LOWER = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # thresholds that may be advised
MORE = 1.05  # times as many labels as there are, for a lower threshold to be worth a line
WRONG = 0.1  # share of them that may be wrong


@dataclass
class Counts:
    """How many images fared how.

    Attributes:
        accepted: by class name.
        unsure: rejected because the probability is below the threshold.
        strangers: rejected because they resemble nothing the model learned from.
        unreadable: (file name, reason) of each.
        skipped: names of files that are no images.
        lower: threshold -> images that it would label, and how many of these would be wrong, as
            their probabilities say.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    unsure: int = 0
    strangers: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    lower: dict[float, tuple[int, float]] = field(
        default_factory=lambda: dict.fromkeys(LOWER, (0, 0.0))
    )

    def add(self, prediction: Prediction) -> None:
        """Count one prediction."""
        if prediction.probability is not None and not prediction.stranger:
            for threshold, (count, wrong) in self.lower.items():
                if prediction.probability >= threshold:
                    self.lower[threshold] = (count + 1, wrong + 1 - prediction.probability)
        if prediction.error is not None:
            self.unreadable.append((prediction.file_name, prediction.error))
        elif prediction.label is not None:
            self.accepted[prediction.label] += 1
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
        labelled = sum(self.accepted.values())
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
        return sum(self.accepted.values()) + self.rejected + len(self.unreadable)


@dataclass(kw_only=True)
class Results(ImageResults[Prediction]):
    """The outcome of predicting many images.

    Attributes:
        class_names: in the model's order.
        threshold: probability from which a label is given; None where none is.
        counts: how many fared how.
        output: folder of the results, or None.
        copied_bytes: what the originals take there: 0 where they are linked, None where none are
            there.
        note: what stands behind the threshold where it keeps a promise, or why none can; else None.
    """

    TABLE = "the error column of predictions.csv"

    class_names: list[str]
    counts: Counts
    copied_bytes: int | None = None
    note: str | None = None

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
                yield Prediction(**row, stranger=status == NONE_OF_THESE)

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
            "unreadable": len(counts.unreadable),
            "total": counts.total,
        }
        return [Table([heading, "photos"], [[name, str(count)] for name, count in rows.items()])]

    def notes(self) -> list[str]:
        """Return what stands behind the threshold, and where the results are."""
        notes = [self.note] if self.note else []
        advice = self.counts.advice(self.threshold)
        if advice is not None:
            notes.append(advice)
        if self.skipped:
            listed = " (listed in skipped.csv)." if self.output else "."
            notes.append(f"{len(self.skipped)} other files are no pictures{listed}")
        if self.output is not None:
            drawn = self.copied_bytes is not None
            page = "report.html (open it in a browser), " if drawn else ""
            notes.append(
                f"Results: {self.output}/{page}predictions.csv, predictions.jsonl{self._cost()}"
            )
        return notes

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
            "total": counts.total,
            "accepted": {name: counts.accepted[name] for name in self.class_names},
            "rejected": counts.rejected,
            "rejected_unsure": counts.unsure,
            "rejected_strangers": counts.strangers,
            "unreadable": common["unreadable"],
            "skipped": common["skipped"],
            "copied_bytes": self.copied_bytes,
            "output": common["output"],
        }


class ResultsWriter:
    """Writes a results folder. Tables appear under their names only when the run is complete.

    Args:
        output: the folder; made if need be. What an earlier run wrote there is replaced, other
            files are left alone.
        class_names: names that become folders.
        images: whether to write originals, heat maps and masks, or tables only.
        parts: whether parts of images are looked at, which get a table of their own.
        photos: folders, files and globs that are looked through.
        skipped: names of files that are no images, for skipped.csv.
    """

    def __init__(
        self,
        output: Path,
        class_names: list[str],
        draw: bool = True,
        parts: bool = False,
        photos: Iterable[str | os.PathLike] = (),
        skipped: Sequence[str] = (),
    ) -> None:
        self.output, self.images = output, draw
        self._folders = _folder_names(class_names)
        self._copied: list[int] = []
        self._skipped = skipped
        self._tables = TableWriter(
            output,
            "predictions",
            FIELDS,
            RESULT_FOLDERS if draw else (),
            MARKER,
            lambda row: _drawn(row, output),
            photos,
            others=[
                *[SKIPPED] * bool(skipped),
                *[PARTS] * parts,
                *(pages_there(output) if draw else ()),
            ],
        )
        self._parts: list[list] | None = [list(PART_FIELDS)] if parts else None

    def draw(
        self,
        prediction: Prediction,
        file: ImageFile,
        image: Image.Image,
        size: tuple[int, int],
        mask_threshold: float = MASK_THRESHOLD,
    ) -> None:
        """Write one accepted image's original, heat map and mask, and note their paths. Safe from
        many threads.

        Args:
            prediction: with `label` and `map`; `heatmap` and `mask` are set.
            file: the original.
            image: upright RGB, possibly reduced.
            size: (height, width) of the upright original.
            mask_threshold: of the map's peak, from which the mask is cut.
        """
        if not self.images or prediction.label is None or prediction.map is None:
            return
        folder = self._folders[prediction.label]
        name = safe_name(prediction.file_name)
        original = self._tables.reserve(f"images/{folder}/{name}")
        heatmap = self._tables.reserve(f"heatmaps/{folder}/{name}", ".jpg")
        mask = self._tables.reserve(f"masks/{folder}/{name}", ".png")
        self._tables.write(
            heatmap, to_jpeg(superimpose(image, prediction.map, prediction.box_xyxy, size))
        )
        self._tables.write(mask, segmentation(prediction.map, size, mask_threshold))
        self._copied.append(self._tables.link(original, file.path))
        prediction.heatmap, prediction.mask = heatmap, mask

    @property
    def copied_bytes(self) -> int | None:
        """What the originals take: 0 where they are linked, None where none are written."""
        return sum(self._copied) if self.images else None

    def add(self, prediction: Prediction) -> None:
        """Write one row to both tables."""
        record = prediction.to_dict()
        self._tables.add(record, [list(record.values())])
        if self._parts is not None:
            for number, part in enumerate(prediction.parts, start=1):
                answers = "true" if prediction.part == part.xyxy else "false"
                self._parts.append(
                    [
                        prediction.file_name,
                        number,
                        *part.xyxy,
                        part.label or "",
                        part.top_label,
                        round(part.probability, 6),
                        answers,
                    ]
                )

    def finish(self) -> None:
        """Put the tables in place and remove what an earlier run wrote and this one did not."""
        if self._skipped:
            rows = [["file_name"], *[[name] for name in self._skipped]]
            self._tables.write_table(SKIPPED, rows)
        if self._parts is not None:
            self._tables.write_table(PARTS, self._parts)
        self._tables.finish()

    def write_report(self, pages: Iterable[tuple[str, bytes]]) -> None:
        """Write the report's pages, given by name and content."""
        self._tables.write_pages(pages)

    def close(self) -> None:
        """Drop what is unfinished, and let others write here; an earlier run's tables stay as
        they were.
        """
        self._tables.close()


def _folder_names(class_names: list[str]) -> dict[str, str]:
    """Return a folder name for each class that stays inside the results folder and is unique."""
    folders: dict[str, str] = {}
    for name in class_names:
        folder = (
            "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name).strip(". ") or "_"
        )
        folder = (
            folder
            if len(os.fsencode(folder)) <= 200
            else hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        )
        folder = portable(folder)
        while same_file_key(folder) in map(same_file_key, folders.values()):
            folder += "_"
        folders[name] = folder
    return folders


def _drawn(row: dict, output: Path) -> list[str]:
    """Return the paths, relative to the results folder, of what was drawn of a row of
    predictions.jsonl.
    """
    if not (row.get("heatmap") and row.get("mask")):
        return []
    folder = row["heatmap"].split("/")[1]
    original = shortened(output, f"images/{folder}/{safe_name(row['file_name'])}")
    return [row["heatmap"], row["mask"], original]
