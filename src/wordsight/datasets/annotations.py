"""Annotated boxes: read in any format, checked against the images, and turned upright with
them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.home import expand
from ..core.threads import parallel_map
from ..errors import InvalidArgument, UnreadableImage
from ..images.decoding import USUAL_SUFFIXES, header
from .files import ImageFile, LabelledSet, read_labelled, with_classes
from .formats import RawBox, choose_format

SLACK = 0.01  # of a side: boxes may stick out by rounding, and are cut off there
MIN_SIDE = 1.0  # pixels


@dataclass(frozen=True)
class Box:
    """One object.

    Attributes:
        label: class name.
        xyxy: (x_min, y_min, x_max, y_max) in pixels of the upright image.
    """

    label: str
    xyxy: tuple[float, float, float, float]

    @property
    def area(self) -> float:
        """Area in pixels."""
        return (self.xyxy[2] - self.xyxy[0]) * (self.xyxy[3] - self.xyxy[1])


@dataclass
class Annotated:
    """One image and the objects on it.

    Attributes:
        file: the image; its label is that of the largest object.
        size: (height, width) of the upright image.
        boxes: the objects, the largest first.
    """

    file: ImageFile
    size: tuple[int, int]
    boxes: list[Box]


@dataclass
class BoxSet:
    """Annotated images, and what of the annotations could not be used.

    Attributes:
        source: the annotations.
        format: what they are written in.
        images: those with at least one good box, by name.
        skipped: (where, reason) of each box that was not taken.
    """

    source: Path
    format: str
    images: list[Annotated]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """Names of all classes, sorted."""
        return sorted({box.label for image in self.images for box in image.boxes})


def read_boxes(source: str | os.PathLike, images: str | os.PathLike | None = None) -> BoxSet:
    """Read annotated boxes.

    A box is skipped, and listed, where its numbers are none, its corners are swapped or outside the
    image, it has no area, the image is missing, unreadable or of another size than the
    annotation says, or where EXIF turns the image and nothing says whether the box was drawn
    before or after.

    Args:
        source: a CSV, a COCO .json, a folder of Pascal VOC .xml, a YOLO data.yaml.
        images: their folder; by default that of `source`.

    Raises:
        InvalidArgument: it is in no known format, or no box of it can be used.
    """
    path = expand(source)
    if not path.exists():
        raise InvalidArgument(
            f"There are no annotations '{path}'. Give a CSV, a COCO .json, a folder of VOC .xml "
            "or a YOLO data.yaml."
        )
    root = expand(images) if images is not None else path if path.is_dir() else path.parent
    format = choose_format(path)
    marks = list(format.read(path, root))
    roots = tuple(
        dict.fromkeys(
            folder.resolve()
            for folder in (root, path if path.is_dir() else path.parent, path.parent)
        )
    )
    found: dict[tuple[Path, ...], Path | None] = {}
    skipped, placed = [], []
    for mark in marks:
        if mark.places not in found:
            found[mark.places] = _find(mark.places, roots)
        file = found[mark.places]
        if mark.problem is not None:
            skipped.append((mark.where, mark.problem))
        elif file is None:
            skipped.append(
                (
                    mark.where,
                    f"there is no picture '{mark.places[0].name if mark.places else ''}' inside "
                    f"'{root}'",
                )
            )
        else:
            placed.append((mark, file))
    files = list(dict.fromkeys(file for _, file in placed))
    headers = dict(zip(files, parallel_map(_header, files, 8), strict=True))
    boxes: dict[Path, list[Box]] = {}
    splits: dict[Path, str | None] = {}
    for mark, file in placed:
        head = headers[file]
        box = head if isinstance(head, str) else _upright(mark, *head)
        if isinstance(box, str):
            skipped.append((f"{mark.where} ({file.name})", box))
        else:
            boxes.setdefault(file, []).append(Box(mark.label, box))
            splits[file] = mark.split
    if not boxes:
        first = f"; the first: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise InvalidArgument(
            f"No box in '{path}' can be used ({len(skipped)} were skipped{first})."
        )
    annotated = []
    for file, own in boxes.items():
        own.sort(key=lambda box: -box.area)
        head = headers[file]
        assert not isinstance(head, str)
        annotated.append(
            Annotated(ImageFile(file, _name(file, roots), own[0].label, splits[file]), head[1], own)
        )
    annotated.sort(key=lambda image: image.file.name)
    return BoxSet(path, format.name, annotated, skipped)


# files that say that a folder is in another tool's format
ANNOTATIONS = ("data.yaml", "annotations.json", "tasks.json", "metadata.jsonl")


def read_labels(source: str | os.PathLike, min_classes: int = 2) -> LabelledSet:
    """Read a labelled set, in a folder per class or a CSV (see `read_labelled`), or in COCO, YOLO,
    Pascal VOC, Label Studio or Hugging Face's format.

    In those an image's label is the one it has as a whole, or else that of its boxes; images
    whose boxes are of several classes are passed over, and listed.

    Args:
        source: folder, .csv, .json, .yaml or .jsonl.
        min_classes: how many there must be.

    Raises:
        NotFound: the source does not exist.
        InvalidArgument: it can't be read, or has too few classes.
    """
    path = expand(source)
    file = (
        next((path / name for name in ANNOTATIONS if (path / name).is_file()), None)
        if path.is_dir()
        else path
    )
    if path.is_dir() and file is None and any((path / "Annotations").rglob("*.xml")):
        file = path
    if (
        file is None
        or not (file.is_dir() or file.suffix.lower() in (".json", ".yaml", ".yml", ".jsonl"))
        or not file.exists()
    ):
        return read_labelled(source, min_classes)
    format = choose_format(file)
    root = file if file.is_dir() else file.parent
    roots = tuple(dict.fromkeys(folder.resolve() for folder in (root, file.parent)))
    kinds: dict[Path, set[str]] = {}
    splits: dict[Path, str | None] = {}
    unused: list[tuple[str, str]] = []
    # the whole image's label comes first
    for marks in (format.labels(file, root), format.read(file, root)):
        known = set(kinds)
        for mark in marks:
            found = _find(mark.places, roots) if mark.problem is None and mark.label else None
            if found is None:
                unused.append((mark.where, mark.problem or "its picture is not there"))
            elif found not in known:
                kinds.setdefault(found, set()).add(mark.label)
                splits[found] = mark.split
    several = {found for found, labels in kinds.items() if len(labels) > 1}
    unused += [
        (_name(found, roots), f"shows {' and '.join(sorted(kinds[found]))}")
        for found in sorted(several)
    ]
    images = [
        ImageFile(found, _name(found, roots), min(labels), splits[found])
        for found, labels in kinds.items()
        if found not in several
    ]
    if not images:
        first = f"; the first: {unused[0][0]}: {unused[0][1]}" if unused else ""
        raise InvalidArgument(
            f"No label in '{path}' can be used ({len(unused)} were passed over{first})."
        )
    return with_classes(
        LabelledSet(sorted(images, key=lambda image: image.name), [], unused=unused),
        path,
        min_classes,
    )


def mirrored(box: Iterable[float], width: float) -> tuple[float, float, float, float]:
    """Return an `xyxy` box as it lies in the mirrored image."""
    x_min, y_min, x_max, y_max = box
    return width - x_max, y_min, width - x_min, y_max


def _find(places: tuple[Path, ...], roots: tuple[Path, ...]) -> Path | None:
    """Return the image's file, if it lies in one of the roots: annotations from strangers
    must not reach outside.
    """
    for place in places:
        if "\0" in str(place) or not place.name:
            continue
        for path in [
            place,
            *(
                place.with_name(place.name + suffix)
                for suffix in sorted(USUAL_SUFFIXES)
                if not place.suffix
            ),
        ]:
            try:
                if path.is_file() and any(path.resolve().is_relative_to(root) for root in roots):
                    return path
            except OSError:  # a name too long, a loop of links
                continue
    return None


def _name(file: Path, roots: tuple[Path, ...]) -> str:
    whole = file.resolve()
    return next(
        (whole.relative_to(root).as_posix() for root in roots if whole.is_relative_to(root)),
        file.name,
    )


def _header(file: Path) -> tuple[tuple[int, int], tuple[int, int], int] | str:
    """Return stored size, upright size and EXIF orientation of an image, or why it has none."""
    try:
        return header(file)
    except UnreadableImage as error:
        return str(error)


def _upright(
    mark: RawBox, stored: tuple[int, int], upright: tuple[int, int], orientation: int
) -> tuple[float, float, float, float] | str:
    """Return a mark's box in pixels of the upright image, or why it can't be used."""
    if mark.box is None or not np.isfinite(mark.box).all():
        return "its sides are no numbers"
    frame = stored
    if orientation != 1:
        if stored == upright or mark.size not in (stored, upright):
            return (
                "EXIF turns the picture, and nothing says whether the box was drawn before or after"
            )
        frame = mark.size
    elif mark.size is not None and mark.size != stored:
        return (
            f"the annotation says {mark.size[1]} × {mark.size[0]} pixels, the picture has "
            f"{stored[1]} × {stored[0]}"
        )
    height, width = frame
    x_min, y_min, x_max, y_max = mark.box
    if mark.fractions:
        x_min, y_min, x_max, y_max = x_min * width, y_min * height, x_max * width, y_max * height
    if x_min > x_max or y_min > y_max:
        return "its corners are swapped"
    if (
        x_min < -SLACK * width
        or y_min < -SLACK * height
        or x_max > width * (1 + SLACK)
        or y_max > height * (1 + SLACK)
    ):
        return "it lies outside the picture"
    box = (max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(width)), min(y_max, float(height)))
    if box[2] - box[0] < MIN_SIDE or box[3] - box[1] < MIN_SIDE:
        return "it has no area"
    return box if frame == upright else _turned(box, stored, orientation)


def _turned(
    box: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Return a box of the stored image of (height, width) `size` as it lies once EXIF's
    orientation is applied.
    """
    height, width = size
    x_min, y_min, x_max, y_max = box
    xs, ys = np.array([x_min, x_max]), np.array([y_min, y_max])
    if orientation in (5, 6, 7, 8):
        xs, ys = {
            5: (ys, xs),
            6: (height - ys, xs),
            7: (height - ys, width - xs),
            8: (ys, width - xs),
        }[orientation]
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
