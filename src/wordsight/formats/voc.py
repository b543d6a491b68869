"""Boxes as Pascal VOC's XML: a file a picture, sides in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ..errors import InvalidArgument
from .base import Format, Mark, numbers, read_text, whole_size

FOLDERS = ("", "Annotations", "annotations")


class Voc(Format):
    """A folder of XML files, or one that holds them in Annotations/."""

    name = "Pascal VOC"
    described = "a folder of .xml files"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return path.is_dir() and _folder(path) is not None

    def read(self, path: Path, root: Path) -> Iterator[Mark]:
        """See `Format.read`."""
        folder = _folder(path)
        assert folder is not None
        bases = (root, root / "JPEGImages", root / "images", folder, folder.parent / "JPEGImages", folder.parent / "images", folder.parent)
        for file in sorted(folder.glob("*.xml")):
            try:
                yield from _read_file(file, tuple(dict.fromkeys(bases)))
            except (ElementTree.ParseError, InvalidArgument) as error:
                yield Mark(file.name, (), "", None, False, problem=str(error))


def _read_file(file: Path, bases: tuple[Path, ...]) -> Iterator[Mark]:
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # annotations need neither, and entities can be made to explode
        raise InvalidArgument("declares entities, which annotations don't do")
    tree = ElementTree.fromstring(text)
    names = [tree.findtext("filename") or file.stem, file.stem]
    places = tuple(base / name for name in dict.fromkeys(names) for base in bases)
    size = whole_size(tree.findtext("size/height"), tree.findtext("size/width"))
    for number, element in enumerate(tree.iter("object"), start=1):
        box = numbers(*(element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")))
        label = (element.findtext("name") or "").strip()
        yield Mark(f"{file.name} object {number}", places, label, box, False, size, problem=None if label else "names no class")  # type: ignore[arg-type]


def _folder(path: Path) -> Path | None:
    return next((path / name for name in FOLDERS if any((path / name).glob("*.xml"))), None)
