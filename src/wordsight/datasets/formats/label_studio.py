"""Boxes and choices of Label Studio: its JSON (a list of tasks, sides in percent of the image's),
JSON-MIN and CSV.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from ...errors import InvalidArgument
from ..foreign_tables import TABLE_SUFFIXES, read_headings
from .base import (
    Format,
    Labelled,
    RawBox,
    Region,
    numbers,
    read_text,
    register_format,
    whole_size,
)
from .label_studio_tasks import (
    BADLY_WRITTEN,
    LOCAL,
    Places,
    address_of,
    file_of,
    is_of_region,
    marks,
    tasks,
    value_of,
)
from .shapes import Sides, box_of_brush, box_of_points, box_of_turned

log = logging.getLogger("wordsight")
NO_BOX = "is a {}, which has no box that is read"
UNSURE = (
    "is about {!r:.80}, one of several pictures of its task, and nobody knows which; make a task "
    "of each picture"
)
# of shapes whose kind is not told, what their value holds -> their kind
_BY_KEYS = {
    "points": "polygonlabels",
    "radiusX": "ellipselabels",
    "rle": "brushlabels",
    "width": "rectanglelabels",
}


@register_format
class LabelStudio(Format):
    """A tasks.json, an export as JSON-MIN or CSV, or a folder that holds a tasks.json."""

    name = "Label Studio"
    key = "label-studio"
    described = "a .json list of tasks with predictions or annotations, or its CSV"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        file = file_of(path)
        if file is None:
            return False
        if file.suffix.lower() in TABLE_SUFFIXES:
            try:
                columns = set(read_headings(file))
            except InvalidArgument:
                return False
            return {"annotation_id", "lead_time"} <= columns
        return file.suffix.lower() == ".json" and read_text(file, 1024).lstrip().startswith("[")

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`. What is marked as the truth comes before what the first annotator has
        drawn, and that before what a model has. Polygons, brushes, ellipses and turned rectangles
        count as the boxes around them, which is logged once.
        """
        places, rounded = Places(path, root), 0
        for task in tasks(path):
            if task.problem == BADLY_WRITTEN or (task.problem is not None and not task.results):
                yield RawBox(task.where, (), "", None, True, problem=task.problem)
            for result in marks(task):
                kind = str(result["type"])
                value, labels = value_of(result, kind)
                size = whole_size(result.get("original_height"), result.get("original_width"))
                problem, box = None if labels[0] else "names no class", None
                if len(set(labels)) > 1:
                    problem = f"is given several classes: {', '.join(labels)}"
                address = address_of(task, result)
                problem = problem or (
                    UNSURE.format(result.get("to_name")) if address is None else None
                )
                try:
                    box, exact = _box(kind, value, size)
                    rounded += not exact
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                    problem = problem or str(error) or BADLY_WRITTEN
                yield RawBox(
                    task.where,
                    places.of(address or ""),
                    labels[0],
                    box,
                    True,
                    size,
                    problem=problem,
                    source=address,
                )
        if rounded:
            log.info(
                "%d polygons, brushes, ellipses and turned rectangles count as the boxes around "
                "them.",
                rounded,
            )

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`."""
        places = Places(path, root)
        for task in tasks(path):
            chosen = [
                name
                for result in task.results
                if result.get("type") == "choices" and not is_of_region(result)
                for name in value_of(result, "choices")[1]
                if name
            ]
            if not chosen and (task.problem is None or task.problem == BADLY_WRITTEN):
                continue
            several = len(set(chosen)) > 1
            problem = f"is given several classes: {', '.join(chosen)}" if several else task.problem
            yield RawBox(
                task.where,
                places.of(task.address),
                chosen[0] if chosen else "",
                None,
                False,
                problem=problem,
                source=task.address,
            )

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`. Each task has one prediction, whose score is that of its least
        sure part, so that doubtful ones can come first.
        """
        rows = []
        for number, image in enumerate(images, start=1):
            results = [
                _rectangle(image, region, place) for place, region in enumerate(image.regions)
            ]
            if image.label is not None:
                shared = {"from_name": "class", "to_name": "image", "type": "choices"}
                score = {} if image.score is None else {"score": round(image.score, 6)}
                results.append(
                    {
                        "id": _id(image, "class"),
                        **shared,
                        "value": {"choices": image.labels},
                        **score,
                    }
                )
            scores = [region.score for region in image.regions if region.score is not None] + (
                [] if image.score is None else [image.score]
            )
            prediction = {
                "model_version": made_by,
                "score": round(min(scores), 6) if scores else None,
                "result": results,
            }
            address = f"{LOCAL}?d=" + quote(f"{self.images}/{image.file_name}")
            rows.append({"id": number, "data": {"image": address}, "predictions": [prediction]})
        (folder / "tasks.json").write_text(json.dumps(rows), encoding="utf-8")
        view = ElementTree.Element("View")
        ElementTree.SubElement(view, "Image", name="image", value="$image")
        if any(image.regions for image in images):
            boxes = ElementTree.SubElement(view, "RectangleLabels", name="box", toName="image")
            for name in class_names:
                ElementTree.SubElement(boxes, "Label", value=name)
        if any(image.label is not None for image in images):
            several = "multiple" if any(image.others for image in images) else "single"
            choices = ElementTree.SubElement(
                view, "Choices", name="class", toName="image", choice=several
            )
            for name in class_names:
                ElementTree.SubElement(choices, "Choice", value=name)
        ElementTree.indent(view)
        (folder / "config.xml").write_text(
            ElementTree.tostring(view, encoding="unicode") + "\n", encoding="utf-8"
        )


def _box(kind: str, value: dict, size: tuple[int, int] | None) -> tuple[Sides | None, bool]:
    """Return the box of a mark in fractions of the image, None where its sides are no numbers, and
    whether it is the mark itself.

    Raises:
        ValueError, TypeError, KeyError: if there is none.
    """
    if kind in ("labels", "choices"):
        kind = next((kind for key, kind in _BY_KEYS.items() if key in value), kind)
    if kind == "polygonlabels":
        points = [(float(x) / 100, float(y) / 100) for x, y in value["points"]]
        return box_of_points([x for x, _ in points], [y for _, y in points]), False
    if kind == "ellipselabels":
        x, y = float(value["x"]) / 100, float(value["y"]) / 100
        across, down = float(value["radiusX"]) / 100, float(value["radiusY"]) / 100
        return (x - across, y - down, x + across, y + down), False
    if kind == "brushlabels":
        return _box_of_brush(value, size), False
    if kind != "rectanglelabels":
        raise ValueError(NO_BOX.format(kind.removesuffix("labels")))
    sides = numbers(value.get("x"), value.get("y"), value.get("width"), value.get("height"))
    if sides is None:
        return None, True
    x, y, width, height = (side / 100 for side in sides)
    degrees = float(value.get("rotation") or 0) % 360
    if not degrees:
        return (x, y, x + width, y + height), True
    if size is None:
        raise ValueError("is a turned rectangle, and the picture's size is not told")
    tall, wide = size
    left, top, right, bottom = box_of_turned(
        x * wide, y * tall, width * wide, height * tall, degrees
    )
    return (left / wide, top / tall, right / wide, bottom / tall), False


def _box_of_brush(value: dict, size: tuple[int, int] | None) -> Sides:
    """Return the box of what a brush marks, in fractions of the image.

    Raises:
        ValueError, TypeError, KeyError: if it can't be read.
    """
    if size is None:
        raise ValueError("is a brush, and the picture's size is not told")
    try:
        left, top, right, bottom = box_of_brush(size, value["rle"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"is a brush that can't be read: {error}") from None
    tall, wide = size
    return left / wide, top / tall, right / wide, bottom / tall


def _rectangle(image: Labelled, region: Region, number: int) -> dict:
    height, width = image.size
    x_min, y_min, x_max, y_max = region.xyxy
    sides = {
        "x": x_min / width,
        "y": y_min / height,
        "width": (x_max - x_min) / width,
        "height": (y_max - y_min) / height,
    }
    return {
        "id": _id(image, str(number)),
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            **{name: round(100 * side, 6) for name, side in sides.items()},
            "rotation": 0,
            "rectanglelabels": [region.label],
        },
        **({} if region.score is None else {"score": round(region.score, 6)}),
    }


def _id(image: Labelled, part: str) -> str:
    return hashlib.sha256(f"{image.file_name}|{part}".encode()).hexdigest()[:10]
