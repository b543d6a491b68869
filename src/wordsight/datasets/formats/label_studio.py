"""Boxes and choices as Label Studio's JSON: a list of tasks, sides in percent of the image's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

from ...errors import InvalidArgument
from .base import (
    Format,
    Labelled,
    RawBox,
    Region,
    numbers,
    read_json,
    read_text,
    register_format,
    whole_size,
)

LOCAL = "/data/local-files/?d="  # what Label Studio serves files of this machine under


@register_format
class LabelStudio(Format):
    """A tasks.json, or a folder that holds one."""

    name = "Label Studio"
    key = "label-studio"
    described = "a .json list of tasks with predictions or annotations"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        file = path / "tasks.json" if path.is_dir() else path
        return (
            file.suffix.lower() == ".json"
            and file.is_file()
            and read_text(file, 1024).lstrip().startswith("[")
        )

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`. What people have drawn comes before what a model has; turned
        rectangles are not taken.
        """
        for where, places, result in self._results(path, root):
            if not places:
                yield RawBox(
                    where, (), "", None, True, problem="is not written as Label Studio's tasks are"
                )
            if result.get("type") != "rectanglelabels":
                continue
            value, labels = _value(result, "rectanglelabels")
            sides = numbers(value.get("x"), value.get("y"), value.get("width"), value.get("height"))
            box = (
                None
                if sides is None
                else (
                    sides[0] / 100,
                    sides[1] / 100,
                    (sides[0] + sides[2]) / 100,
                    (sides[1] + sides[3]) / 100,
                )
            )
            size = whole_size(result.get("original_height"), result.get("original_width"))
            turned = numbers(value.get("rotation") or 0)
            problem = (
                "is a turned rectangle"
                if turned is None or turned[0] % 360
                else None
                if labels[0]
                else "names no class"
            )
            yield RawBox(where, places, labels[0], box, True, size, problem=problem)

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`."""
        for where, places, result in self._results(path, root):
            _, choices = _value(result, "choices")
            if result.get("type") == "choices" and len(choices) == 1 and choices[0]:
                yield RawBox(where, places, choices[0], None, False)

    def _results(self, path: Path, root: Path) -> Iterator[tuple[str, tuple[Path, ...], dict]]:
        file = path / "tasks.json" if path.is_dir() else path
        tasks = read_json(file)
        if not isinstance(tasks, list) or not all(
            isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
        ):
            raise InvalidArgument(
                f"'{file}' is no file of Label Studio's tasks: it needs a list of them, each "
                "with its data."
            )
        for number, task in enumerate(tasks, start=1):
            try:
                data = task["data"]
                address = str(
                    data.get("image")
                    or next(value for value in data.values() if isinstance(value, str))
                )
                drawn = (
                    [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
                    or task.get("predictions")
                    or []
                )
                name = unquote(
                    address.removeprefix(LOCAL)
                    if address.startswith(LOCAL)
                    else urlsplit(address).path
                ).lstrip("/")
                places = tuple(
                    dict.fromkeys(
                        base / part
                        for base in (root, file.parent)
                        for part in (name, Path(name).name, f"images/{Path(name).name}")
                    )
                )
                results = [dict(result) for result in drawn[0]["result"]] if drawn else []
            except (ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration):
                yield f"task {number}", (), {}
                continue
            for result in results:
                yield f"task {number}", places, result

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


def _value(result: dict, kind: str) -> tuple[dict, list[str]]:
    """Return a result's value, and the names in it; at least one, which may be empty."""
    value = result.get("value")
    value = value if isinstance(value, dict) else {}
    names = value.get(kind)
    return value, [name if isinstance(name, str) else "" for name in names] if isinstance(
        names, list
    ) and names else [""]


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
