"""Boxes in a CSV: a row a box, sides as fractions (0–1) or pixels."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from ...core import cells
from ...errors import InvalidArgument, some_of
from .base import Format, Labelled, RawBox, numbers, read_text, register_format, whole_size

NAMES = ("file_name", "image_id", "filename", "image")
LABELS = ("label", "class_name", "class")
FILE = "annotations.csv"
SIDES = (("x_min", "y_min", "x_max", "y_max"), ("xmin", "ymin", "xmax", "ymax"))


@register_format
class Table(Format):
    """Columns file_name or image_id, label or class_name, x_min, y_min, x_max, y_max; perhaps
    folder, width, height, split.
    """

    name = "CSV"
    key = "csv"
    described = (
        "columns file_name (or image_id), label (or class_name), x_min, x_max, y_min, y_max, "
        "as fractions or pixels"
    )

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        return _file(path) is not None

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`. Sides are pixels where any in the file is above 1."""
        file_path = _file(path)
        assert file_path is not None
        path = file_path
        try:
            rows = list(cells.DictReader(io.StringIO(read_text(path), newline="")))
        except csv.Error as error:
            raise InvalidArgument(f"'{path}' can't be read as CSV: {error}.") from None
        columns = set(rows[0]) if rows else set()
        name, label = (
            next((c for c in choices if c in columns), None) for choices in (NAMES, LABELS)
        )
        sides = next((s for s in SIDES if set(s) <= columns), None)
        if name is None or label is None or sides is None:
            raise InvalidArgument(
                f"'{path}' needs the columns {self.described.removeprefix('columns ')}; it has "
                f"{some_of(rows[0] if rows else ())}."
            )
        boxes = [numbers(*(row[side] for side in sides)) for row in rows]
        fractions = all(box is None or max(box) <= 1.0 for box in boxes)
        for line, (row, box) in enumerate(zip(rows, boxes, strict=True), start=2):
            file, kind, folder = (
                (row[name] or "").strip(),
                (row[label] or "").strip(),
                (row.get("folder") or "").strip(),
            )
            places = [
                base / part / file
                for base in (path.parent, root)
                for part in ("", folder, f"{folder}/{kind}", kind, "images", f"images/{kind}")
            ]
            yield RawBox(
                f"line {line}",
                tuple(dict.fromkeys(places)) if file else (),
                kind,
                box,  # type: ignore[arg-type]
                fractions,
                whole_size(row.get("height"), row.get("width")),
                row.get("split") or None,
                None if file and kind else "names no picture" if kind else "names no class",
            )

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`. A row a box, in pixels; an image without any has one row without
        sides.
        """
        with open(folder / FILE, "w", newline="", encoding="utf-8") as file:
            table = cells.writer(file)
            table.writerow(["file_name", "label", "score", *SIDES[0], "width", "height"])
            for image in images:
                height, width = image.size
                boxed = {region.label for region in image.regions}
                whole = [
                    (label, image.score if label == image.label else None, ("",) * 4)
                    for label in image.labels
                    if label not in boxed and (image.others or not boxed)
                ]
                boxes = [
                    (region.label, region.score, tuple(round(side, 3) for side in region.xyxy))
                    for region in image.regions
                ]
                for label, score, sides in [*boxes, *whole]:
                    table.writerow(
                        [
                            f"{self.images}/{image.file_name}",
                            label,
                            "" if score is None else round(score, 6),
                            *sides,
                            width,
                            height,
                        ]
                    )


def _file(path: Path) -> Path | None:
    """Return the file that is meant: the one given, or the annotations.csv of a folder."""
    if path.is_dir():
        return path / FILE if (path / FILE).is_file() else None
    return path if path.suffix.lower() == ".csv" and path.is_file() else None
