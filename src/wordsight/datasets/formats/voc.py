"""Boxes as Pascal VOC's XML: a file an image, sides in pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ...core.names import is_passed_over, lies_inside
from ...errors import InvalidArgument
from ..files import names_in
from ..labelled import SPLIT_FOLDERS
from .base import (
    Format,
    Labelled,
    RawBox,
    another_s,
    files_below,
    numbers,
    peek,
    register_format,
    whole_size,
    xml_text,
)

FOLDERS = ("Annotations", "annotations", "")
XML = "*.[xX][mM][lL]"
MAX_XML = 1 << 23  # characters; as a tree they take a hundred times as much memory
# VOC numbers pixels from 1, at their centres: what lies x pixels from the edge is x + 0.5 there
CENTRE = 0.5
OURS = "wordsight"  # files of others are taken as most tools write them, from 0


@register_format
class Voc(Format):
    """A folder of XML files, or one that holds them in Annotations/."""

    name = "Pascal VOC"
    key = "voc"
    described = "a folder of .xml files"
    images = "JPEGImages"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        if path.is_file():
            return (
                path.suffix.lower() == ".xml"
                and "<object" in (text := peek(path))
                and ("<bndbox" in text)
            )
        return _folder(path) is not None

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        folder = path.parent if path.is_file() else _folder(path)
        assert folder is not None
        bases = (
            root,
            root / "JPEGImages",
            root / "images",
            folder,
            folder.parent / "JPEGImages",
            folder.parent / "images",
            folder.parent,
        )
        files, unread = ([path], []) if path.is_file() else files_below(folder, False)
        yield from unread
        for file in files:
            if file.suffix.lower() != ".xml" or is_passed_over(file.name):
                continue
            if not lies_inside(file, folder):
                yield RawBox(file.name, (), "", None, False, problem="leads out of the folder")
                continue
            try:
                split = SPLIT_FOLDERS.get(file.parent.name.casefold())
                yield from _read_file(file, tuple(dict.fromkeys((*bases, file.parent))), split)
            except (ElementTree.ParseError, InvalidArgument) as error:
                yield RawBox(file.name, (), "", None, False, problem=str(error))

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`. The score of a box is kept beside it."""
        stems = []
        for image in images:
            height, width = image.size
            root = ElementTree.Element("annotation")
            parts = {
                "folder": self.images,
                "filename": image.file_name,
                "source/database": made_by,
                "segmented": "0",
            }
            parts |= {"size/width": str(width), "size/height": str(height), "size/depth": "3"}
            for path, text in parts.items():
                _add(root, path, text)
            for region in image.regions:
                element = ElementTree.SubElement(root, "object")
                sides = {
                    f"bndbox/{name}": f"{side + CENTRE:.3f}"
                    for name, side in zip(
                        ("xmin", "ymin", "xmax", "ymax"), region.xyxy, strict=True
                    )
                }
                score = {} if region.score is None else {"score": f"{region.score:.6f}"}
                for path, text in {
                    "name": region.label,
                    "pose": "Unspecified",
                    "truncated": "0",
                    "difficult": "0",
                    **sides,
                    **score,
                }.items():
                    _add(element, path, text)
            ElementTree.indent(root)
            target = (folder / "Annotations" / image.file_name).with_suffix(".xml")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(ElementTree.tostring(root, encoding="utf-8"))
            stems.append(image.file_name.rpartition(".")[0] or image.file_name)
        (folder / "labels.txt").write_text(
            "".join(f"{name}\n" for name in class_names), encoding="utf-8"
        )
        (folder / "ImageSets" / "Main").mkdir(parents=True)
        (folder / "ImageSets" / "Main" / "default.txt").write_text(
            "".join(f"{stem}\n" for stem in stems), encoding="utf-8"
        )


def _add(parent: ElementTree.Element, path: str, text: str) -> None:
    """Add an element with a text, and those it lies in where they are not there."""
    for name in path.split("/"):
        found = parent.find(name) if name != path.rpartition("/")[2] else None
        parent = ElementTree.SubElement(parent, name) if found is None else found
    # XML has no place for control characters
    parent.text = "".join(c if c.isprintable() else " " for c in text)


def _read_file(file: Path, bases: tuple[Path, ...], split: str | None) -> Iterator[RawBox]:
    tree = ElementTree.fromstring(xml_text(file, MAX_XML))
    path = (tree.findtext("path") or "").replace("\\", "/").rpartition("/")[2]
    named = (tree.findtext("filename") or "").strip() or path
    names = [named or file.stem, *([path] if path else []), file.stem]
    places = tuple(base / name for name in dict.fromkeys(names) for base in bases)
    doubt = another_s(named, file.stem, bases)
    ours = (tree.findtext("source/database") or "").startswith(OURS)
    size = whole_size(tree.findtext("size/height"), tree.findtext("size/width"))
    for number, element in enumerate(tree.iter("object"), start=1):
        box = numbers(
            *(element.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        )
        if box is not None and ours:
            box = tuple(side - CENTRE for side in box)
        label = (element.findtext("name") or "").strip()
        yield RawBox(
            f"{file.name} object {number}",
            places,
            label,
            box,  # type: ignore[arg-type]
            False,
            size,
            split,
            problem=doubt or (None if label else "names no class"),
        )


def _folder(path: Path) -> Path | None:
    """Return the folder that holds a folder's XML files, itself where those of splits do."""
    for name in FOLDERS:
        if any((path / name).rglob(XML) if name else path.glob(XML)):
            return path / name
    with contextlib.suppress(OSError):
        splits = (path / name for name in names_in(path) if name.casefold() in SPLIT_FOLDERS)
        return path if any(any(split.glob(XML)) for split in splits) else None
    return None
