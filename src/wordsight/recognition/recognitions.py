"""What a pretrained network names in photos: one photo's answer, and those of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..classification.predictions import Prediction
from ..core.notebook import frame
from ..core.summary import Table
from ..reports.image_results import ImageResults
from .recognizer import UNDECIDED, Box, Guess

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 30  # of a table with a row a photo


@dataclass(frozen=True)
class GroupFound:
    """How likely it is that an image shows anything under a word.

    Attributes:
        name: the word.
        found: whether the probability reaches the threshold.
        probability: the sum over its classes, 0–1, of the whole image or of the window or
            quadrant that is surer.
        whole_probability: of the whole image.
        box_xyxy: where, in pixels of the upright original; None where it is not found or nothing
            says where.
        classes: the likeliest of its classes there.
    """

    name: str
    found: bool
    probability: float
    whole_probability: float
    box_xyxy: Box | None
    classes: list[Guess]

    def in_short(self) -> str:
        """Return whether it was found and how likely it is, for a cell of a table."""
        closer = (
            ""
            if self.probability == self.whole_probability
            else f" (whole {self.whole_probability:.2f})"
        )
        return f"{'found' if self.found else '–'} {self.probability:.2f}{closer}"

    def in_full(self) -> str:
        """Return whether it was found, how likely, by which classes, and where."""
        found = "found" if self.found else "not found"
        classes = " + ".join(f"{guess.name} {guess.probability:.2f}" for guess in self.classes)
        at = closer = ""
        if self.box_xyxy is not None:
            x_min, y_min, x_max, y_max = self.box_xyxy
            at = f" at x {x_min:.0f}–{x_max:.0f}, y {y_min:.0f}–{y_max:.0f}"
        if self.probability != self.whole_probability:
            closer = f", looking closer; {self.whole_probability:.2f} in the whole photo"
        return f"{self.name}: {found}, {self.probability:.2f} ({classes}){at}{closer}"


@dataclass(frozen=True)
class Quadrant:
    """What a quarter of an image shows, classified by itself.

    Attributes:
        xyxy: where it lies, in pixels of the upright original.
        top: its likeliest classes.
        groups: probability of each group asked for.
    """

    xyxy: Box
    top: list[Guess]
    groups: dict[str, float]


@dataclass
class Recognition:
    """What one image shows.

    Attributes:
        file_name: path relative to the folder given.
        top: the likeliest classes of the whole image, the likeliest first.
        groups: each group asked for, the surest first.
        asked: the class asked for, likely or not, or None.
        quadrants: the four quarters, row by row, where they were looked at.
        drawing: path of the drawn image, relative to the results folder, or None.
        quadrants_drawing: path of the drawn quadrants, likewise.
        error: None, or why the file could not be read.
        taken_at, time_source: as in `Prediction`.
    """

    file_name: str
    top: list[Guess] = field(default_factory=list)
    groups: list[GroupFound] = field(default_factory=list)
    asked: Guess | None = None
    quadrants: list[Quadrant] = field(default_factory=list)
    drawing: str | None = None
    quadrants_drawing: str | None = None
    error: str | None = None
    taken_at: str | None = None
    time_source: str | None = None

    def as_prediction(self, threshold: float | None) -> Prediction:
        """Return what `run` would say: the groups that are found are the labels; where none was
        asked for, the likeliest class, if it is probable enough.

        Args:
            threshold: probability from which a group is found.
        """
        if self.error is not None:
            return Prediction(self.file_name, error=self.error)
        shares = {group.name: round(group.probability, 6) for group in self.groups}
        if not shares:
            shares = {self.top[0].name: round(self.top[0].probability, 6)}
        top = max(shares, key=lambda name: shares[name])
        said = Prediction(
            self.file_name,
            top_label=top,
            probability=shares[top],
            probabilities=shares,
            stranger=bool(self.groups) and shares[top] < UNDECIDED,
            heatmap=self.drawing,
            several=True,
            taken_at=self.taken_at,
            time_source=self.time_source,
        )
        said.labels = said.labels_at(threshold)
        boxes = {group.name: group.box_xyxy for group in self.groups}
        for label in said.labels:
            box = boxes.get(label.label)
            label.box_xyxy = None if box is None else list(box)
        if said.labels:
            said.label, said.box_xyxy = said.labels[0].label, said.labels[0].box_xyxy
        return said

    def to_dict(self, threshold: float | None = None) -> dict:
        """Return the fields, ready for JSON, probabilities rounded to six digits; with a threshold
        those of predictions.jsonl before them.
        """
        record = asdict(self)
        keys = {"drawing": "picture", "quadrants_drawing": "quadrants_picture"}
        own = _rounded({keys.get(name, name): value for name, value in record.items()})
        return own if threshold is None else {**self.as_prediction(threshold).to_dict(), **own}

    def notes(self) -> list[str]:
        """Return the sentences on the class asked for, on groups and on quarters."""
        notes = [f"{self.asked.name}: {self.asked.probability:.4f}"] if self.asked else []
        notes += [group.in_full() for group in self.groups]
        for part in self.quadrants:
            groups = "".join(f"; {name} {share:.2f}" for name, share in part.groups.items())
            x, y = ("left", "right")[part.xyxy[0] > 0], ("upper", "lower")[part.xyxy[1] > 0]
            guesses = ", ".join(f"{guess.name} {guess.probability:.2f}" for guess in part.top[:3])
            notes.append(f"{y} {x}: {guesses}{groups}")
        return notes


@dataclass(kw_only=True, repr=False)
class Recognitions(ImageResults[Recognition]):
    """What many images show; iterates over them.

    Attributes:
        groups: the groups asked for.
        threshold: probability from which a group is found.
        drawn_too: whether images were drawn.
    """

    TABLE = "recognition.csv"

    groups: list[str]
    drawn_too: bool = False

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with one row per image: the likeliest class, and for each group its
        probability and whether it was found.
        """
        columns = [
            "file_name",
            "top",
            "probability",
            *(f"{name}_{end}" for name in self.groups for end in ("probability", "found")),
            "error",
        ]
        return frame((_flat(one) for one in self), columns)

    def found(self) -> dict[str, int]:
        """Return in how many photos each group was found."""
        return {
            name: sum(g.found for one in self for g in one.groups if g.name == name)
            for name in self.groups
        }

    def tables(self) -> list[Table]:
        """Return a row a photo with its likeliest class and its groups; of one photo alone its
        likeliest classes.
        """
        if len(self) == 1:
            guesses = self._kept[0].top
            rows = [[guess.name, guess.wnid, f"{guess.probability:.3f}"] for guess in guesses]
            return [Table(["shows", "WordNet id", "probability"], rows)]
        rows = []
        for one in self:
            if one.error is None:
                groups = {group.name: group.in_short() for group in one.groups}
                likeliest = f"{one.top[0].name} {one.top[0].probability:.2f}"
                rows.append([one.file_name, likeliest, *(groups[name] for name in self.groups)])
        more = "… and {count} more" + (
            "." if self.output is None else ", listed in recognition.csv."
        )
        return [Table(["photo", "likeliest", *self.groups], rows, most=MOST_ROWS, more=more)]

    def notes(self) -> list[str]:
        """Return where each group was found, and where the results are."""
        if len(self) == 1:
            notes = self._kept[0].notes()
        else:
            readable = len(self) - len(self.unreadable)
            notes = [
                f"{name}: found in {count} of {readable} photos (probability ≥ {self.threshold:g})."
                for name, count in self.found().items()
            ]
        if self.output is not None:
            quadrants = ", quadrants/" if any(one.quadrants_drawing for one in self) else ""
            drawn = f", recognized/ (photos with heat maps){quadrants}" if self.drawn_too else ""
            notes.append(f"Results: {self.output}/recognition.csv, recognition.jsonl{drawn}")
        return notes

    def drawn(self) -> Iterator[tuple[str, Path]]:
        """Yield (caption, path) of the photos that were drawn."""
        for one in self:
            if self.output and one.drawing:
                yield f"{one.file_name}: {_names(one)}", self.output / one.drawing

    def add(self, one: Recognition) -> None:
        """Count one image."""
        self._kept.append(one)
        if one.error is not None:
            self.unreadable.append((one.file_name, one.error))

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "threshold": self.threshold,
            "pictures": len(self),
            "found": self.found(),
            "recognitions": [one.to_dict(self.threshold) for one in self],
            **super().to_dict(),
        }


def _flat(one: Recognition) -> dict:
    groups = {
        key: value
        for g in one.groups
        for key, value in ((f"{g.name}_probability", g.probability), (f"{g.name}_found", g.found))
    }
    first = {"top": one.top[0].name, "probability": one.top[0].probability} if one.top else {}
    return {"file_name": one.file_name, **first, **groups, "error": one.error}


def _names(one: Recognition) -> str:
    return one.error or ", ".join(f"{guess.name} {guess.probability:.2f}" for guess in one.top[:3])


def _rounded(value):
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value
