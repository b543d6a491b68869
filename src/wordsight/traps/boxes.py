"""A detector's boxes, and which photo each belongs to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.home import expand
from ..core.names import same_file_key, spellings
from ..datasets.files import ImageFile
from ..datasets.formats.base import numbers
from ..datasets.formats.megadetector import read_detector
from ..errors import InvalidArgument, NotFound

ANIMAL = "animal"  # the category whose boxes are looked into
SLACK = 0.01  # of a side, by which a box may stick out, as rounding makes it


@dataclass(frozen=True)
class Box:
    """One box.

    Attributes:
        detection: its place in the detector's list for its image, from 0.
        category: what the detector calls it.
        confidence: the detector's, 0–1.
        bbox: (x_min, y_min, width, height) in fractions of the upright image's sides.
    """

    detection: int
    category: str
    confidence: float
    bbox: tuple[float, float, float, float]

    @property
    def is_animal(self) -> bool:
        """Whether it is an animal's."""
        return self.category.casefold() == ANIMAL

    def pixels(self, size: tuple[int, int]) -> list[float]:
        """Return its `xyxy` sides in pixels of an image of (height, width) `size`."""
        (x, y, width, height), (rows, columns) = self.bbox, size
        sides = (x * columns, y * rows, (x + width) * columns, (y + height) * rows)
        return [round(side, 1) for side in sides]


@dataclass(frozen=True)
class Detected:
    """What the detector said of one image.

    Attributes:
        file: what its file calls the image.
        boxes: those at or above the confidence asked for, in order.
        taken: when the image was taken, as the file says, or "".
    """

    file: str
    boxes: tuple[Box, ...]
    taken: str = ""


@dataclass
class DetectorBoxes:
    """The boxes of a file, for the photos of one run.

    Attributes:
        path: the file.
        confidence: from which a box counts.
        categories: class names other than "animal".
        images: name of a photo -> what the detector said of it.
        problems: name of a photo -> why nothing is known of it.
        others: how many images the file lists that are not among the photos.
    """

    path: Path
    confidence: float
    categories: list[str]
    images: dict[str, Detected] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    others: int = 0


def read_boxes(
    path: str | os.PathLike,
    photos: Sequence[ImageFile],
    sources: Iterable[str | os.PathLike],
    confidence: float | None = None,
) -> DetectorBoxes:
    """Read the boxes that MegaDetector found in photos.

    Each image that the file lists is the photo at the end of its path: below a folder given, one
    that this lies in, or the file's own; of a path of another machine the longest end that is
    there counts. Of two that lead to one photo, neither counts.

    Args:
        path: MegaDetector's JSON.
        photos: the photos of the run.
        sources: folders, files and globs that these were found in.
        confidence: from which a box counts, 0–1; None: what the file calls typical, or 0.2.

    Raises:
        NotFound: if there is no such file.
        InvalidArgument: if it is none of MegaDetector's, the confidence is out of range, or it
            lists none of the photos.
    """
    file = expand(path)
    if not file.is_file():
        raise NotFound(f"No such file: '{path}'. --boxes takes MegaDetector's JSON.")
    if confidence is not None and not 0 <= confidence <= 1:
        raise InvalidArgument(
            f"The confidence from which boxes count must lie between 0 and 1; got {confidence:g}."
        )
    told = read_detector(file)
    names = told.categories
    if not any(name.casefold() == ANIMAL for name in names.values()):
        raise InvalidArgument(
            f"'{file}' has no category 'animal', only {', '.join(names.values()) or 'none'}. Only "
            "boxes of animals are looked into."
        )
    found = DetectorBoxes(
        file,
        told.typical if confidence is None else confidence,
        sorted({name for name in names.values() if name.casefold() != ANIMAL}),
    )
    entries = _matched(told.images, photos, _bases(sources, file), found)
    if not entries:
        shown = next((str(one["file"]) for one in told.images if _is_entry(one)), "no image")
        raise InvalidArgument(
            f"'{file}' lists none of the {len(photos)} photos, but {shown}. Give the folder that "
            "MegaDetector looked through."
        )
    for name, entry in entries.items():
        try:
            found.images[name] = _detected(entry, names, found.confidence)
        except ValueError as error:
            found.problems[name] = f"{error} (in {file.name})"
    for photo in photos:
        if photo.name not in entries and photo.name not in found.problems:
            found.problems[photo.name] = f"{file.name} doesn't list it"
    return found


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("file"), str)


def _bases(sources: Iterable[str | os.PathLike], file: Path) -> list[str]:
    """Return the folders below which images may lie, the likeliest first."""
    folders: list[Path] = []
    for source in sources:
        path = Path(os.path.abspath(expand(source)))
        while any(sign in path.as_posix() for sign in "*?[") and not path.exists():
            path = path.parent
        folders += [path, *path.parents]
    folders.append(Path(os.path.abspath(file)).parent)
    ordered = sorted(dict.fromkeys(folders), key=lambda one: -len(one.parts))
    return [same_file_key(folder.as_posix().rstrip("/")) for folder in ordered]


def _matched(
    images: list[Any], photos: Sequence[ImageFile], bases: list[str], found: DetectorBoxes
) -> dict[str, dict]:
    """Return what the file says of each photo, by name; what fits several is noted as a problem."""
    there = {same_file_key(Path(os.path.abspath(one.path)).as_posix()): one.name for one in photos}
    entries: dict[str, dict] = {}
    for entry in images:
        name = _photo_of(entry, there, bases) if _is_entry(entry) else None
        if name is None:
            found.others += 1
        elif name in entries:
            found.problems[name] = (
                f"{found.path.name} lists it twice: {entries[name]['file']!r} and {entry['file']!r}"
            )
        else:
            entries[name] = entry
    return {name: entry for name, entry in entries.items() if name not in found.problems}


def _photo_of(entry: dict, there: Mapping[str, str], bases: list[str]) -> str | None:
    """Return the name of the photo that an image of the file is, or None."""
    for way in spellings(entry["file"]):
        key = same_file_key(way.removeprefix("./"))
        if key in there:
            return there[key]
        for base in bases:
            if f"{base}/{key}" in there:
                return there[f"{base}/{key}"]
    return None


def _detected(entry: dict, names: Mapping[str, str], confidence: float) -> Detected:
    """Return what the file says of an image.

    Raises:
        ValueError: if the detector failed on it, or a box is not written as it should be.
    """
    if entry.get("failure"):
        raise ValueError(f"MegaDetector could not read it: {entry['failure']}")
    boxes, detections = [], entry.get("detections") or []
    if not isinstance(detections, list):
        raise ValueError("its detections are no list")
    for place, one in enumerate(detections):
        box = _box(one, place, names)
        if box is None:
            raise ValueError(f"detection {place + 1} is not written as it should be")
        if box.confidence >= confidence:
            boxes.append(box)
    return Detected(entry["file"], tuple(boxes), str(entry.get("datetime") or ""))


def _box(one: Any, place: int, names: Mapping[str, str]) -> Box | None:
    """Return a detection as a box within the image, or None where it is no detection."""
    try:
        category, sides = names[str(one["category"])], numbers(one["conf"], *one["bbox"])
    except (KeyError, TypeError):
        return None
    if sides is None or len(sides) != 5:
        return None
    confidence, x, y, width, height = sides
    right, bottom = x + width, y + height
    if not (
        -SLACK <= x < right <= 1 + SLACK
        and -SLACK <= y < bottom <= 1 + SLACK
        and -1 <= confidence <= 1  # below 0: set aside by MegaDetector's own tools
    ):
        return None
    x, y, right, bottom = (min(1.0, max(0.0, side)) for side in (x, y, right, bottom))
    if right <= x or bottom <= y:
        return None
    return Box(place, category, confidence, (x, y, right - x, bottom - y))
