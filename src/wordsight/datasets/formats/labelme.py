"""Boxes of LabelMe: a JSON an image, shapes as points in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.names import spellings
from ...errors import InvalidArgument
from .base import RawBox, ReadOnlyFormat, another_s, peek, read_json, register_format, whole_size
from .shapes import Sides, box_of_points

MOST_LOOKED_AT = 100  # files of a folder, to tell whether it is LabelMe's
BY_POINTS = ("rectangle", "polygon", "linestrip", "mask", "rotation", "")


@register_format
class LabelMe(ReadOnlyFormat):
    """One JSON, or a folder of them. Polygons and circles count as the boxes around them."""

    name = "LabelMe"
    key = "labelme"
    described = "a .json an image, with shapes and imagePath"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return any(_is_labelme(file) for file in _files(path)[:MOST_LOOKED_AT])

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        for file, content, problem in _contents(path):
            if problem:
                yield RawBox(file.name, (), "", None, False, problem=problem)
                continue
            places, doubt = _places(file, content, root)
            size = whole_size(content.get("imageHeight"), content.get("imageWidth"))
            for number, shape in enumerate(content["shapes"], start=1):
                where = f"{file.name} shape {number}"
                try:
                    label, box = _label(shape["label"]), _box(shape)
                    problem = doubt or ("" if label else "names no class")
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                    label, box = "", None
                    problem = (
                        str(error) if type(error) is ValueError else "is no shape of LabelMe's"
                    )
                yield RawBox(where, places, label, box, False, size, problem=problem or None)

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`. Flags that are set are labels of the whole image."""
        for file, content, problem in _contents(path):
            flags = content.get("flags")
            shown = (
                [str(name) for name, on in flags.items() if on is True]
                if (isinstance(flags, dict))
                else []
            )
            if problem or not shown:
                continue
            places, doubt = _places(file, content, root)
            several = f"is given several classes: {', '.join(shown)}" if len(shown) > 1 else None
            yield RawBox(file.name, places, shown[0], None, False, problem=doubt or several)


def _contents(path: Path) -> Iterator[tuple[Path, dict[str, Any], str]]:
    """Yield each file with its content, or why it can't be read."""
    for file in _files(path):
        if not _is_labelme(file):
            continue
        try:
            content = dict(read_json(file))
            if not isinstance(content["shapes"], list):
                raise TypeError("shapes is no list")
        except (InvalidArgument, KeyError, TypeError, ValueError) as error:
            yield file, {}, f"can't be read: {error}"
        else:
            yield file, content, ""


def _places(file: Path, content: dict[str, Any], root: Path) -> tuple[tuple[Path, ...], str | None]:
    """Return where a file's image may lie, and why nobody knows which it is, or None."""
    named = str(content.get("imagePath") or file.stem)
    ways = [*spellings(named), Path(named.replace("\\", "/")).name, file.stem]
    bases = (file.parent, root, root / "images")
    places = tuple(dict.fromkeys(base / way for way in ways for base in bases))
    return places, another_s(named, file.stem, bases)


def _label(name: object) -> str:
    """Return a class name, "" for what is none, such as null."""
    return str(name).strip() if isinstance(name, str | int | float) else ""


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
    # long shapes or a picture within may lie between what the beginning and the end show
    return (
        text.lstrip().startswith("{")
        and '"shapes"' in text
        and any(name in text for name in ('"imagePath"', '"imageData"', '"imageHeight"'))
    )
