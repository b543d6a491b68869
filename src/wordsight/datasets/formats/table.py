"""Boxes in a CSV: a row a box, sides as fractions (0–1) or pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ...core import cells
from ...core.names import spellings
from ...errors import InvalidArgument, some_of
from ...images.signatures import looks_like_image
from ..foreign_tables import TABLE_SUFFIXES, heading, numbered_rows
from ..labelled import FILE_COLUMNS, LABEL_COLUMNS, check_headings
from .base import Format, Labelled, RawBox, numbers, of_another_tool, register_format, whole_size

FILE = "annotations.csv"
# headings as they are compared
SIDES = (
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
PLAIN = ("file_name", "x1", "y1", "x2", "y2", "label")  # keras-retinanet's, without headings
# of a side: fractions a hair above 1 stay fractions, and pixels so small are no boxes
MOST_FRACTION = 1.5
_COMMA = re.compile(r"\s*-?\d+,\d+\s*\Z")


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
        """See `Format.read`. Sides are pixels where any in the file is above 1.5."""
        file_path = _file(path)
        assert file_path is not None
        path = file_path
        columns, rows = _rows(path)
        name, label = (
            next((c for c in choices if c in columns), None)
            for choices in (FILE_COLUMNS, LABEL_COLUMNS)
        )
        sides = next((s for s in SIDES if set(s) <= set(columns)), None)
        if name is None or label is None or sides is None:
            raise InvalidArgument(
                f"'{path}' needs the columns {self.described.removeprefix('columns ')}; it has "
                f"{some_of(columns)}.{of_another_tool(' '.join(columns))}"
            )
        check_headings(path, columns, name, label, *sides)
        boxes = [numbers(*(_side(row.get(side)) for side in sides)) for _, row in rows]
        known: dict[tuple[str, str, str], tuple[Path, ...]] = {}
        fractions = all(box is None or max(box) <= MOST_FRACTION for box in boxes)
        for (line, row), box in zip(rows, boxes, strict=True):
            file, kind, folder = (
                (row.get(name) or "").strip(),
                (row.get(label) or "").strip(),
                (row.get("folder") or "").strip(),
            )
            if (file, kind, folder) not in known:
                known[file, kind, folder] = _places(file, kind, folder, (path.parent, root))
            yield RawBox(
                f"line {line}",
                known[file, kind, folder],
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


def _places(file: str, kind: str, folder: str, bases: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return where the image of a row may lie, the likeliest first."""
    if not file:
        return ()
    parts = ("", folder, f"{folder}/{kind}", kind, "images", f"images/{kind}")
    ways = (base / part / way for way in spellings(file) for base in bases for part in parts)
    return tuple(dict.fromkeys(ways))


def _rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the headings of a table as they are compared, and its rows with their lines.

    Raises:
        InvalidArgument: if it can't be read as CSV.
    """
    lines = [(n, cells) for n, cells in numbered_rows(path) if any(one.strip() for one in cells)]
    if not lines:
        return [], []
    columns = [heading(name) for name in lines[0][1]]
    if _is_bare(lines[0][1]):
        columns = list(PLAIN)
    else:
        del lines[0]
    return columns, [(n, dict(zip(columns, cells, strict=False))) for n, cells in lines]


def _is_bare(cells: list[str]) -> bool:
    """Whether a table's first row is one of keras-retinanet's: a box, or a picture without any."""
    sides = cells[1:5]
    return len(cells) == len(PLAIN) and (
        numbers(*sides) is not None
        or (looks_like_image(Path(cells[0].strip()).suffix) and not any(map(str.strip, sides)))
    )


def _side(cell: str | None) -> str | None:
    """Return a cell with a decimal point for a comma."""
    return cell.replace(",", ".") if cell and _COMMA.match(cell) else cell


def _file(path: Path) -> Path | None:
    """Return the file that is meant: the one given, or the annotations.csv of a folder."""
    if path.is_dir():
        return path / FILE if (path / FILE).is_file() else None
    return path if path.suffix.lower() in TABLE_SUFFIXES and path.is_file() else None
