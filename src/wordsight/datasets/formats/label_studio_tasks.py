"""The tasks of Label Studio: its JSON, JSON-MIN and CSV, and where the images of tasks lie."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ...core.names import lies_inside
from ...errors import InvalidArgument
from ...images.finding import UPLOADED
from ...images.signatures import looks_like_image
from ..foreign_tables import TABLE_SUFFIXES, heading, read_table
from .base import of_another_tool, peek, read_json

LOCAL = "/data/local-files/"  # what Label Studio serves files of this machine under
# what is left of the name of an uploaded file
_TAKEN_OUT = re.compile(r"[^-\w.]")
# what a row of JSON-MIN or CSV holds beside the image and the answers
ABOUT = {
    *("id", "annotator", "annotation_id", "annotation", "created_at", "updated_at", "lead_time"),
    *("agreement", "task_id", "completed_by"),
}
BADLY_WRITTEN = "is not written as Label Studio's tasks are"


@dataclass
class Task:
    """One task.

    Attributes:
        where: what to call it.
        address: what it calls its image.
        results: what was marked, as in the JSON.
        problem: why it can't be used, or None.
        images: its images, by the keys of its data.
    """

    where: str
    address: str = ""
    results: list[dict] = field(default_factory=list)
    problem: str | None = None
    images: dict[str, str] = field(default_factory=dict)


class Places:
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
        parts_of = urlsplit(address)
        local = parts_of.path.endswith(LOCAL) and parse_qs(parts_of.query).get("d")
        name = local[0] if local else unquote(parts_of.path)
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return ()
        ends = ["/".join(parts[begin:]) for begin in range(len(parts))]
        plain = UPLOADED.sub("", parts[-1], count=1) if UPLOADED.match(parts[-1]) else parts[-1]
        ends += [f"images/{parts[-1]}", plain, f"images/{plain}"]
        direct = [base / end for end in ends for base in self._bases]
        return tuple(dict.fromkeys([*direct, *self._written_otherwise(plain)]))

    def _written_otherwise(self, name: str) -> list[Path]:
        """Return the only image whose name, with blanks and brackets, Label Studio would write so
        when it is uploaded.
        """
        if self._named is None:
            self._named = {}
            for folder in [f for base in self._bases for f in (base, base / "images")]:
                inside = any(lies_inside(folder, base) for base in self._bases)
                for path in folder.iterdir() if inside and folder.is_dir() else ():
                    written = _TAKEN_OUT.sub("", path.name.strip().replace(" ", "_"))
                    if written != path.name:
                        self._named.setdefault(written, []).append(path)
        found = self._named.get(name, [])
        return found if len(found) == 1 else []


def file_of(path: Path) -> Path | None:
    """Return the file that is meant: the one given, or a folder's tasks.json, or its only JSON
    under the name that Label Studio gives to an export.
    """
    if path.is_file():
        return path
    if (path / "tasks.json").is_file():
        return path / "tasks.json"
    exports = [file for file in path.glob("project-*-at-*.json") if file.is_file()]
    return exports[0] if len(exports) == 1 else None


def tasks(path: Path) -> Iterator[Task]:
    """Yield the tasks of a file.

    Raises:
        InvalidArgument: if it can't be read at all.
    """
    file = file_of(path)
    assert file is not None
    rows: Any = _csv_rows(file) if file.suffix.lower() in TABLE_SUFFIXES else read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidArgument(
            f"'{file}' is no file of Label Studio's tasks: it needs a list of them, each with its "
            "data."
        )
    if rows and not any("data" in row or not ABOUT.isdisjoint({*row} - {"id"}) for row in rows):
        raise InvalidArgument(
            f"'{file}' is a list, as Label Studio's tasks are, and none of it has their data. "
            "Known JSON is that of Label Studio, COCO (images, annotations and categories; results "
            f"alone name no pictures), LabelMe and MegaDetector.{of_another_tool(peek(file))}"
        )
    for number, row in enumerate(rows, start=1):
        where = f"task {number}"
        try:
            yield (
                read_whole_task(where, row)
                if isinstance(row.get("data"), dict)
                else _short(where, row)
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, StopIteration):
            yield Task(where, problem=BADLY_WRITTEN)


def read_whole_task(where: str, task: dict) -> Task:
    """Return a task of the full JSON."""
    data = task["data"]
    images = {key: value for key, value in data.items() if _names_image(value)}
    texts = [value for value in data.values() if isinstance(value, str)]
    address = str(data.get("image") or next(iter([*images.values(), *texts])))
    drawn = [one for one in task.get("annotations") or [] if not one.get("was_cancelled")]
    if task.get("annotations") and not drawn:
        return Task(where, address, problem="was skipped by its annotator")
    true = [one for one in drawn if one.get("ground_truth")]
    chosen = (true or drawn or task.get("predictions") or [])[:1]
    results = [dict(result) for result in chosen[0]["result"]] if chosen else []
    answers = {_choices(one) for one in drawn} if not true else set()
    if len(answers) > 1:
        said = " and ".join(sorted(", ".join(answer) or "nothing" for answer in answers))
        return Task(where, address, problem=f"its annotators disagree: {said}")
    return Task(where, address, results, images=images)


def _choices(annotation: dict) -> tuple[str, ...]:
    """Return what an annotator has chosen, in order."""
    return tuple(
        sorted(
            name
            for result in annotation["result"]
            if result.get("type") == "choices" and not is_of_region(result)
            for name in value_of(result, "choices")[1]
        )
    )


def is_of_region(result: dict) -> bool:
    """Whether a choice is about a part of the image, as `perRegion` makes it."""
    value = result.get("value")
    return isinstance(value, dict) and any(key in value for key in ("x", "points", "rle"))


def marks(task: Task) -> Iterator[dict]:
    """Yield the results of a task that mark a part of the image; a choice about one that no label
    names is its label.
    """
    named = {
        result.get("id") for result in task.results if str(result.get("type")).endswith("labels")
    }
    for result in task.results:
        kind = str(result.get("type", ""))
        by_choice = kind == "choices" and is_of_region(result) and result.get("id") not in named
        if kind.endswith("labels") or by_choice:
            yield result


def address_of(task: Task, result: dict) -> str | None:
    """Return the image that a mark is about; None where its task has several and the mark doesn't
    tell by the key of one.
    """
    about = result.get("to_name")
    several = len({other.get("to_name") for other in task.results}) > 1
    if about in task.images and ("image" not in task.images or several):
        return task.images[about]
    if several or ("image" not in task.images and len(task.images) > 1):
        return None
    return task.address


def _short(where: str, row: dict) -> Task:
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
    return Task(where, str(answers[key]), results)


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


def value_of(result: dict, kind: str) -> tuple[dict, list[str]]:
    """Return a result's value, and the names in it; at least one, which may be empty."""
    value = result.get("value")
    value = value if isinstance(value, dict) else {}
    names = value.get(kind)
    return value, [name if isinstance(name, str) else "" for name in names] if isinstance(
        names, list
    ) and names else [""]
