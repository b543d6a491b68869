"""Boxes as YOLO's text files: class x_centre y_centre width height, as fractions; class names in a data.yaml."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ..errors import InvalidArgument
from ..images import looks_like_picture
from .base import Format, Mark, numbers, read_text

SPLITS = ("train", "val", "test")


class Yolo(Format):
    """A data.yaml (or the folder that holds it) that names classes and folders of pictures; labels lie beside each images folder."""

    name = "YOLO"
    described = "a data.yaml with names and train"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return _file(path) is not None

    def read(self, path: Path, root: Path) -> Iterator[Mark]:
        """See `Format.read`."""
        import yaml

        file = _file(path)
        assert file is not None
        try:
            content = yaml.safe_load(read_text(file))
            names = content["names"]
            names = {int(key): str(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}
            base = file.parent / str(content.get("path") or "")
        except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InvalidArgument(f"'{file}' is no YOLO data file: it needs names and train ({type(error).__name__}).") from None
        if not base.is_dir():
            base = file.parent  # written on another machine
        for split in SPLITS:
            folders = content.get(split)
            for folder in [folders] if isinstance(folders, str) else folders if isinstance(folders, list) else []:
                yield from _read_folder(base / str(folder), names, split)


def _read_folder(folder: Path, names: dict[int, str], split: str) -> Iterator[Mark]:
    parts = list(folder.parts)
    if "images" in parts:  # YOLO's rule: the last images in the path becomes labels
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    labels = Path(*parts)
    for picture in sorted(path for path in folder.rglob("*") if looks_like_picture(path.suffix)):
        text = (labels / picture.relative_to(folder)).with_suffix(".txt")
        if not text.is_file():
            continue  # a picture without objects
        for number, line in enumerate(read_text(text).splitlines(), start=1):
            where, values = f"{text.name} line {number}", numbers(*line.split())
            if not line.strip():
                continue
            if values is None or len(values) < 5:
                yield Mark(where, (picture,), "", None, True, split=split, problem="is not five numbers")
                continue
            label = names.get(int(values[0])) if math.isfinite(values[0]) else None
            if label is None:
                yield Mark(where, (picture,), "", None, True, split=split, problem=f"class {line.split()[0]} is not in the data file")
                continue
            if len(values) > 5:  # a polygon: its box
                xs, ys = values[1::2], values[2::2]
                box = (min(xs), min(ys), max(xs), max(ys))
            else:
                _, x, y, width, height = values
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            yield Mark(where, (picture,), label, box, True, split=split)


def _file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    return next((path / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (path / name).is_file()), None)
