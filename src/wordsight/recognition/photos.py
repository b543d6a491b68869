"""Recognise photos with a known network: its own ImageNet classes, groups of them by a word,
and a closer look where that sees more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..backbones.embedder import read
from ..backbones.registry import DEFAULT_BACKBONE, Backbone
from ..backbones.runtime import callers
from ..core.home import expand
from ..core.notebook import block, frame, table
from ..core.progress import Progress, or_notebook
from ..core.result_folder import TableWriter, safe_name
from ..core.threads import interrupted_with, parallel_map
from ..datasets.files import ImageFile, find_images, refuse_photos_among_results
from ..errors import InvalidArgument, UnreadableImage
from ..heads.decision import accepts
from ..heatmaps.drawing import COLOURS, caption, rectangle, superimpose, to_jpeg
from ..images.decoding import MAX_LONGEST, Photo
from ..reports.notebook_gallery import gallery
from .recognizer import THRESHOLD, Answer, Box, Guess, Recognizer, Seen

if TYPE_CHECKING:
    import pandas


LEAD = 0.01  # in probability, that a part must have over the whole to be the answer
FOLDERS = ("recognized", "quadrants")
MARKER = ".wordsight-recognition"
COLUMNS = (
    *("file_name", "name", "wnid", "probability"),
    *(
        "group",
        "found",
        "group_probability",
        "whole_probability",
        "x_min",
        "y_min",
        "x_max",
        "y_max",
        "error",
    ),
)


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
    """

    file_name: str
    top: list[Guess] = field(default_factory=list)
    groups: list[GroupFound] = field(default_factory=list)
    asked: Guess | None = None
    quadrants: list[Quadrant] = field(default_factory=list)
    drawing: str | None = None
    quadrants_drawing: str | None = None
    error: str | None = None

    def record(self) -> dict:
        """Return the fields, ready for JSON, probabilities rounded to six digits."""
        record = asdict(self)
        keys = {"drawing": "picture", "quadrants_drawing": "quadrants_picture"}
        return _rounded({keys.get(name, name): value for name, value in record.items()})


@dataclass
class Recognitions:
    """What many images show; iterates over them.

    Attributes:
        groups: the groups asked for.
        threshold: probability from which a group is found.
        unreadable: (file name, reason) of each image that could not be read.
        skipped: names of files that are no images.
        output: folder of the results, or None.
        drawn: whether images were drawn.
    """

    groups: list[str]
    threshold: float
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    output: Path | None = None
    drawn: bool = False
    _kept: list[Recognition] = field(default_factory=list)

    def __iter__(self) -> Iterator[Recognition]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

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

    def _repr_html_(self) -> str:
        rows = [
            [
                one.file_name,
                _names(one),
                ", ".join(f"{g.name} {g.probability:.2f}" for g in one.groups if g.found),
            ]
            for one in self
        ]
        drawn = (
            (f"{one.file_name}: {_names(one)}", self.output / one.drawing)
            for one in self
            if self.output and one.drawing
        )
        return block(
            f"{len(self):,} photos", table(["photo", "shows", "found"], rows), gallery(drawn)
        )

    def add(self, one: Recognition) -> None:
        """Count one image."""
        self._kept.append(one)
        if one.error is not None:
            self.unreadable.append((one.file_name, one.error))

    def as_json(self) -> dict:
        """Return everything, ready for JSON."""
        return {
            "threshold": self.threshold,
            "pictures": len(self),
            "found": {
                name: sum(g.found for one in self for g in one.groups if g.name == name)
                for name in self.groups
            },
            "recognitions": [one.record() for one in self],
            "unreadable": [
                {"file_name": name, "error": reason} for name, reason in self.unreadable
            ],
            "skipped": self.skipped,
            "output": None if self.output is None else str(self.output),
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


def recognize(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    top: int = 5,
    groups: str | Iterable[str] = (),
    class_name: str | None = None,
    output: str | os.PathLike | None = None,
    threshold: float = THRESHOLD,
    quadrants: bool = False,
    draw: bool = True,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    progress: Progress | None = None,
) -> Recognitions:
    """Name what photos show with a pretrained network, and whether they show anything of a group.

    A group's probability is the sum over all classes under its word: what is spread over minivan,
    cab and tow truck is a vehicle. With groups each photo is looked at more closely, too, through
    windows half as high as its shorter side at the network's own size; where one of these, or a
    quadrant, is surer than the whole, that is the answer, with the box of where.

    Args:
        photos: folders, files or globs.
        top: how many classes to name.
        groups: words of WordNet, such as "vehicle".
        class_name: name, word or WordNet id whose heat map is drawn, likely or not.
        output: folder for tables and drawn images; None writes nothing.
        threshold: probability from which a group is found, 0–1.
        quadrants: look at each quarter by itself, too.
        draw: False writes tables only.
        backbone: the network: any that timm has with a head of ImageNet's classes.
        progress: called with (done, total, "photos").

    Raises:
        NotFound, InvalidArgument: if there are no photos, or a setting is out of range.
        UnknownWord: if the network doesn't know a group or class.
        OutputError: if the results can't be written.
    """
    progress = or_notebook(progress)
    recognizer = Recognizer(groups, threshold, backbone)
    if not 1 <= top <= len(recognizer.known):
        raise InvalidArgument(
            f"The network can name 1 to {len(recognizer.known)} classes, got --top {top}."
        )
    asked = None if class_name is None else (class_name, recognizer.known.named(class_name))
    sources = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
    folder = None if output is None else expand(output)
    found = find_images(sources, exclude=folder)
    if folder is not None:
        refuse_photos_among_results(found.images, folder, FOLDERS)
    result = Recognitions(
        list(recognizer.groups),
        threshold,
        skipped=found.skipped,
        output=folder,
        drawn=folder is not None and draw,
    )
    tables = (
        None
        if folder is None
        else TableWriter(
            folder,
            "recognition",
            COLUMNS,
            FOLDERS[: 1 + quadrants] if draw else (),
            MARKER,
            _drawn,
            sources,
        )
    )
    way = _Way(recognizer, top, asked, quadrants, tables if draw else None)
    try:
        with interrupted_with(
            "Interrupted. Tables are written at the end: the same command begins anew."
        ):
            for one in parallel_map(
                way.recognize, found.images, callers(recognizer.embedder.engine)
            ):
                result.add(one)
                if tables is not None:
                    tables.add(one.record(), _rows(one))
                if progress:
                    progress(len(result), len(found.images), "photos")
        if tables is not None:
            tables.finish()
    finally:
        if tables is not None:
            tables.close()
    return result


@dataclass(frozen=True)
class _Way:
    """How one photo is recognised and drawn.

    Attributes:
        by: the network and the groups.
        top: how many classes are named.
        asked: a class to show, and its indices, or None.
        quadrants: whether quarters are looked at.
        tables: where drawn images go, or None.
    """

    by: Recognizer
    top: int
    asked: tuple[str, tuple[int, ...]] | None
    quadrants: bool
    tables: TableWriter | None

    def recognize(self, file: ImageFile) -> Recognition:
        """Return what one file shows."""
        try:
            photo = self.by.decode(read(file)[0])
        except UnreadableImage as error:
            return Recognition(file.name, error=str(error))
        whole = self.by.see(photo)
        found = Recognition(file.name, self.by.guesses(whole.probabilities, self.top))
        if self.asked is not None:
            name, indices = self.asked
            likeliest = self.by.guesses(whole.probabilities, 1, indices)[0]
            found.asked = Guess(
                likeliest.wnid, name, float(whole.probabilities[list(indices)].sum())
            )
        quarters = self._quarters(photo) if self.quadrants else []
        for xyxy, seen in quarters:
            shares = {name: self.by.share(seen.probabilities, name) for name in self.by.groups}
            found.quadrants.append(
                Quadrant(xyxy, self.by.guesses(seen.probabilities, self.top), shares)
            )
        closer = self.by.look_closer(photo) if self.by.groups else {}
        answers = {
            name: self._answer(name, whole, closer.get(name), quarters) for name in self.by.groups
        }
        for name, answer in sorted(answers.items(), key=lambda item: -item[1].probability):
            sure = bool(accepts(answer.probability, False, self.by.threshold))
            box = (
                None
                if answer.box is None or not sure
                else tuple(round(side, 1) for side in answer.box)
            )
            likely = self.by.guesses(answer.probabilities, 3, self.by.groups[name])
            found.groups.append(
                GroupFound(
                    name,
                    sure,
                    answer.probability,
                    self.by.share(whole.probabilities, name),
                    box,  # type: ignore[arg-type]
                    likely,
                )
            )
        if self.tables is not None:
            self._draw(found, whole, quarters, self.tables)
        return found

    def _quarters(self, photo: Photo) -> list[tuple[Box, Seen]]:
        """Return where each quarter lies, in pixels of the original, and what it shows by
        itself.
        """
        (height, width), image = photo.size, photo.image
        quarters = []
        for y in (0, 1):
            for x in (0, 1):
                box = (width * x / 2, height * y / 2, width * (x + 1) / 2, height * (y + 1) / 2)
                crop = image.crop(
                    (
                        image.width * x // 2,
                        image.height * y // 2,
                        -(-image.width * (x + 1) // 2),
                        -(-image.height * (y + 1) // 2),
                    )
                )
                part = Photo(crop, (max(1, round(height / 2)), max(1, round(width / 2))))
                quarters.append((box, self.by.see(part)))
        return quarters

    def _answer(
        self, name: str, whole: Seen, window: Answer | None, quarters: list[tuple[Box, Seen]]
    ) -> Answer:
        """Return the surest of the whole image, a window and the quadrants."""
        best = Answer(self.by.share(whole.probabilities, name), whole.probabilities)
        if window is not None and window.probability > best.probability + LEAD:
            best = window
        for (x, y, _, _), seen in quarters:
            share = self.by.share(seen.probabilities, name)
            if share > best.probability + LEAD:
                inner = self.by.locate(seen, name)[1]
                best = Answer(
                    share,
                    seen.probabilities,
                    None
                    if inner is None
                    else (x + inner[0], y + inner[1], x + inner[2], y + inner[3]),
                )
        if best.probabilities is whole.probabilities and best.probability >= self.by.threshold:
            best.box = self.by.locate(whole, name)[1]
        return best

    def _draw(
        self, found: Recognition, whole: Seen, quarters: list[tuple[Box, Seen]], tables: TableWriter
    ) -> None:
        """Draw the heat map of the class asked for, or of the surest group, or of the likeliest
        class, with what was found.
        """
        if self.asked is not None and found.asked is not None:
            indices, text = self.asked[1], f"{found.asked.name} {found.asked.probability:.3f}"
        elif found.groups:
            indices, text = (
                self.by.groups[found.groups[0].name],
                f"{found.groups[0].name} {found.groups[0].probability:.2f}",
            )
        else:
            indices, text = (
                (int(whole.probabilities.argmax()),),
                f"{found.top[0].name} {found.top[0].probability:.2f}",
            )
        name = safe_name(found.file_name)
        image = superimpose(_small(whole.photo.image), self.by.heatmap(whole, indices))
        boxes = [
            group for group in found.groups if group.box_xyxy is not None and self.asked is None
        ]
        for group in reversed(boxes):  # the surest on top
            assert group.box_xyxy is not None
            colour = COLOURS[list(self.by.groups).index(group.name) % len(COLOURS)]
            rectangle(
                image,
                group.box_xyxy,
                whole.photo.size,
                f"{group.name} {group.probability:.2f}",
                colour,
            )
        if not boxes:
            caption(image, text)
        found.drawing = tables.reserve(f"{FOLDERS[0]}/{name}", ".jpg")
        tables.write(found.drawing, to_jpeg(image))
        if quarters:
            found.quadrants_drawing = tables.reserve(f"{FOLDERS[1]}/{name}", ".jpg")
            tables.write(found.quadrants_drawing, to_jpeg(self._sheet(found, quarters)))

    def _sheet(self, found: Recognition, quarters: list[tuple[Box, Seen]]) -> np.ndarray:
        """Return the four quarters beside one another, each with its heat map and what it shows."""
        drawn = []
        for (_, seen), part in zip(quarters, found.quadrants, strict=True):
            indices: tuple[int, ...] = (int(seen.probabilities.argmax()),)
            text = f"{part.top[0].name} {part.top[0].probability:.2f}"
            if self.asked is not None:
                indices = self.asked[1]
            elif part.groups:
                name = max(part.groups, key=lambda group: part.groups[group])
                indices, text = self.by.groups[name], f"{name} {part.groups[name]:.2f}: {text}"
            drawn.append(
                caption(superimpose(_small(seen.photo.image), self.by.heatmap(seen, indices)), text)
            )
        height, width = max(p.shape[0] for p in drawn), max(p.shape[1] for p in drawn)
        page = np.full((2 * height + 6, 2 * width + 6, 3), 255, dtype=np.uint8)
        for number, image in enumerate(drawn):
            y, x = number // 2 * (height + 6), number % 2 * (width + 6)
            page[y : y + image.shape[0], x : x + image.shape[1]] = image
        return page


def _small(image: Image.Image) -> Image.Image:
    """Return an image no larger than is drawn."""
    if max(image.size) <= MAX_LONGEST:
        return image
    image = image.copy()
    image.thumbnail((MAX_LONGEST, MAX_LONGEST))
    return image


def _rows(one: Recognition) -> list[list]:
    """Return the rows of the csv: one a group, or one."""
    best = (
        [one.top[0].name, one.top[0].wnid, round(one.top[0].probability, 6)]
        if one.top
        else ["", "", ""]
    )
    rows: list[list] = []
    for group in one.groups:
        sides = [""] * 4 if group.box_xyxy is None else list(group.box_xyxy)
        found = "true" if group.found else "false"
        rows.append(
            [
                one.file_name,
                *best,
                group.name,
                found,
                round(group.probability, 6),
                round(group.whole_probability, 6),
                *sides,
                "",
            ]
        )
    return rows or [[one.file_name, *best, *[""] * 8, one.error or ""]]


def _rounded(value):
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _drawn(row: dict) -> list[str]:
    """Return the paths, relative to the results folder, of what was drawn of a row of
    recognition.jsonl.
    """
    return [row[key] for key in ("picture", "quadrants_picture") if row.get(key)]
