"""Boxes of CVAT's XML for images: boxes, polygons and masks in pixels, tags of whole images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from ...core.names import spellings
from ...errors import InvalidArgument
from .base import RawBox, ReadOnlyFormat, numbers, peek, register_format, whole_size, xml_text
from .shapes import Sides, box_of_points, turned_about_centre

MAX_XML = 1 << 26  # characters


@register_format
class Cvat(ReadOnlyFormat):
    """One XML, or a folder with an annotations.xml."""

    name = "CVAT"
    key = "cvat"
    described = "an .xml with annotations and image elements"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        file = path / "annotations.xml" if path.is_dir() else path
        if file.suffix.lower() != ".xml" or not file.is_file():
            return False
        text = peek(file)
        return "<annotations" in text and ("<image" in text or "<track" in text)

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`. Polygons, ellipses, masks and turned boxes count as the boxes around
        them.
        """
        for where, image, element in _marks(path):
            if element.tag == "tag":
                continue
            label = (element.get("label") or "").strip()
            try:
                box, problem = _box(element), None if label else "names no class"
            except ValueError as error:
                box, problem = None, str(error)
            yield _mark(where, path, root, image, label, box, problem)

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`."""
        for where, image, element in _marks(path):
            label = (element.get("label") or "").strip()
            if element.tag == "tag" and label:
                yield _mark(where, path, root, image, label, None, None)


def _marks(path: Path) -> Iterator[tuple[str, ElementTree.Element, ElementTree.Element]]:
    """Yield what to call a mark, the element of its image, and its own.

    Raises:
        InvalidArgument: if the file can't be read.
    """
    file = path / "annotations.xml" if path.is_dir() else path
    try:
        tree = ElementTree.fromstring(xml_text(file, MAX_XML))
    except (ElementTree.ParseError, InvalidArgument) as error:
        raise InvalidArgument(f"'{file}' can't be read as CVAT's XML: {error}.") from None
    if tree.find("track") is not None and tree.find("image") is None:
        raise InvalidArgument(
            f"'{file}' holds tracks of a clip. Export it from CVAT as 'CVAT for images', or take "
            "pictures from the clip with 'wordsight extract'."
        )
    for image in tree.iter("image"):
        for number, element in enumerate(image, start=1):
            yield f"{image.get('name')} mark {number}", image, element


def _mark(
    where: str,
    path: Path,
    root: Path,
    image: ElementTree.Element,
    label: str,
    box: Sides | None,
    problem: str | None,
) -> RawBox:
    folder = path if path.is_dir() else path.parent
    name = image.get("name") or ""
    bases = [f for base in dict.fromkeys((root, folder)) for f in (base, base / "images")]
    places = tuple(dict.fromkeys(base / way for way in spellings(name) for base in bases))
    size = whole_size(image.get("height"), image.get("width"))
    split = {"train": "train", "validation": "val", "test": "test"}.get(
        (image.get("subset") or "").casefold()
    )
    return RawBox(
        where, places if name else (), label, box, False, size, split, problem, source=name
    )


def _box(element: ElementTree.Element) -> Sides | None:
    """Return the `xyxy` box of a mark, None where its sides are no numbers.

    Raises:
        ValueError: if it has none.
    """
    if element.tag == "box":
        sides = numbers(*(element.get(side) for side in ("xtl", "ytl", "xbr", "ybr")))
        degrees = numbers(element.get("rotation") or 0)
        if sides is None or degrees is None:
            return None
        box = (sides[0], sides[1], sides[2], sides[3])
        return turned_about_centre(box, degrees[0]) if degrees[0] % 360 else box
    if element.tag == "ellipse":
        sides = numbers(*(element.get(side) for side in ("cx", "cy", "rx", "ry")))
        if sides is None:
            return None
        x, y, across, down = sides
        return x - across, y - down, x + across, y + down
    if element.tag == "mask":
        sides = numbers(*(element.get(side) for side in ("left", "top", "width", "height")))
        if sides is None:
            return None
        return sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3]
    if element.tag in ("polygon", "polyline"):
        points = [point.split(",") for point in (element.get("points") or "").split(";")]
        try:
            return box_of_points(
                [float(x) for x, _ in points],
                [float(y) for _, y in points],
            )
        except ValueError:
            raise ValueError("has no points") from None
    raise ValueError(f"is a mark of the kind {element.tag}, which has no box")
