"""Boxes as COCO's JSON: images, annotations with bbox [x, y, width, height] in pixels,
categories.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InvalidArgument
from .base import (
    Format,
    Labelled,
    RawBox,
    numbers,
    read_json,
    read_text,
    register_format,
    whole_size,
)


@register_format
class Coco(Format):
    """One JSON file, or a folder that holds one."""

    name = "COCO"
    key = "coco"
    described = "a .json with images, annotations and categories"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        file = _file(path)
        return file is not None and read_text(file, 1024).lstrip().startswith("{")

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`."""
        file = _file(path)
        assert file is not None
        try:
            content = read_json(file)
            images = {image["id"]: image for image in content["images"]}
            categories = {
                category["id"]: str(category["name"])
                for category in content["categories"]
                if isinstance(category["name"], str | int | float)
            }
            annotations = list(content["annotations"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidArgument(
                f"'{file}' is no COCO file: it needs images, annotations and categories "
                f"({type(error).__name__}: {error})."
            ) from None
        bases = [
            folder
            for base in (root, file.parent, file.parent.parent)
            for folder in (base, base / "images")
        ]
        for number, annotation in enumerate(annotations, start=1):
            where = f"annotation {number}"
            try:
                box = _raw_box(where, annotation, images, categories, bases)
            except (ValueError, KeyError, TypeError, AttributeError):
                box = _problem(where, "is not written as COCO's annotations are")
            yield box

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`. Ids begin with 1, as COCO's own do; a box keeps its score."""
        ids = {name: number for number, name in enumerate(class_names, start=1)}
        rows: list[dict] = []
        annotations: list[dict] = []
        for number, image in enumerate(images, start=1):
            height, width = image.size
            rows.append(
                {"id": number, "file_name": image.file_name, "width": width, "height": height}
            )
            for region in image.regions:
                x_min, y_min, x_max, y_max = region.xyxy
                bbox = [round(value, 3) for value in (x_min, y_min, x_max - x_min, y_max - y_min)]
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[region.label],
                    "bbox": bbox,
                }
                score = {} if region.score is None else {"score": round(region.score, 6)}
                annotations.append(
                    {
                        **annotation,
                        "area": round(bbox[2] * bbox[3], 3),
                        "iscrowd": 0,
                        "segmentation": [],
                        **score,
                    }
                )
        categories = [{"id": ids[name], "name": name, "supercategory": ""} for name in class_names]
        content = {
            "info": {"description": f"Labels by {made_by}"},
            "licenses": [],
            "images": rows,
            "annotations": annotations,
            "categories": categories,
        }
        (folder / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _raw_box(
    where: str, annotation: Any, images: dict, categories: dict[Any, str], bases: list[Path]
) -> RawBox:
    """Return one annotation's box, or its problem.

    Args:
        where: what to call the annotation.
        annotation: an item of the file's `annotations`.
        images: items of the file's `images`, by id.
        categories: class names, by id.
        bases: folders in which its image may be, the likeliest first.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: if it is not written as in COCO.
    """
    image = images.get(annotation["image_id"])
    label = categories.get(annotation["category_id"])
    if image is None or label is None:
        missing = "image" if image is None else "category"
        return _problem(where, f"its {missing}_id is not in the file", label or "")
    x, y, width, height = annotation["bbox"]
    values = numbers(x, y, width, height)
    box = (
        None
        if values is None
        else (values[0], values[1], values[0] + values[2], values[1] + values[3])
    )
    places = tuple(dict.fromkeys(base / str(image["file_name"]) for base in bases))
    size = whole_size(image.get("height"), image.get("width"))
    return RawBox(where, places, label, box, False, size)


def _problem(where: str, problem: str, label: str = "") -> RawBox:
    """Return an annotation that can't be used."""
    return RawBox(where, (), label, None, False, problem=problem)


def _file(path: Path) -> Path | None:
    """Return the JSON file: the path itself, or the only one in the folder or its `annotations`."""
    if path.is_file():
        return path if path.suffix.lower() == ".json" else None
    for folder in (path, path / "annotations"):
        files = (
            [
                file
                for file in sorted(folder.glob("*.json"))
                if file.name not in ("wordsight.json", "config.json")
            ]
            if folder.is_dir()
            else []
        )
        if len(files) == 1:
            return files[0]
    return None
