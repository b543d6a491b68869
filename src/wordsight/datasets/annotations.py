"""Read annotated boxes and labels in any format, check them against the images, and turn boxes
upright.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.home import expand
from ..core.names import in_short
from ..core.threads import map_if_worth
from ..errors import InvalidArgument, UnreadableImage
from ..images.decoding import header
from ..images.finding import Pictures
from .files import ImageFile, refuse_archive
from .formats import RawBox, choose_format
from .formats.coco import Coco
from .formats.label_studio import LabelStudio
from .formats.labelme import LabelMe
from .labelled import LabelledSet, merge, read_labelled, with_classes
from .turning import Head, check_exif, upright_box

TWO_NAMES = "pictures of different names lead to the one file '{}', so it may be another's"


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
        file: the image, with the label of its largest object.
        size: (height, width) of the upright image.
        boxes: the objects, the largest first.
    """

    file: ImageFile
    size: tuple[int, int]
    boxes: list[Box]


@dataclass
class BoxSet:
    """Annotated images, and the boxes that could not be used.

    Attributes:
        source: the annotations.
        format: name of their format.
        images: the images with at least one good box, by name.
        skipped: (where, reason) of each box that was left out.
    """

    source: Path
    format: str
    images: list[Annotated]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """Names of all classes, sorted."""
        return sorted({box.label for image in self.images for box in image.boxes})


def read_boxes(
    source: str | os.PathLike,
    images: str | os.PathLike | None = None,
    exif: str | None = None,
) -> BoxSet:
    """Read annotated boxes.

    A box is skipped, and listed, if one of its sides is not a number, its corners are swapped or
    outside the image, it has no area, or the image is missing, unreadable or of another size than
    the annotation says. The same holds if EXIF turns the image and neither the annotation nor
    `exif` tells whether the box was drawn before or after.

    Args:
        source: a CSV, a COCO .json, a folder of Pascal VOC .xml, a YOLO data.yaml.
        images: folder of the images; by default that of `source`.
        exif: on what boxes are drawn where EXIF turns an image and the annotation doesn't tell:
            "upright", the image as EXIF turns it, or "stored", the image as the file holds it. What
            an annotation tells by itself (the size of the image; Label Studio's COCO) goes before.

    Raises:
        InvalidArgument: if the format is not known, `exif` is another word, or not one box can be
            used.
    """
    check_exif(exif)
    path = expand(source)
    if not path.exists():
        raise InvalidArgument(
            f"There are no annotations '{path}'. Give a CSV, a COCO .json, a folder of VOC .xml "
            "or a YOLO data.yaml."
        )
    refuse_archive(path)
    beside = path if path.is_dir() else path.parent
    root = expand(images) if images is not None else beside
    format = choose_format(path)
    own = _roots(root, beside)
    roots = tuple(dict.fromkeys((*own, path.parent.resolve())))
    skipped: list[tuple[str, str]] = []
    placed = _locate(format.read(path, root), root, Pictures(roots, own), skipped)
    annotated = _check_boxes(placed, roots, skipped, exif)
    if not annotated and not skipped:
        raise InvalidArgument(
            f"No box in '{path}': it is read as {format.name}, and none is marked. Check that it "
            "is the right file, and that its labels lie beside it."
        )
    if not annotated:
        where, reason = skipped[0]
        raise InvalidArgument(
            f"No box in '{path}' can be used ({len(skipped)} were skipped; the first: "
            f"{in_short(f'{where}: {reason}')})."
        )
    return BoxSet(path, format.name, annotated, skipped)


def _roots(*folders: Path) -> tuple[Path, ...]:
    """Return the folders that images may lie in, resolved: those given, and the one around a
    folder `annotations`, beside which COCO has its images.
    """
    whole = [folder.resolve() for folder in folders]
    above = [one.parent for one in whole if one.name.casefold() == "annotations"]
    return tuple(dict.fromkeys([*whole, *above]))


def _locate(
    raw_boxes: Iterable[RawBox],
    root: Path,
    pictures: Pictures,
    skipped: list[tuple[str, str]],
) -> list[tuple[RawBox, Path]]:
    """Return boxes with their images' files; add (where, reason) of the others to `skipped`."""
    found: dict[tuple[Path, ...], Path | None] = {}
    placed = []
    for raw in list(raw_boxes):
        if raw.places not in found:
            found[raw.places] = pictures.find(raw.places, _is_bare(raw))
        file = found[raw.places]
        if raw.problem is not None:
            skipped.append((raw.where, raw.problem))
        elif file is None:
            name = raw.places[0].name if raw.places else ""
            skipped.append((raw.where, f"there is no picture '{name}' inside '{root}'"))
        else:
            placed.append((raw, file))
    shared = _shared(placed)
    skipped += [(raw.where, TWO_NAMES.format(file.name)) for raw, file in placed if file in shared]
    return [(raw, file) for raw, file in placed if file not in shared]


def _is_bare(raw: RawBox) -> bool:
    return raw.source is not None and "/" not in raw.source and "\\" not in raw.source


def _shared(placed: Iterable[tuple[RawBox, Path]]) -> set[Path]:
    """Return the files to which images of different names lead, so that nobody knows whose marks
    are whose.
    """
    names: dict[Path, set[str]] = {}
    for raw, file in placed:
        if raw.source is not None:
            names.setdefault(file, set()).add(raw.source)
    return {file for file, sources in names.items() if len(sources) > 1}


def _check_boxes(
    placed: list[tuple[RawBox, Path]],
    roots: tuple[Path, ...],
    skipped: list[tuple[str, str]],
    exif: str | None,
) -> list[Annotated]:
    """Return images with their good boxes, by name; add (where, reason) of the others to
    `skipped`.
    """
    files = list(dict.fromkeys(file for _, file in placed))
    headers = dict(zip(files, map_if_worth(_header, files, 8), strict=True))
    boxes: dict[Path, list[Box]] = {}
    splits: dict[Path, str | None] = {}
    sizes: dict[Path, tuple[int, int]] = {}
    for raw, file in placed:
        head = headers[file]
        box = head if isinstance(head, str) else upright_box(raw, head, exif)
        if isinstance(head, str) or isinstance(box, str):
            skipped.append((f"{raw.where} ({file.name})", str(box)))
        else:
            boxes.setdefault(file, []).append(Box(raw.label, box))
            splits[file], sizes[file] = raw.split, head[1]
    annotated = []
    for file, own in boxes.items():
        own.sort(key=lambda box: -box.area)
        image = ImageFile(file, _name(file, roots), own[0].label, splits[file])
        annotated.append(Annotated(image, sizes[file], own))
    return sorted(annotated, key=lambda image: image.file.name)


# files by which a folder is known to be in another tool's format
ANNOTATIONS = (
    *("data.yaml", "annotations.json", "tasks.json", "metadata.jsonl", "annotations.xml"),
    *("obj.names", "classes.txt"),
)
ANNOTATION_SUFFIXES = (".json", ".yaml", ".yml", ".jsonl", ".xml", ".names", ".txt")


def read_labels(source: str | os.PathLike, min_classes: int = 2) -> LabelledSet:
    """Read a labelled set: a folder per class or a CSV (see `read_labelled`), or COCO, YOLO, Pascal
    VOC, Label Studio or Hugging Face's format.

    A folder is read by its annotations where it holds some. A COCO file is found by its content,
    under any name, in the folder, its `annotations`, or the folders of splits.

    In those formats an image has the label of the whole image if there is one, else that of its
    boxes. Images whose boxes are of several classes are left out, and listed.

    Args:
        source: folder, .csv, .json, .yaml or .jsonl.
        min_classes: the fewest classes allowed.

    Raises:
        NotFound: if the source does not exist.
        InvalidArgument: if it can't be read, holds several COCO files, or has too few classes.
    """
    path = expand(source)
    file = annotation_file(path)
    if file is None:
        return read_labelled(source, min_classes)
    format = choose_format(file)
    root = file if file.is_dir() else file.parent
    own = _roots(root)
    roots = tuple(dict.fromkeys((*own, file.parent.resolve())))
    pictures = Pictures(roots, own)
    labels: dict[Path, set[str]] = {}
    splits: dict[Path, str | None] = {}
    unused: list[tuple[str, str]] = []
    whole = list(format.labels(file, root))  # labels of whole images come first
    named = {raw.where for raw in whole}
    boxed = [raw for raw in format.read(file, root) if raw.where not in named]
    placed = [_placed(raws, pictures, unused) for raws in (whole, boxed)]
    shared = _shared(itertools.chain(*placed))
    for marks in placed:
        known = set(labels)
        for raw, found in marks:
            if found in shared:
                unused.append((raw.where, TWO_NAMES.format(found.name)))
            elif found not in known:
                labels.setdefault(found, set()).add(raw.label)
                splits[found] = raw.split
    images = _single_labelled(labels, splits, roots, unused)
    if not images:
        first = f"; the first: {in_short(': '.join(unused[0]))}" if unused else ""
        raise InvalidArgument(
            f"No label in '{path}' can be used ({len(unused)} were passed over{first})."
        )
    return with_classes(LabelledSet(images, [], unused=unused), path, min_classes)


def _placed(
    raws: Iterable[RawBox], pictures: Pictures, unused: list[tuple[str, str]]
) -> list[tuple[RawBox, Path]]:
    """Return marks with their images' files; add (where, reason) of the others to `unused`."""
    placed = []
    for raw in raws:
        usable = raw.problem is None and raw.label
        found = pictures.find(raw.places, _is_bare(raw)) if usable else None
        if found is None:
            unused.append((raw.where, raw.problem or "its picture is not there"))
        else:
            placed.append((raw, found))
    return placed


def annotation_file(path: Path) -> Path | None:
    """Return the file or folder that a format reads labels from; None for a folder per class, a CSV
    and whatever does not exist.

    Raises:
        InvalidArgument: if a folder holds several COCO files.
    """
    if path.is_dir():
        file = next((path / name for name in ANNOTATIONS if (path / name).is_file()), None)
        # the other names, and metadata.csv, go before COCO
        open_to_coco = file is None or file.name == "annotations.json"
        if open_to_coco and not (path / "metadata.csv").is_file() and Coco().knows(path):
            return path
        if file is None and (any((path / "Annotations").rglob("*.xml")) or LabelMe().knows(path)):
            return path
    else:
        file = path
    if file is None or not file.exists():
        return None
    known = file.is_dir() or file.suffix.lower() in ANNOTATION_SUFFIXES
    return file if known or LabelStudio().knows(file) else None


def read_together(places: Sequence[str | os.PathLike]) -> LabelledSet:
    """Return the labelled images of one place, or of several as one set; then each image's name
    begins with the name of its place.

    Raises:
        NotFound, InvalidArgument: see `read_labels`.
    """
    if len(places) == 1:
        return read_labels(places[0])
    sets: dict[str, LabelledSet] = {}
    for place in places:
        name = expand(place).resolve().name
        while name in sets:  # two folders of one name
            name += "~"
        sets[name] = read_labels(place, min_classes=1)
    return merge(sets)


def _single_labelled(
    labels: dict[Path, set[str]],
    splits: dict[Path, str | None],
    roots: tuple[Path, ...],
    unused: list[tuple[str, str]],
) -> list[ImageFile]:
    """Return the images with one label, by name; add (name, reason) of the others to `unused`."""
    several = sorted(file for file, names in labels.items() if len(names) > 1)
    for file in several:
        shown = " and ".join(name[:80] for name in sorted(labels[file]))
        unused.append((_name(file, roots), f"shows {shown}"))
    images = [
        ImageFile(file, _name(file, roots), min(names), splits[file])
        for file, names in labels.items()
        if len(names) == 1
    ]
    return sorted(images, key=lambda image: image.name)


def mirrored(box: Iterable[float], width: float) -> tuple[float, float, float, float]:
    """Return an `xyxy` box as it lies in the mirrored image."""
    x_min, y_min, x_max, y_max = box
    return width - x_max, y_min, width - x_min, y_max


def _name(file: Path, roots: tuple[Path, ...]) -> str:
    whole = file.resolve()
    return next(
        (whole.relative_to(root).as_posix() for root in roots if whole.is_relative_to(root)),
        file.name,
    )


def _header(file: Path) -> Head | str:
    """Return an image's stored size, upright size and EXIF orientation, or why it is unreadable."""
    try:
        return header(file)
    except UnreadableImage as error:
        return str(error)
