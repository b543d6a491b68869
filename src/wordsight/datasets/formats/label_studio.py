"""Boxes and choices of Label Studio: its JSON (a list of tasks, sides in percent of the image's),
JSON-MIN and CSV.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

from ...errors import InvalidArgument
from ...images.signatures import looks_like_image
from ..foreign_tables import heading, read_headings, read_table
from .base import (
    Format,
    Labelled,
    RawBox,
    Region,
    lies_inside,
    numbers,
    read_json,
    read_text,
    register_format,
    whole_size,
)
from .shapes import Sides, box_of_points, box_of_turned

log = logging.getLogger("wordsight")
LOCAL = "/data/local-files/?d="  # what Label Studio serves files of this machine under
UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what it puts before the name of an uploaded file
# what a row of JSON-MIN or CSV holds beside the image and the answers
ABOUT = {
    *("id", "annotator", "annotation_id", "annotation", "created_at", "updated_at", "lead_time"),
    *("agreement", "task_id", "completed_by"),
}
BADLY_WRITTEN = "is not written as Label Studio's tasks are"
NO_BOX = "is a {}, which has no box that is read"


@dataclass
class LabelStudioTask:
    """One task.

    Attributes:
        where: what to call it.
        address: what it calls its image.
        results: what was marked, as in the JSON.
        problem: why it can't be used, or None.
    """

    where: str
    address: str = ""
    results: list[dict] = field(default_factory=list)
    problem: str | None = None


@register_format
class LabelStudio(Format):
    """A tasks.json, an export as JSON-MIN or CSV, or a folder that holds a tasks.json."""

    name = "Label Studio"
    key = "label-studio"
    described = "a .json list of tasks with predictions or annotations, or its CSV"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        file = path / "tasks.json" if path.is_dir() else path
        if not file.is_file():
            return False
        if file.suffix.lower() == ".csv":
            try:
                columns = set(read_headings(file))
            except InvalidArgument:
                return False
            return {"annotation_id", "lead_time"} <= columns
        return file.suffix.lower() == ".json" and read_text(file, 1024).lstrip().startswith("[")

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`. What is marked as the truth comes before what the first annotator has
        drawn, and that before what a model has. Polygons, ellipses and turned rectangles count as
        the boxes around them, which is logged once.
        """
        places, rounded = _Places(path, root), 0
        for task in _tasks(path):
            if task.problem == BADLY_WRITTEN:
                yield RawBox(task.where, (), "", None, True, problem=task.problem)
            for result in task.results:
                kind = str(result.get("type", ""))
                if kind == "choices" or not kind.endswith("labels"):
                    continue
                value, labels = _value(result, kind)
                size = whole_size(result.get("original_height"), result.get("original_width"))
                problem, box = None if labels[0] else "names no class", None
                try:
                    box, exact = _box(kind, value, size)
                    rounded += not exact
                except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                    problem = problem or str(error) or BADLY_WRITTEN
                yield RawBox(
                    task.where,
                    places.of(task.address),
                    labels[0],
                    box,
                    True,
                    size,
                    problem=problem,
                    source=task.address,
                )
        if rounded:
            log.info(
                "%d polygons, ellipses and turned rectangles count as the boxes around them.",
                rounded,
            )

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`."""
        places = _Places(path, root)
        for task in _tasks(path):
            chosen = [
                name
                for result in task.results
                if result.get("type") == "choices"
                for name in _value(result, "choices")[1]
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
        tasks = []
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
            address = LOCAL + quote(f"{self.images}/{image.file_name}")
            tasks.append({"id": number, "data": {"image": address}, "predictions": [prediction]})
        (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
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


class _Places:
    """Where images may lie: what the server calls them is not what the disk does.

    Args:
        path: the annotations.
        root: folder of the images.
    """

    def __init__(self, path: Path, root: Path) -> None:
        folder = path if path.is_dir() else path.parent
        self._bases = tuple(dict.fromkeys((root, folder)))
        self._named: dict[str, list[Path]] | None = None

    def of(self, address: str) -> tuple[Path, ...]:
        """Return where the image of a task may lie, the likeliest first: at the longest end of its
        path, in `images`, or, for an upload, under the name that it had before.
        """
        if not address:
            return ()
        local = address.startswith(LOCAL)
        name = unquote(address.removeprefix(LOCAL) if local else urlsplit(address).path)
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return ()
        ends = ["/".join(parts[begin:]) for begin in range(len(parts))]
        plain = UPLOADED.sub("", parts[-1], count=1) if UPLOADED.match(parts[-1]) else parts[-1]
        ends += [f"images/{parts[-1]}", plain, f"images/{plain}"]
        direct = [base / end for end in ends for base in self._bases]
        return tuple(dict.fromkeys([*direct, *self._with_blanks(plain)]))

    def _with_blanks(self, name: str) -> list[Path]:
        """Return the only image whose blanks Label Studio would write as this name has them."""
        if "_" not in name:
            return []
        if self._named is None:
            self._named = {}
            for folder in [f for base in self._bases for f in (base, base / "images")]:
                inside = any(lies_inside(folder, base) for base in self._bases)
                for path in folder.iterdir() if inside and folder.is_dir() else ():
                    if " " in path.name:
                        self._named.setdefault(path.name.replace(" ", "_"), []).append(path)
        found = self._named.get(name, [])
        return found if len(found) == 1 else []


def _tasks(path: Path) -> Iterator[LabelStudioTask]:
    """Yield the tasks of a file.

    Raises:
        InvalidArgument: if it can't be read at all.
    """
    file = path / "tasks.json" if path.is_dir() else path
    rows: Any = _csv_rows(file) if file.suffix.lower() == ".csv" else read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidArgument(
            f"'{file}' is no file of Label Studio's tasks: it needs a list of them, each with its "
            "data."
        )
    for number, row in enumerate(rows, start=1):
        where = f"task {number}"
        try:
            whole = isinstance(row.get("data"), dict)
            yield read_whole_task(where, row) if whole else _short(where, row)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration):
            yield LabelStudioTask(where, problem=BADLY_WRITTEN)


def read_whole_task(where: str, task: dict) -> LabelStudioTask:
    """Return a task of the full JSON, with what is marked as the truth, or else with what the first
    annotator says, if the others choose the same; `where` is what to call it.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration: if it is not
            written as tasks are.
    """
    data = task["data"]
    address = str(
        data.get("image") or next(value for value in data.values() if isinstance(value, str))
    )
    drawn = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
    true = [one for one in drawn if one.get("ground_truth")]
    chosen = (true or drawn or task.get("predictions") or [])[:1]
    results = [dict(result) for result in chosen[0]["result"]] if chosen else []
    answers = {_choices(one) for one in drawn} if not true else set()
    if len(answers) > 1:
        said = " and ".join(sorted(", ".join(answer) or "nothing" for answer in answers))
        return LabelStudioTask(where, address, problem=f"its annotators disagree: {said}")
    return LabelStudioTask(where, address, results)


def _choices(annotation: dict) -> tuple[str, ...]:
    """Return what an annotator has chosen, in order."""
    return tuple(
        sorted(
            name
            for result in annotation["result"]
            if result.get("type") == "choices"
            for name in _value(result, "choices")[1]
        )
    )


def _short(where: str, row: dict) -> LabelStudioTask:
    """Return a task of JSON-MIN or CSV: the image, and an answer for each question.

    Raises:
        StopIteration: if it names no image.
    """
    answers = {key: value for key, value in row.items() if key not in ABOUT and value}
    named = [key for key, value in answers.items() if _names_image(value)]
    key = next(key for key in ("image", *named) if isinstance(answers.get(key), str))
    results = []
    for name, value in answers.items():
        if name == key:
            continue
        if isinstance(value, str) and value[:1] in "[{":
            value = json.loads(value)
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            results.append({"type": "choices", "value": value})
        elif isinstance(value, str):
            results.append({"type": "choices", "value": {"choices": [value]}})
        elif isinstance(value, list):
            results += [_short_result(one) for one in value]
    return LabelStudioTask(where, str(answers[key]), results)


def _short_result(value: dict) -> dict:
    """Return a mark of JSON-MIN as one of the full JSON."""
    kind = next((key for key in value if key.endswith("labels")), "")
    sizes = {key: value[key] for key in ("original_width", "original_height") if key in value}
    return {"type": kind, "value": value, **sizes}


def _names_image(value: object) -> bool:
    return isinstance(value, str) and looks_like_image(Path(urlsplit(value).path).suffix)


def _csv_rows(file: Path) -> list[dict]:
    rows = read_table(file)
    columns = [heading(name) for name in next(rows, [])]
    return [dict(zip(columns, row, strict=False)) for row in rows if any(row)]


def _value(result: dict, kind: str) -> tuple[dict, list[str]]:
    """Return a result's value, and the names in it; at least one, which may be empty."""
    value = result.get("value")
    value = value if isinstance(value, dict) else {}
    names = value.get(kind)
    return value, [name if isinstance(name, str) else "" for name in names] if isinstance(
        names, list
    ) and names else [""]


def _box(kind: str, value: dict, size: tuple[int, int] | None) -> tuple[Sides | None, bool]:
    """Return the box of a mark in fractions of the image, None where its sides are no numbers, and
    whether it is the mark itself.

    Raises:
        ValueError, TypeError, KeyError: if there is none.
    """
    if kind == "polygonlabels":
        points = [(float(x) / 100, float(y) / 100) for x, y in value["points"]]
        return box_of_points([x for x, _ in points], [y for _, y in points]), False
    if kind == "ellipselabels":
        x, y = float(value["x"]) / 100, float(value["y"]) / 100
        across, down = float(value["radiusX"]) / 100, float(value["radiusY"]) / 100
        return (x - across, y - down, x + across, y + down), False
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
