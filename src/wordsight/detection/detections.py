"""What was found in photos: one detection, those of one photo, and those of many."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..core.notebook import frame
from ..core.summary import Table
from ..errors import InvalidArgument
from ..reports.image_results import ImageResults

if TYPE_CHECKING:
    import pandas

COLUMNS = ("file_name", "label", "probability", "x_min", "y_min", "x_max", "y_max", "error")


@dataclass(frozen=True)
class Detection:
    """One thing found.

    Attributes:
        xyxy: (x_min, y_min, x_max, y_max) in pixels of the upright image.
        label: class name.
        probability: calibrated, 0–1.
    """

    xyxy: tuple[float, float, float, float]
    label: str
    probability: float

    def to_dict(self) -> dict:
        """Return the fields, ready for JSON."""
        return {
            "label": self.label,
            "probability": round(self.probability, 6),
            "xyxy": [round(side, 1) for side in self.xyxy],
        }


@dataclass
class ImageDetections:
    """What was found in one image.

    Attributes:
        file_name: path relative to the folder given.
        size: (height, width) in pixels of the upright image, or None where it is unreadable.
        detections: the surest first.
        windows: how many windows were looked at.
        drawing: path of the image with rectangles, relative to the results folder, or None.
        heatmap: path of the superimposed score map, likewise.
        error: None, or why the file could not be read.
        map: (h, w) float32 score map, 0–1, or None; not part of the tables.
        image: the upright image, while it is drawn on.
    """

    file_name: str
    size: tuple[int, int] | None = None
    detections: list[Detection] = field(default_factory=list)
    windows: int = 0
    drawing: str | None = None
    heatmap: str | None = None
    error: str | None = None
    map: np.ndarray | None = field(default=None, repr=False)
    image: Image.Image | None = None

    @property
    def counts(self) -> Counter[str]:
        """How many of each class were found."""
        return Counter(detection.label for detection in self.detections)

    def to_supervision(self) -> Any:
        """Return the boxes as `supervision.Detections`, with class names in
        `data["class_name"]`.

        Raises:
            InvalidArgument: if the package supervision is not installed.
        """
        try:
            from supervision import Detections as Boxes
        except ImportError:
            raise InvalidArgument(
                "This needs the package supervision: pip install supervision."
            ) from None
        names = sorted({detection.label for detection in self.detections})
        return Boxes(
            xyxy=np.array([d.xyxy for d in self.detections], dtype=np.float32).reshape(-1, 4),
            confidence=np.array([d.probability for d in self.detections], dtype=np.float32),
            class_id=np.array([names.index(d.label) for d in self.detections], dtype=int),
            data={"class_name": np.array([d.label for d in self.detections])},
        )

    def to_dict(self) -> dict:
        """Return the fields of `detections.jsonl`, in order."""
        height, width = self.size or (None, None)
        return {
            "file_name": self.file_name,
            "width": width,
            "height": height,
            "detections": [detection.to_dict() for detection in self.detections],
            "counts": dict(self.counts),
            "windows": self.windows,
            "picture": self.drawing,
            "heatmap": self.heatmap,
            "error": self.error,
        }


@dataclass(kw_only=True, repr=False)
class Detections(ImageResults[ImageDetections]):
    """What was found in many images; iterates over them.

    Attributes:
        class_names: in the model's order.
        threshold: probability from which a window counts; None where none does.
        counts: detections by class name.
        with_any: in how many images something was found.
        exact: whether every window had its own crop.
        catch_all: class that means "anything else" and is never a detection, or None.
        drawn_too: whether images were drawn.
    """

    TABLE = "detections.csv"

    class_names: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    with_any: int = 0
    exact: bool = False
    catch_all: str | None = None
    drawn_too: bool = False

    @property
    def images(self) -> int:
        """How many images there were."""
        return len(self)

    @property
    def found_names(self) -> list[str]:
        """The classes that can be found: all but the catch-all."""
        return [name for name in self.class_names if name != self.catch_all]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns of detections.csv: a row a detection, and one for
        each image that could not be read.
        """
        found = (
            (one.file_name, d.label, d.probability, *d.xyxy, None)
            for one in self
            for d in one.detections
        )
        lost = ((one.file_name, *[None] * 6, one.error) for one in self if one.error is not None)
        return frame(
            (dict(zip(COLUMNS, row, strict=True)) for row in itertools.chain(found, lost)), COLUMNS
        )

    def title(self) -> str:
        """Return how many photos there are, and in how many something was found."""
        return f"{len(self):,} photos, something found in {self.with_any:,}"

    def tables(self) -> list[Table]:
        """Return how many of each class were found."""
        given = "" if self.threshold is None else f" (probability ≥ {self.threshold:.4g})"
        rows = [[name, str(self.counts[name])] for name in self.found_names]
        return [Table(["class", f"detections{given}"], rows)]

    def notes(self) -> list[str]:
        """Return in how many photos something was found, and where the results are."""
        notes = [f"Photos: {len(self)}, something found in {self.with_any}."]
        if self.threshold is None:
            notes.append("The model's promise leaves it no threshold; give one with -t.")
        if self.output is not None:
            drawn = ", detections/ (photos with rectangles), scores/ (score maps)"
            notes.append(
                f"Results: {self.output}/detections.csv, counts.csv, detections.jsonl"
                f"{drawn if self.drawn_too else ''}"
            )
        return notes

    def drawn(self) -> Iterator[tuple[str, Path]]:
        """Yield (caption, path) of the photos with rectangles."""
        for one in self:
            if self.output and one.drawing:
                yield f"{one.file_name}: {len(one.detections)}", self.output / one.drawing

    def add(self, found: ImageDetections) -> None:
        """Count one image."""
        self._kept.append(found)
        self.with_any += bool(found.detections)
        self.counts.update(detection.label for detection in found.detections)
        if found.error is not None:
            self.unreadable.append((found.file_name, found.error))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return {
            "classes": self.class_names,
            "threshold": self.threshold,
            "pictures": len(self),
            "pictures_with_detections": self.with_any,
            "detections": {name: self.counts[name] for name in self.found_names},
            "exact": self.exact,
            **super().to_dict(),
        }
