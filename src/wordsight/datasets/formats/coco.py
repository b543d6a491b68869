"""Boxes as COCO's JSON: images, annotations with bbox [x, y, width, height] in pixels or with a
mask, categories. Also labels of whole images, as COCO Camera Traps has them.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from ...core.names import is_passed_over, spellings
from ...core.regular import open_regular
from ...errors import InvalidArgument
from ..labelled import SPLIT_FOLDERS
from .base import (
    PEEK,
    Format,
    Labelled,
    RawBox,
    numbers,
    of_another_tool,
    peek,
    read_json,
    read_text,
    register_format,
    whole_size,
)
from .shapes import Sides, box_of_polygons, box_of_runs

NOT_COCO = ("wordsight.json", "config.json", "notes.json")
# what tools call their COCO files; one of these is COCO's even if it is damaged
NAMES = ("annotations.json", "*.coco.json", "instances_*.json")
LISTS = tuple(
    re.compile(rb'"%s"\s*:\s*\[' % name) for name in (b"images", b"annotations", b"categories")
)
LONGEST_START = 64  # bytes of such a list's name with what stands around it
SHOWN = 5  # files named where there are several
SAME_ID = "several {} have its id {!r}, so nobody knows which is meant"


@register_format
class Coco(Format):
    """One JSON file, a folder that holds one under any name, in itself or in `annotations`, or a
    folder of train, valid and test with one in each (Roboflow's).
    """

    name = "COCO"
    key = "coco"
    described = "a .json with images, annotations and categories"

    def knows(self, path: Path) -> bool:
        """See `Format.knows`."""
        files = _files(path)
        return bool(files) and all(
            read_text(file, 1024).lstrip().startswith("{") for file, _ in files
        )

    def read(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.read`. Crowds are passed over: they mark no single object."""
        for content in _contents(path, root):
            for number, annotation in enumerate(content.annotations, start=1):
                where = content.where(number)
                try:
                    if annotation.get("iscrowd") or not _has_shape(annotation):
                        if not annotation.get("iscrowd"):
                            yield content.problem(where, "has neither box nor mask")
                        continue
                    yield content.mark(where, annotation, _sides(annotation))
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                    reason = str(error) if type(error) is ValueError else "no such numbers"
                    yield content.problem(
                        where, f"is not written as COCO's annotations are: {reason}"
                    )

    def labels(self, path: Path, root: Path) -> Iterator[RawBox]:
        """See `Format.labels`."""
        for content in _contents(path, root):
            for number, annotation in enumerate(content.annotations, start=1):
                try:
                    if not _has_shape(annotation):
                        yield content.mark(content.where(number), annotation, None)
                except (KeyError, TypeError, AttributeError):
                    continue  # listed by `read`

    def write(
        self, images: list[Labelled], class_names: list[str], folder: Path, made_by: str
    ) -> None:
        """See `Format.write`. Ids begin with 1, as COCO's own do; a box keeps its score. Images of
        camera traps have the fields of COCO Camera Traps, as far as they are known.
        """
        ids = {name: number for number, name in enumerate(class_names, start=1)}
        rows: list[dict] = []
        annotations: list[dict] = []
        captures = _captures(images)
        for number, image in enumerate(images, start=1):
            height, width = image.size
            size = {"width": width, "height": height}
            own = captures.get(image.file_name, {})
            rows.append({"id": number, "file_name": image.file_name, **size, **own})
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


def _captures(images: list[Labelled]) -> dict[str, dict[str, Any]]:
    """Return, by file name, where and when camera traps took images, as COCO Camera Traps says it:
    location, datetime, and of a sequence seq_id, frame_num (from 1) and seq_num_frames.
    """
    found: dict[str, dict[str, Any]] = {}
    frames: dict[tuple[str, str], list[Labelled]] = {}
    for image in images:
        if (capture := image.capture) is None:
            continue
        told = found[image.file_name] = {"location": capture.location}
        if capture.taken is not None:
            told["datetime"] = f"{capture.taken:%Y-%m-%d %H:%M:%S}"
        if capture.sequence is not None:
            frames.setdefault((capture.location, capture.sequence), []).append(image)
    for (_, sequence), several in frames.items():
        several.sort(
            key=lambda image: (found[image.file_name].get("datetime", ""), image.file_name)
        )
        for number, image in enumerate(several, start=1):
            found[image.file_name] |= {
                "seq_id": sequence,
                "frame_num": number,
                "seq_num_frames": len(several),
            }
    return found


@dataclass(frozen=True)
class _Content:
    """What one file holds.

    Attributes:
        file: the file.
        split: that its folder stands for, or None.
        images: its images, by id; None for an id that several have.
        categories: class names, by id; None likewise.
        annotations: what is marked.
        bases: folders in which images may be, the likeliest first.
        upright: whether boxes are drawn on the upright images, whatever the sizes say.
        several: whether there are other files.
        places: where each image may lie, by its id, as far as it was asked for.
    """

    file: Path
    split: str | None
    images: dict[str, Any]
    categories: dict[str, str | None]
    annotations: list[Any]
    bases: list[Path]
    upright: bool
    several: bool
    places: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def where(self, number: int) -> str:
        """Return what to call an annotation."""
        place = f"{self.file.parent.name}/" if self.several else ""
        return f"{place}annotation {number}"

    def problem(self, where: str, problem: str, label: str = "") -> RawBox:
        """Return an annotation that can't be used."""
        return RawBox(where, (), label, None, False, split=self.split, problem=problem)

    def mark(self, where: str, annotation: dict, box: Sides | None) -> RawBox:
        """Return an annotation's mark.

        Raises:
            KeyError, TypeError, AttributeError: if it is not written as in COCO.
        """
        image_id, category_id = _key(annotation["image_id"]), _key(annotation["category_id"])
        for kind, known, own in (
            ("images", self.images, image_id),
            ("categories", self.categories, category_id),
        ):
            if own not in known:
                single = "image" if kind == "images" else "category"
                return self.problem(where, f"its {single}_id {own!r} is not in the file")
            if known[own] is None:
                return self.problem(where, SAME_ID.format(kind, own))
        image, label = self.images[image_id], str(self.categories[category_id])
        name = str(image["file_name"])
        if image_id not in self.places:
            written = spellings(name)
            if self.upright:  # users have their pictures under the names before the upload
                written.append(PurePosixPath(written[-1].replace("\\", "/")).name)
            ways = [base / way for way in written for base in self.bases]
            self.places[image_id] = tuple(dict.fromkeys(ways))
        size = whole_size(image.get("height"), image.get("width"))
        return RawBox(
            where,
            self.places[image_id],
            label,
            box,
            False,
            size,
            self.split,
            source=name,
            upright=self.upright,
        )


def _contents(path: Path, root: Path) -> Iterator[_Content]:
    """Yield what each file at a path holds.

    Raises:
        InvalidArgument: if one can't be read at all.
    """
    files = _files(path)
    for file, split in files:
        try:
            content = read_json(file)
            images = _by_id(content["images"], lambda image: image.get("file_name"))
            named = [c for c in content["categories"] if isinstance(c["name"], str | int | float)]
            categories = _by_id(named, lambda category: str(category["name"]).strip())
            annotations = list(content["annotations"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidArgument(
                f"'{file}' is no COCO file: it needs images, annotations and categories "
                f"({type(error).__name__}: {error}).{of_another_tool(peek(file))}"
            ) from None
        places = (file.parent, root) if split is not None else (root, file.parent)
        yield _Content(
            file,
            split,
            images,
            {key: one and str(one["name"]).strip() for key, one in categories.items()},
            annotations,
            [f for base in (*places, file.parent.parent) for f in (base, base / "images")],
            _is_label_studio(content),
            len(files) > 1,
        )


def _by_id(rows: list[Any], what: Any) -> dict[str, Any]:
    """Return rows by their ids; None for an id that rows of different names have."""
    found: dict[str, Any] = {}
    for row in rows:
        key = _key(row["id"])
        same = key not in found or (found[key] is not None and what(found[key]) == what(row))
        found[key] = row if same else None
    return found


def _key(value: object) -> str:
    """Return an id as it is compared: the number 1 and the text "1" are one.

    Raises:
        TypeError: if it is neither number nor text.
    """
    if not isinstance(value, str | int | float):
        raise TypeError("an id that is neither number nor text")
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _has_shape(annotation: dict) -> bool:
    return bool(annotation.get("bbox") or annotation.get("segmentation"))


def _sides(annotation: dict) -> Sides | None:
    """Return an annotation's `xyxy` box: its bbox, or else that of its polygons or mask; None
    where a side is no number.

    Raises:
        ValueError, TypeError: if there is no such thing.
    """
    shape = annotation.get("segmentation")
    if annotation.get("bbox"):
        x, y, width, height = annotation["bbox"]
        values = numbers(x, y, width, height)
        if values is None:
            return None
        if shape and not (values[2] or values[3]):  # of tools that leave the box at zero
            return _sides({"segmentation": shape})
        return values[0], values[1], values[0] + values[2], values[1] + values[3]
    if isinstance(shape, dict):
        return box_of_runs(shape["size"], shape["counts"])
    return box_of_polygons(shape or ())


def _is_label_studio(content: dict) -> bool:
    """Whether Label Studio wrote a file. Its sizes are those of the stored images, its boxes those
    of the upright ones.
    """
    info = content.get("info")
    said = (
        f"{info.get('contributor', '')} {info.get('description', '')}"
        if (isinstance(info, dict))
        else ""
    )
    return "label studio" in said.casefold()


def _files(path: Path) -> list[tuple[Path, str | None]]:
    """Return the COCO files with the splits they stand for: the path itself, the only one in the
    folder and its `annotations`, or else one in each folder of a split.

    Raises:
        InvalidArgument: if a folder holds several.
    """
    if path.is_file():
        return [(path, None)] if path.suffix.lower() == ".json" else []
    own = _only(path, path / "annotations")
    if own is not None:
        return [(own, None)]
    splits = [(_only(path / name), split) for name, split in SPLIT_FOLDERS.items()]
    return [(file, split) for file, split in splits if file is not None]


def _only(*folders: Path) -> Path | None:
    """Return the COCO file of folders: the one that is told by its content or, if none is, by its
    name; None if there is none.

    Raises:
        InvalidArgument: if there are several.
    """
    files = [file for folder in folders for file in _json_files(folder)]
    found = [file for file in files if _holds_coco(file)] or [
        file
        for file in files
        if any(fnmatchcase(file.name.casefold(), name) for name in NAMES)
        and '"detection_categories"' not in peek(file)  # MegaDetector's
    ]
    if len(found) > 1:
        names = ", ".join(f"'{file.relative_to(folders[0]).as_posix()}'" for file in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InvalidArgument(
            f"'{folders[0]}' holds {len(found)} COCO files: {names}{more}. Give the one to read "
            "instead of the folder."
        )
    return found[0] if found else None


def _json_files(folder: Path) -> list[Path]:
    try:
        files = sorted(folder.iterdir())
    except OSError:  # not there, or it can't be read, which is told where its images are
        return []
    return [
        file
        for file in files
        if file.suffix.lower() == ".json"
        and file.name not in NOT_COCO
        and not is_passed_over(file.name)
        and file.is_file()
    ]


def _holds_coco(file: Path) -> bool:
    """Whether a file is COCO by its content: an object with all three lists of COCO's. It is
    looked through piece by piece, since lists of any length may lie between.
    """
    missing, end, first = set(LISTS), b"", True
    try:
        with open_regular(file) as stream:
            while piece := stream.read(PEEK):
                if first and not piece.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
                    return False
                seen, first = end + piece, False
                missing = {one for one in missing if not one.search(seen)}
                if not missing:
                    return True
                end = seen[-LONGEST_START:]
    except OSError:  # told by its name, if at all, and refused when it is read
        return False
    return False
