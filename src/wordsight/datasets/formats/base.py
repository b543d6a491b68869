"""What every format of annotated boxes gives: marks as they are written, before anything is
checked.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...core.plugins import load_extensions
from ...core.regular import open_regular, read_regular
from ...errors import InvalidArgument
from ...images.signatures import USUAL_SUFFIXES
from ..foreign_tables import decode, utf_16

PEEK = 1 << 16  # bytes
_DECLARED = re.compile(
    rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]{0,40})["']"""
)
# Python's own, and slow
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw-unicode-escape", "unicode-escape"}
_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")
# what tools write whose format isn't read, and what to do with it
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")  # half a character, or a stray byte
_OTHER_TOOLS = {
    "_via_img_metadata": " It is a project of VIA's: export it there as COCO.",
    "shape_attributes": " They are VIA's annotations: export them there as COCO.",
    '"coordinates"': " They are CreateML's annotations: export them as COCO.",
}
MAX_BYTES = 1 << 29  # larger annotation files are refused unread; COCO's own largest has 448 MiB
# lists and objects in a JSON file, each of which takes twenty times the memory of its text
MAX_NODES = 30_000_000


@dataclass(frozen=True)
class RawBox:
    """One box as it is written.

    Attributes:
        where: line or element, to name it by.
        places: where its image may lie, the likeliest first; without a suffix, any usual one is
            tried.
        label: class name.
        box: (x_min, y_min, x_max, y_max), or None where the numbers can't be read.
        fractions: whether the box is in fractions of the image's sides, else in pixels.
        size: (height, width) of the image as the annotation says, or None.
        split: "train", "val" or "test", or None.
        problem: why there is no box, where that is known already.
        source: what the annotation calls its image, where two of different names that lead to one
            file can't both be right; None where they can.
        upright: whether the box is known to be drawn on the upright image.
    """

    where: str
    places: tuple[Path, ...]
    label: str
    box: tuple[float, float, float, float] | None
    fractions: bool
    size: tuple[int, int] | None = None
    split: str | None = None
    problem: str | None = None
    source: str | None = None
    upright: bool = False


@dataclass(frozen=True)
class Region:
    """One box to be written.

    Attributes:
        label: class name.
        xyxy: (x_min, y_min, x_max, y_max) in pixels of the upright image, within it.
        score: probability, 0–1, or None.
    """

    label: str
    xyxy: tuple[float, float, float, float]
    score: float | None = None


@dataclass(frozen=True)
class Capture:
    """Where and when a camera trap took an image.

    Attributes:
        location: folder of the camera, relative to the photos.
        taken: when, by the camera's clock, or None.
        sequence: what the images taken together share, or None.
    """

    location: str
    taken: datetime | None = None
    sequence: str | None = None


@dataclass(frozen=True)
class Labelled:
    """One image to be written down, with what is on it.

    Attributes:
        file_name: path relative to the format's folder of images, its stem like no other's.
        size: (height, width) in pixels; the image is upright.
        label: class name of the whole image, or None.
        score: its probability, 0–1, or None.
        regions: boxes.
        others: further classes of the whole image, less sure ones.
        capture: of a camera trap: where and when, else None.
    """

    file_name: str
    size: tuple[int, int]
    label: str | None
    score: float | None
    regions: list[Region]
    others: tuple[str, ...] = ()
    capture: Capture | None = None

    @property
    def labels(self) -> list[str]:
        """All class names of the whole image, the surest first."""
        return [] if self.label is None else [self.label, *self.others]


class Format(ABC):
    """One way to write boxes down.

    Attributes:
        name: what people call it.
        key: what the command line calls it.
        described: what it looks like on disk, for messages.
        images: folder, within what is written, that its images lie in.
        writes: whether labels can be written in it, too.
    """

    name: str
    key: str
    described: str
    images = "images"
    writes = True

    @abstractmethod
    def knows(self, path: Path) -> bool:
        """Whether a file or folder is in this format."""

    @abstractmethod
    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """Yield every box of a file or folder.

        Args:
            path: the annotations.
            root: folder of the images.

        Raises:
            InvalidArgument: if it can't be read at all.
        """

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """Yield labels of whole images (marks without a box), where the format has them beside
        boxes; by default none.

        Args:
            path: the annotations.
            root: folder of the images.

        Raises:
            InvalidArgument: if it can't be read at all.
        """
        return iter(())

    @abstractmethod
    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """Write labels into a folder whose images are there already.

        Args:
            images: what is on them.
            class_names: in the order of their ids.
            folder: where to.
            made_by: what the labels come from, such as "wordsight 0.1.0".
        """


class ReadOnlyFormat(Format):
    """A format of other tools that is read and not written."""

    writes = False

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """Refuse.

        Raises:
            InvalidArgument: always.
        """
        raise InvalidArgument(f"{self.name} is read, not written. Choose another format.")


_registry: list[Format] = []


def register_format(cls: type[Format]) -> type[Format]:
    """Register a format (a decorator). One of the same key is replaced.

    A package of your own names its module in the entry-point group `wordsight.formats`, so that the
    command line knows it, too.
    """
    _registry[:] = [*(format for format in _registry if format.key != cls.key), cls()]
    return cls


def list_formats() -> list[Format]:
    """Return every format, in the order in which they are tried."""
    load_extensions("formats")
    return list(_registry)


def read_text(path: Path, most: int | None = None) -> str:
    """Return an annotation file's text, or its first bytes: in UTF-16 where its bytes show that,
    else in UTF-8, or, which is logged, windows-1252.

    Raises:
        InvalidArgument: if it is too large or can't be read.
    """
    data = read_bytes(path, most)
    marked = data.startswith(codecs.BOM_UTF8)
    return begin_text(data) if marked or most is not None else decode(data, path)


def begin_text(data: bytes) -> str:
    """Return the first bytes of an annotation file as text."""
    return data.decode(utf_16(data) or "utf-8-sig", errors="replace")


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Return an annotation file's bytes, or the first of them.

    Raises:
        InvalidArgument: if it is too large or can't be read.
    """
    try:
        if most is None:
            return read_regular(path, MAX_BYTES)
        with open_regular(path) as file:
            return file.read(most)
    except OSError as error:
        raise InvalidArgument(f"'{path}' can't be read: {error.strerror}.") from None


def files_below(
    folder: Path, fractions: bool, split: str | None = None
) -> tuple[list[Path], list[RawBox]]:
    """Return all files below a folder, in order, and a mark for each folder that can't be read."""
    errors: list[OSError] = []
    files = sorted(
        Path(inside) / name
        for inside, _, names in os.walk(folder, onerror=errors.append)
        for name in names
    )
    unread = [
        RawBox(
            Path(error.filename).name, (), "", None, fractions, split=split,
            problem=f"a folder that can't be read: {error.strerror}",
        )
        for error in errors
    ]  # fmt: skip
    return files, unread


def xml_text(file: Path, most: int) -> str:
    """Return an XML file's text, in the encoding that it declares or that its first bytes show.

    Raises:
        InvalidArgument: if it is larger than `most` bytes, not in its encoding, or declares
            entities, which annotations don't need and which can be made to explode.
    """
    data = read_bytes(file)
    if len(data) > most:
        raise InvalidArgument(f"has {len(data) >> 20} MiB, too much for one picture's boxes")
    declared = _DECLARED.match(data)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif data.startswith((b"<\0", b"\0<")):
        encoding = "utf-16-le" if data.startswith(b"<") else "utf-16-be"
    else:
        encoding = declared[1].decode() if declared else "utf-8-sig"
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        if codecs.lookup(encoding).name in _NO_CHARSETS:
            raise LookupError
        text = data.decode(encoding, "strict" if declared else "replace")
    except (LookupError, ValueError):
        raise InvalidArgument(f"is not in the encoding {encoding!r}, which it declares") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InvalidArgument("declares entities, which annotations don't do")
    # the declaration has done its work; a text has no encoding
    return _DECLARATION.sub("", text, count=1)


def peek(path: Path) -> str:
    """Return the beginning and the end of a file, by which its format is told; "" if it can't be
    read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(PEEK)
            file.seek(max(PEEK, os.fstat(file.fileno()).st_size - PEEK))
            return begin_text(head + file.read(PEEK))
    except OSError:
        return ""


def of_another_tool(text: str) -> str:
    """Return what to do with the annotations of a tool whose format isn't read, by a part of them;
    "" for others.
    """
    return next((said for sign, said in _OTHER_TOOLS.items() if sign in text), "")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InvalidArgument: if it can't be read, is too large or isn't JSON.
    """
    try:
        return parse_json(bounded(read_text(path), path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(f"'{path}' is no JSON ({type(error).__name__}: {error}).") from None


def parse_json(text: str) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: if it is none, or holds half a character, which no file can hold.
    """
    value = json.loads(text)
    if _ESCAPED.search(text):  # stray bytes of file names are let through
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return value


def bounded(text: str, path: Path) -> str:
    """Return a file's JSON, unless it would take too much memory.

    Raises:
        InvalidArgument: if it contains too many lists and objects.
    """
    if text.count("[") + text.count("{") > MAX_NODES:
        raise InvalidArgument(
            f"'{path}' holds more than {MAX_NODES:,} lists and objects, which no memory is "
            "spent on."
        )
    return text


def another_s(named: str, stem: str, bases: Iterable[Path]) -> str | None:
    """Return why nobody knows which image a file of one image's marks means, where it names one,
    and another of the file's own name is there, too; None where that isn't so.

    Args:
        named: what the file calls its image; "" where it doesn't.
        stem: the file's own name, without suffix.
        bases: folders in which images may be.
    """
    name = named.replace("\\", "/").rpartition("/")[2]
    if not name or name == stem or Path(name).stem == stem:
        return None
    if not any(os.path.isfile(base / name) for base in bases):
        return None
    own = (base / (stem + suffix) for base in bases for suffix in USUAL_SUFFIXES)
    there = next((path.name for path in own if os.path.isfile(path)), None)
    if there is None:
        return None
    return f"names the picture '{name}', and '{there}' is there, too, so it may be either's"


def numbers(*texts: object) -> tuple[float, ...] | None:
    """Return texts as numbers, or None where one is none."""
    try:
        return tuple(float(text) for text in texts)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def whole_size(height: object, width: object) -> tuple[int, int] | None:
    """Return an image's declared (height, width), or None where it says nothing sensible."""
    values = numbers(height, width)
    if values is None or not all(1 <= value < 1e7 for value in values):
        return None
    return int(values[0]), int(values[1])
