"""Inspect any input: what it is, how it would be read, and what is wrong with it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.home import expand
from ..core.regular import open_regular
from ..core.summary import Problems, Table
from ..core.threads import map_if_worth
from ..errors import InvalidArgument, NotFound, UnreadableImage, WordsightError, some_of
from ..images.decoding import decode, header
from ..images.signatures import archive_kind, looks_like_image
from .annotations import read_boxes, read_labels
from .files import SPREADSHEETS, find_images
from .foreign_tables import TABLE_SUFFIXES
from .formats import list_formats
from .turning import UNCLEAR, check_exif

log = logging.getLogger("wordsight")
CLIP_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts", ".3gp")
}
# of files beside photos that may tell what these show
LABEL_SUFFIXES = (*TABLE_SUFFIXES, *SPREADSHEETS, ".json", ".jsonl", ".xml", ".yaml", ".txt")
LOOKED_AT = 500  # pictures of a folder that are decoded


class _Said(logging.Handler):
    """Keeps what readers log."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())


@dataclass
class Inspection:
    """What an input is.

    Attributes:
        path: the input.
        kind: "picture", "clip", "annotations", "labelled pictures", "photos", "archive" or
            "unknown".
        read_as: how it would be read, in a sentence.
        facts: what is in it: name -> value.
        wrong: (where, reason) of what can't be used, or is worth knowing.
        next_step: what to do with it.
        said: what reading it said besides, such as in which encoding it is read.
    """

    path: Path
    kind: str
    read_as: str
    facts: dict[str, Any] = field(default_factory=dict)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    next_step: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all of it can be used."""
        return not self.wrong and self.kind not in ("unknown", "archive")

    def tables(self) -> list[Table]:
        """Return what it is, and what is in it."""
        rows = [["input", str(self.path)], ["is", self.kind], ["read as", self.read_as]]
        rows += [[name.replace("_", " "), _text(value)] for name, value in self.facts.items()]
        return [Table(["", ""], rows)]

    def notes(self) -> list[str]:
        """Return what to do with it."""
        return [self.next_step] if self.next_step else []

    def problems(self) -> list[Problems]:
        """Return what can't be used."""
        return [Problems("Note", self.wrong, "--json's answer")]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "read_as": self.read_as,
            **self.facts,
            "wrong": [{"where": where, "reason": reason} for where, reason in self.wrong],
            "next_step": self.next_step,
            "said": self.said,
        }


def inspect(source: str | os.PathLike, exif: str | None = None) -> Inspection:
    """Return what an input is and how it would be read. Nothing is written.

    Args:
        source: a picture, a clip, annotations, a table, or a folder.
        exif: on what the boxes of annotations are drawn; see `read_boxes`.

    Raises:
        NotFound: if there is no such thing.
        InvalidArgument: if `exif` is unknown, or the input has no boxes.
    """
    check_exif(exif)
    path = expand(source)
    if not path.exists():
        raise NotFound(f"No such file or folder: '{source}'.")
    said = _Said()
    log.addHandler(said)
    try:
        found = _folder(path, exif) if path.is_dir() else _file(path, exif)
    finally:
        log.removeHandler(said)
    found.said = list(dict.fromkeys(said.messages))
    if exif is not None and found.kind != "annotations":
        raise InvalidArgument(
            f"--exif says how annotated boxes are meant, and '{source}' is no annotations "
            f"({found.kind}). Leave --exif out, or give the annotations."
        )
    return found


def _file(path: Path, exif: str | None) -> Inspection:
    """Return what a file is."""
    try:
        with open_regular(path) as file:
            head = file.read(4096)
    except OSError as error:
        return Inspection(path, "unknown", f"can't be read: {error.strerror}")
    if path.suffix.lower() in SPREADSHEETS:
        return Inspection(
            path,
            "unknown",
            "a spreadsheet, which is not read",
            next_step="Save it as CSV, and give that.",
        )
    kind = archive_kind(head[:512])
    if kind is not None:
        return Inspection(
            path,
            "archive",
            f"a {kind} archive, which is not looked into",
            next_step="Unpack it, and give the folder that comes out.",
        )
    if path.suffix.lower() in CLIP_SUFFIXES:
        return _clip(path)
    if looks_like_image(path.suffix, head):
        return _picture(path)
    return _annotations(path, exif) or Inspection(
        path,
        "unknown",
        "neither picture, clip nor annotations in a known format",
        next_step=f"Known formats: {', '.join(one.name for one in list_formats())}.",
    )


def _picture(path: Path) -> Inspection:
    """Return what a picture is."""
    try:
        data = path.read_bytes()
        stored, upright, orientation = header(data)
        photo = decode(data)
    except (UnreadableImage, OSError) as error:
        return Inspection(path, "picture", "can't be read", wrong=[(path.name, str(error))])
    facts = {"width": upright[1], "height": upright[0], "exif_orientation": orientation}
    if stored != upright:
        facts |= {"stored_width": stored[1], "stored_height": stored[0]}
    wrong = [(path.name, photo.remark)] if photo.remark else []
    return Inspection(path, "picture", "upright RGB, transparency on white", facts, wrong)


def _clip(path: Path) -> Inspection:
    """Return what a clip is."""
    from ..images.clips import Clip

    try:
        with Clip(path) as clip:
            facts = {"frames": clip.count, "frames_per_second": round(clip.fps, 3)}
            wrong = [(path.name, clip.remark)] if clip.remark else []
    except WordsightError as error:
        return Inspection(path, "clip", "can't be read", wrong=[(path.name, str(error))])
    return Inspection(path, "clip", "frame by frame", facts, wrong, "wordsight video CLIP")


def _annotations(path: Path, exif: str | None) -> Inspection | None:
    """Return what annotations are, or None if they are none."""
    try:
        known = next((one for one in list_formats() if one.knows(path)), None)
    except WordsightError as error:
        return Inspection(path, "annotations", "can't be read", wrong=[(path.name, str(error))])
    found: Inspection | None = None
    if known is not None:
        found = Inspection(path, "annotations", f"{known.name}: {known.described}")
        try:
            read = read_boxes(path, exif=exif)
            boxes = Counter(box.label for image in read.images for box in image.boxes)
            found.facts = {
                "pictures": len(read.images),
                "boxes": sum(boxes.values()),
                "classes": dict(sorted(boxes.items())),
            }
            found.wrong = read.skipped
            found.next_step = "wordsight train PICTURES --boxes ANNOTATIONS"
            return found
        except InvalidArgument as error:
            found.wrong = [("boxes", str(error))]
    if known is None and path.suffix.lower() != ".csv":
        return None
    try:
        labelled = read_labels(path, min_classes=1)
    except WordsightError as error:
        found = found or Inspection(path, "annotations", "CSV")
        if str(error) not in (reason for _, reason in found.wrong):
            found.wrong.append(("labels", str(error)))
        return found
    counts = Counter(str(image.label) for image in labelled.images)
    # boxes that --exif would make usable are worth knowing; labels without boxes are no fault
    turned = [one for one in found.wrong if UNCLEAR in one[1]] if found else []
    return Inspection(
        path,
        "annotations",
        f"labels of whole pictures, {known.name if known else 'CSV'}",
        {"pictures": len(labelled.images), "classes": dict(sorted(counts.items()))},
        [*turned, *labelled.unused],
        "wordsight train DATA -o MODEL",
    )


def _folder(path: Path, exif: str | None) -> Inspection:
    """Return what a folder holds."""
    annotated = _annotations(path, exif)
    if annotated is not None:
        return annotated
    labelled = None
    with os.scandir(path) as entries:
        folders = any(entry.is_dir() for entry in entries)
    if folders:
        try:
            labelled = read_labels(path, min_classes=2)
        except WordsightError:  # folders of photos without classes are no fault
            labelled = None
    try:
        found = find_images([path])
    except InvalidArgument as error:
        return Inspection(path, "unknown", "no pictures", wrong=[(path.name, str(error))])
    facts: dict[str, Any] = {"pictures": len(found.images), "other_files": len(found.skipped)}
    labels = sorted(name for name in found.skipped if Path(name).suffix.lower() in LABEL_SUFFIXES)
    if labels and labelled is None:
        facts["may_be_labels"] = some_of(labels)
    looked_at = found.images[:: -(-len(found.images) // LOOKED_AT)]
    facts["pictures_looked_at"] = len(looked_at)
    told = map_if_worth(lambda image: _remark(image.path), looked_at, 4)
    wrong = [(image.name, said) for image, said in zip(looked_at, told, strict=True) if said]
    if labelled is None:
        return Inspection(
            path,
            "photos",
            "photos without labels",
            facts,
            wrong,
            "wordsight run -c WORDS -p PHOTOS"
            + (", or wordsight doctor FILE for what may be labels" if labels else ""),
        )
    facts["classes"] = dict(sorted(Counter(str(image.label) for image in labelled.images).items()))
    splits = Counter(image.split for image in labelled.images if image.split)
    if splits:
        facts["splits"] = dict(sorted(splits.items()))
    return Inspection(
        path,
        "labelled pictures",
        "a folder a class",
        facts,
        [*wrong, *labelled.unused],
        "wordsight train DATA -o MODEL, or wordsight run -c WORDS -p PHOTOS for the pictures alone",
    )


def _remark(path: Path | Any) -> str:
    """Return what is wrong with a picture, or to be said of it; "" for nothing."""
    try:
        return decode(path.read_bytes()).remark
    except (UnreadableImage, OSError) as error:
        return str(error)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value)
