"""Boxes of LabelMe: a JSON an image, shapes as points in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.names import spellings
from ...errors import InvalidArgument
from .base import RawBox, ReadOnlyFormat, peek, read_json, register_format, whole_size
from .shapes import Sides, box_of_points

BY_POINTS = ("rectangle", "polygon", "linestrip", "mask", "rotation", "")


@register_format
class LabelMe(ReadOnlyFormat):
    """One JSON, or a folder of them. Polygons and circles count as the boxes around them."""

    name = "LabelMe"
    key = "labelme"
    described = "a .json an image, with shapes and imagePath"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        files = _files(path)
        return bool(files) and _is_labelme(files[0])

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        for file in _files(path):
            if not _is_labelme(file):
                continue
            try:
                content = read_json(file)
                named = str(content.get("imagePath") or file.stem)
                size = whole_size(content.get("imageHeight"), content.get("imageWidth"))
                shapes = list(content["shapes"])
            except (InvalidArgument, KeyError, TypeError, AttributeError) as error:
                yield RawBox(file.name, (), "", None, False, problem=f"can't be read: {error}")
                continue
            ways = [*spellings(named), Path(named.replace("\\", "/")).name, file.stem]
            bases = (file.parent, root, root / "images")
            places = tuple(dict.fromkeys(base / way for way in ways for base in bases))
            for number, shape in enumerate(shapes, start=1):
                where = f"{file.name} shape {number}"
                try:
                    label, box = str(shape["label"]).strip(), _box(shape)
                    problem = None if label else "names no class"
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                    label, box = "", None
                    problem = (
                        str(error) if type(error) is ValueError else "is no shape of LabelMe's"
                    )
                yield RawBox(where, places, label, box, False, size, problem=problem)


def _box(shape: dict[str, Any]) -> Sides:
    """Return the `xyxy` box of a shape.

    Raises:
        ValueError, KeyError, TypeError: if it has none.
    """
    kind = shape.get("shape_type") or ""
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "circle":
        (x, y), (edge_x, edge_y) = points
        radius = math.hypot(edge_x - x, edge_y - y)
        return x - radius, y - radius, x + radius, y + radius
    if kind not in BY_POINTS:
        raise ValueError(f"is a {kind}, which has no box")
    return box_of_points([x for x, _ in points], [y for _, y in points])


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    return sorted(path.glob("*.json"))


def _is_labelme(file: Path) -> bool:
    text = peek(file)
    return text.lstrip().startswith("{") and '"shapes"' in text and '"imagePath"' in text
