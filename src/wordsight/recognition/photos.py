"""Recognise photos with a known network: its own ImageNet classes, groups of them by a word,
and a closer look where that sees more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import read
from ..backbones.runtime import callers
from ..classification.predictions import FIELDS
from ..core.names import safe_name
from ..core.progress import Progress, or_notebook
from ..core.tables import TableWriter
from ..core.threads import interrupted_with
from ..datasets.files import ImageFile
from ..datasets.work import Photos, find_photos, over_images, refuse_none_readable
from ..errors import InvalidArgument, UnreadableImage
from ..heads.decision import accepts
from ..heatmaps.drawing import COLOURS, caption, rectangle, superimpose, to_jpeg
from ..images.decoding import MAX_LONGEST, Photo
from ..images.taken import time_of, told_time
from .recognitions import GroupFound, Quadrant, Recognition, Recognitions
from .recognizer import THRESHOLD, Answer, Box, Guess, Recognizer, Seen

LEAD = 0.01  # in probability, that a part must have over the whole to be the answer
FOLDERS = ("recognized", "quadrants")
MARKER = ".wordsight-recognition"
COLUMNS = (*FIELDS, "name", "wnid", "name_probability")


def recognize(
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    groups: str | Iterable[str] = (),
    *,
    top: int = 5,
    class_name: str | None = None,
    output: str | os.PathLike | None = "results",
    threshold: float = THRESHOLD,
    quadrants: bool = False,
    draw: bool = True,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    progress: Progress | None = None,
) -> Recognitions:
    """Name what photos show in the words of a pretrained network, and whether they show anything
    of a group.

    A group's probability is the sum over all classes under its word: what is spread over minivan,
    cab and tow truck is a vehicle. Where a group has some share of a photo, too little to be found,
    the photo is looked at more closely, through windows half as high as its shorter side at the
    network's own size; where one of these, or a quadrant, is surer than the whole, that is the
    answer, with the box of where.

    Args:
        photos: folders, files or globs.
        groups: words of WordNet, such as "vehicle".
        top: how many classes are named.
        class_name: name, word or WordNet id whose heat map is drawn, likely or not.
        output: folder for tables and drawn images; None writes nothing.
        threshold: probability from which a group is found, 0–1.
        quadrants: look at each quarter by itself, too.
        draw: False writes tables only.
        backbone: the network: any that timm has with a head of ImageNet's classes.
        progress: called with (done, total, "photos").

    Raises:
        NotFound: if there is nothing to look at.
        InvalidArgument: if a setting is out of range, or not one photo can be read.
        UnknownWord: if the network knows nothing of a group or class.
        OutputError: if the results can't be written.
    """
    recognizer = Recognizer(groups, threshold, backbone)
    if not 1 <= top <= len(recognizer.known):
        raise InvalidArgument(
            f"The network can name 1 to {len(recognizer.known)} classes, got --top {top}."
        )
    asked = None if class_name is None else (class_name, recognizer.known.named(class_name))
    found = find_photos(photos, output, FOLDERS)
    folder = found.output
    result = Recognitions(
        groups=list(recognizer.groups),
        threshold=threshold,
        skipped=found.skipped,
        output=folder,
        drawn_too=folder is not None and draw,
    )
    drawn_into = FOLDERS[: 1 + quadrants] if draw else ()
    sink = _Sink(result, found, drawn_into)
    way = _Way(recognizer, top, asked, quadrants, sink.tables if draw else None)
    threads = callers(recognizer.embedder.engine)
    with interrupted_with(
        "Interrupted. Tables are written at the end: the same command begins anew."
    ):
        over_images(
            way.recognize, found.images, sink, threads=threads, progress=or_notebook(progress)
        )
    refuse_none_readable(result.unreadable, len(result))
    return result


class _Sink:
    """Counts what photos show, and writes it where there is an output.

    Attributes:
        tables: where rows and drawn images go, or None.
    """

    def __init__(self, result: Recognitions, photos: Photos, drawn_into: Sequence[str]) -> None:
        self._result = result
        self.tables: TableWriter | None = None
        if photos.output is not None:
            self.tables = TableWriter(
                photos.output, "recognition", COLUMNS, drawn_into, MARKER, _drawn, photos.sources
            )

    def add(self, one: Recognition) -> None:
        """Count one image, and write its rows to both tables."""
        self._result.add(one)
        if self.tables is not None:
            threshold = self._result.threshold
            self.tables.add(one.to_dict(threshold), [_row(one, threshold)])

    def finish(self) -> None:
        """Put the tables in place."""
        if self.tables is not None:
            self.tables.finish()

    def close(self) -> None:
        """Drop what is unfinished, and let others write here."""
        if self.tables is not None:
            self.tables.close()


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
            data = read(file)[0]
            photo = self.by.decode(data)
        except UnreadableImage as error:
            return Recognition(file.name, error=str(error))
        whole = self.by.see(photo)
        found = Recognition(file.name, self.by.guesses(whole.probabilities, self.top))
        found.taken_at, found.time_source = told_time(file.path, time_of(data))
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
        undecided = self.by.undecided(whole.probabilities)
        closer = self.by.look_closer(photo, undecided) if undecided else {}
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
        found = bool(accepts(best.probability, False, self.by.threshold))
        if best.probabilities is whole.probabilities and found:
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


def _row(one: Recognition, threshold: float | None) -> list:
    """Return the row of the csv: the columns of predictions.csv, and the likeliest class."""
    best = (
        [one.top[0].name, one.top[0].wnid, round(one.top[0].probability, 6)]
        if one.top
        else ["", "", ""]
    )
    return [*one.as_prediction(threshold).to_dict().values(), *best]


def _drawn(row: dict) -> list[str]:
    """Return the paths, relative to the results folder, of what was drawn of a row of
    recognition.jsonl.
    """
    return [row[key] for key in ("picture", "quadrants_picture") if row.get(key)]
