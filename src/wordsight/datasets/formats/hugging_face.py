"""Boxes and labels as Hugging Face's ImageFolder reads them: metadata.jsonl beside the
images, boxes [x, y, width, height] in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from .base import Format, Labelled, RawBox, bounded, numbers, parse_json, read_text, register_format


@register_format
class HuggingFace(Format):
    """A metadata.jsonl, or the folder that holds it."""

    name = "Hugging Face"
    key = "hf"
    described = "a metadata.jsonl with file_name and label or objects"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return (path.name == "metadata.jsonl" and path.is_file()) or (
            path / "metadata.jsonl"
        ).is_file()

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        for where, places, row in self._rows(path, root):
            try:
                if not places:
                    raise ValueError
                objects = row.get("objects") or {}
                boxes, names = (
                    objects.get("bbox") or [],
                    objects.get("category") or objects.get("categories") or [],
                )
                for number, (bbox, name) in enumerate(zip(boxes, names, strict=True), start=1):
                    sides = numbers(*bbox)
                    box = (
                        None
                        if sides is None or len(sides) != 4
                        else (sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])
                    )
                    known = isinstance(name, str | int | float) and str(name).strip()
                    yield RawBox(
                        f"{where} object {number}",
                        places,
                        str(name).strip() if known else "",
                        box,
                        False,
                        problem=None if known else "names no class",
                    )
            except (ValueError, TypeError, AttributeError):
                yield RawBox(
                    where, (), "", None, False, problem="is no row of pictures and objects"
                )

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`."""
        for where, places, row in self._rows(path, root):
            if places and isinstance(row.get("label"), str | int | float) and row["label"] != "":
                yield RawBox(where, places, str(row["label"]), None, False)

    def _rows(self, path: Path, root: Path) -> Iterator[tuple[str, tuple[Path, ...], dict]]:
        file = path / "metadata.jsonl" if path.is_dir() else path
        for number, line in enumerate(bounded(read_text(file), file).split("\n"), start=1):
            if not line.strip():
                continue
            try:
                row = dict(parse_json(line))
            except (ValueError, TypeError, RecursionError):
                row = {}
            name = row.get("file_name")
            known = isinstance(name, str) and name
            yield (
                f"line {number}",
                tuple(dict.fromkeys(base / str(name) for base in (file.parent, root)))
                if known
                else (),
                row,
            )

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`."""
        with open(folder / "metadata.jsonl", "w", encoding="utf-8") as file:
            for image in images:
                row: dict = {"file_name": f"{self.images}/{image.file_name}"}
                if any(one.label is not None for one in images):
                    row |= {
                        "label": image.label,
                        "score": None if image.score is None else round(image.score, 6),
                    }
                if any(one.others for one in images):
                    row["labels"] = image.labels
                if any(one.regions for one in images):
                    corners = [region.xyxy for region in image.regions]
                    bbox = [
                        [round(side, 3) for side in (x_min, y_min, x_max - x_min, y_max - y_min)]
                        for x_min, y_min, x_max, y_max in corners
                    ]
                    scores = [
                        None if region.score is None else round(region.score, 6)
                        for region in image.regions
                    ]
                    row["objects"] = {
                        "bbox": bbox,
                        "category": [region.label for region in image.regions],
                        "score": scores,
                    }
                file.write(json.dumps(row) + "\n")
