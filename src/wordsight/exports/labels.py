"""Write accepted results as labels that other tools load, with the images beside them."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from .. import __version__
from ..backbones.embedder import read
from ..core.home import expand, writing
from ..core.names import legible, safe_name
from ..core.progress import Progress, or_notebook
from ..core.summary import Problems, Table, as_html, as_text, unreadable_as_dicts
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..datasets.formats import Capture, Format, Labelled, Region, list_formats
from ..datasets.surveys import camera_of, find_survey, list_survey_keys
from ..errors import InvalidArgument, UnreadableImage
from ..images.decoding import header, storable
from ..images.signatures import USUAL_SUFFIXES
from ..images.taken import taken_at
from .label_folder import new_labels
from .result_tables import find_table, photos_of, read_rows

LONGEST_NAME = 150  # bytes of a file's name, so that any suffix and any tool's own additions fit


@dataclass
class Prelabels:
    """An export that was written.

    Attributes:
        format: key of the format.
        output: the folder.
        images: how many images are in it.
        regions: how many boxes are in it.
        class_names: in the order of their ids.
        left_out: how many images were left out for want of an accepted label.
        skipped: (file name, reason) of each image that could not be included.
        copied_bytes: size of the images in it; None where they stay where they are.
        lacks: sentences on what is missing in it.
        next_step: how a tool takes it, in a sentence, or "".
    """

    format: str
    output: Path
    images: int = 0
    regions: int = 0
    class_names: list[str] = field(default_factory=list)
    left_out: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    copied_bytes: int | None = 0
    lacks: list[str] = field(default_factory=list)
    next_step: str = ""

    @property
    def complete(self) -> bool:
        """Whether every image could be included, and nothing is missing."""
        return not self.skipped and not self.lacks

    def tables(self) -> list[Table]:
        """Return how much was written."""
        counts = {
            "pictures": self.images,
            "boxes": self.regions,
            "left out, no accepted label": self.left_out,
        }
        return [Table([self.format, ""], [[name, str(count)] for name, count in counts.items()])]

    def notes(self) -> list[str]:
        """Return the classes, where the labels are, and how a tool takes them."""
        copies = (
            ""
            if self.copied_bytes is None
            else (f" (with copies of the photos, {self.copied_bytes / 2**20:.0f} MiB)")
        )
        notes = [
            f"Classes: {', '.join(self.class_names)}",
            f"Labels: {self.output}/{copies}",
            *self.lacks,
            *([self.next_step] if self.next_step else []),
        ]
        if self.format == "label-studio":
            notes += [
                "In Label Studio: config.xml is the labelling interface, tasks.json is "
                "imported; it serves the pictures where this folder is its",
                "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT and "
                "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED is true.",
            ]
        return notes

    def problems(self) -> list[Problems]:
        """Return the images that could not be included."""
        return [Problems("Not written", self.skipped, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"Labels of {self.images:,} pictures", self)

    def to_dict(self) -> dict:
        """Return everything, ready for JSON."""
        return {
            "format": self.format,
            "output": str(self.output),
            "pictures": self.images,
            "regions": self.regions,
            "class_names": self.class_names,
            "left_out": self.left_out,
            "skipped": unreadable_as_dicts(self.skipped),
            "copied_bytes": self.copied_bytes,
            "lacks": self.lacks,
        }


@dataclass(frozen=True)
class SurveyRequest:
    """What a survey is written from; fields as in `prelabel`."""

    results: str | os.PathLike
    output: str | os.PathLike | None
    all: bool
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None
    boxes: str | os.PathLike | None
    deployments: str | os.PathLike | None
    project: str | os.PathLike | None
    timezone: str | None


@dataclass(frozen=True)
class _Row:
    """One row of a table of results, of whichever command.

    Attributes:
        file_name: path relative to the given folder.
        label: accepted label, or with `all` the best guess, or None.
        score: probability of the label.
        regions: accepted boxes, in pixels of the upright original.
        accepted: whether there is an accepted label or box.
        others: further accepted labels.
        capture: of a camera trap: where and when, else None.
    """

    file_name: str
    label: str | None
    score: float | None
    regions: list[Region]
    accepted: bool
    others: tuple[str, ...] = ()
    capture: Capture | None = None


def prelabel(
    results: str | os.PathLike,
    format: str = "coco",
    *,
    output: str | os.PathLike | None = None,
    all: bool = False,
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    boxes: str | os.PathLike | None = None,
    deployments: str | os.PathLike | None = None,
    project: str | os.PathLike | None = None,
    timezone: str | None = None,
    progress: Progress | None = None,
) -> Prelabels:
    """Write results of `run`, `predict`, `detect` or `recognize` as labels in another tool's
    format, with the images beside them.

    Images are copied, because some of those tools change files in place. Images that EXIF turns are
    written upright, because some tools ignore that mark. Boxes are in the upright image.

    Args:
        results: results folder, or a .jsonl table in one. If a folder has several tables,
            predictions come before detections, and those before recognitions.
        format: "coco", "yolo", "voc", "label-studio", "csv" or "hf"; of camera traps
            "megadetector", "timelapse" or "camtrap-dp", which leave the photos where they are.
        output: folder to write; default: `prelabels/FORMAT` in the results folder.
        all: whether to include rejected images, under their best guess; their scores show which.
        photos: where the photos are, if they were moved.
        boxes: MegaDetector's JSON, if it was moved.
        deployments: of "camtrap-dp": a table with deploymentID, latitude and longitude.
        project: of "camtrap-dp": JSON with what only you know, such as contributors and project.
        timezone: of "camtrap-dp": of the cameras' clocks, such as "+01:00" or "Europe/Berlin".
        progress: called with (done, total, "images").

    Raises:
        NotFound: if there are no such results.
        InvalidArgument: if the format is unknown, there is nothing to write, or the folder is not
            ours.
        OutputError: if it can't be written.
    """
    progress = or_notebook(progress)
    survey = find_survey(format)
    if survey is not None:
        from .surveys import write_survey

        told = SurveyRequest(results, output, all, photos, boxes, deployments, project, timezone)
        return write_survey(survey, told, progress)
    if boxes or deployments or project or timezone:
        raise InvalidArgument(
            f"Format '{format}' takes none of --boxes, --deployments, --project and --timezone. "
            f"Leave them out, or choose one of: {', '.join(list_survey_keys())}."
        )
    chosen = _format(format)
    table = find_table(expand(results))
    target = table.parent / "prelabels" / format if output is None else expand(output)
    rows = [row for row in read_rows(table, _reader(table.name, all)) if row is not None]
    kept = [row for row in rows if row.accepted or all]
    result = Prelabels(
        format, target, class_names=_class_names(kept, table), left_out=len(rows) - len(kept)
    )
    places = photos_of(table, photos)
    with new_labels(target) as hidden:
        with writing(target):
            (hidden / chosen.images).mkdir(parents=True)
        labelled = _place_all(kept, places, hidden / chosen.images, result, progress)
        with writing(target):
            chosen.write(labelled, result.class_names, hidden, f"wordsight {__version__}")
    result.images, result.regions = len(labelled), sum(len(one.regions) for one in labelled)
    return result


def _format(key: str) -> Format:
    """Return the format of this key.

    Raises:
        InvalidArgument: if there is none.
    """
    formats = [format for format in list_formats() if format.writes]
    for format in formats:
        if format.key == key:
            return format
    raise InvalidArgument(
        f"Unknown format '{key}'. Choose one of: "
        f"{', '.join([*(one.key for one in formats), *list_survey_keys()])}."
    )


def _class_names(rows: list[_Row], table: Path) -> list[str]:
    """Return all labels of rows and their boxes, sorted.

    Raises:
        InvalidArgument: if there is none, or if one is no text.
    """
    names = {region.label for row in rows for region in row.regions}
    names |= {name for row in rows for name in (row.label, *row.others) if name is not None}
    if not names:
        raise InvalidArgument(
            f"No picture in '{table}' has an accepted label, so there is nothing to write. "
            "--all takes best guesses, too; "
            "another table is taken where it is named, such as 'results/detections.jsonl'."
        )
    for name in names:
        if name != legible(name):
            raise InvalidArgument(
                f"Labels for other tools must be text in UTF-8, got '{legible(name)}'. Rename the "
                "class and train again."
            )
    return sorted(names)


def _place_all(
    rows: list[_Row],
    places: dict[str, ImageFile],
    folder: Path,
    result: Prelabels,
    progress: Progress | None,
) -> list[Labelled]:
    """Put the images of rows into the export; note in `result` what they take and which are
    missing.

    Raises:
        InvalidArgument: if not one image can be read.
        OutputError: if one can't be written.
    """
    names = _Names()
    jobs = [(row, places.get(row.file_name), names.of(row.file_name)) for row in rows]
    labelled: list[Labelled] = []
    placed = parallel_map(lambda job: _place(job, folder), jobs, 4)
    for row, outcome in zip(rows, placed, strict=True):
        if isinstance(outcome, str):
            result.skipped.append((row.file_name, outcome))
        else:
            one, copied = outcome
            labelled.append(one)
            result.copied_bytes = (result.copied_bytes or 0) + copied
        if progress:
            progress(len(labelled) + len(result.skipped), len(rows), "pictures")
    if not labelled:
        name, reason = result.skipped[0]
        raise InvalidArgument(
            f"None of the {len(rows)} pictures can be read; the first: '{name}': {reason}. "
            "--photos says where they are."
        )
    return labelled


def _reader(table: str, everything: bool) -> Callable[[dict], _Row | None]:
    """Return what turns a line of a table into a row, or into None for a file that could not be
    read.
    """
    convert = {
        "predictions.jsonl": _prediction,
        "detections.jsonl": _detections,
        "recognition.jsonl": _recognition,
    }[table]
    return lambda row: convert(row, everything) if row["error"] is None else None


def _prediction(row: dict, everything: bool) -> _Row:
    label, score = row["label"], float(row["probability"] or 0.0)
    labels = row.get("labels") or ([] if label is None else [row])  # 0.1 wrote one label only
    regions = [
        Region(str(one["label"]), _sides(one["box_xyxy"]), float(one["probability"]))
        for one in [one for one in row.get("crops") or labels if one["label"] is not None]
        if one["box_xyxy"] is not None
    ]
    return _Row(
        str(row["file_name"]),
        row["top_label"] if everything and label is None else label,
        score,
        regions,
        label is not None,
        tuple(str(one["label"]) for one in labels[1:]),
        capture_of(row),
    )


def capture_of(row: dict) -> Capture | None:
    """Return where and when a camera trap took the photo of a row; None where nothing in it says
    that one did.
    """
    event = row.get("event")
    taken = row.get("taken_at") if row.get("time_source") == "camera" else None
    if "crops" not in row and not event:
        return None
    time = None
    with suppress(ValueError):
        time = datetime.fromisoformat(str(taken)).replace(tzinfo=None)
    camera = camera_of(str(row["file_name"]))
    return Capture(camera, time, None if event in (None, "") else str(event))


def _detections(row: dict, everything: bool) -> _Row:
    regions = [
        Region(str(d["label"]), _sides(d["xyxy"]), float(d["probability"]))
        for d in row["detections"]
    ]
    return _Row(str(row["file_name"]), None, None, regions, bool(regions))


def _recognition(row: dict, everything: bool) -> _Row:
    groups = [g for g in row["groups"] if g["found"]]
    regions = [
        Region(str(g["name"]), _sides(g["box_xyxy"]), float(g["probability"]))
        for g in groups
        if g["box_xyxy"] is not None
    ]
    best = next(iter(row["groups"] if everything else groups), None)
    return _Row(
        str(row["file_name"]),
        None if best is None else best["name"],
        None if best is None else float(best["probability"]),
        regions,
        bool(groups),
    )


def _sides(values: list) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = (float(value) for value in values)
    if not all(math.isfinite(side) for side in (x_min, y_min, x_max, y_max)):
        raise ValueError("a box whose sides are no numbers")
    return x_min, y_min, x_max, y_max


class _Names:
    """Names of images in the export: plain and without subfolders, which some tools do not search;
    every stem only once, because some tools identify images by it.
    """

    def __init__(self) -> None:
        self._stems: dict[str, str] = {}  # stem -> file name in the results

    def of(self, file_name: str) -> str:
        """Return a path for an image."""
        plain = "".join(
            "_" if c in '\\:*?"<>|%' or ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 else c
            for c in safe_name(file_name)
        )
        stem, dot, own = plain.replace("/", "__").rpartition(".")
        stem, own = (stem, dot + own) if stem else (own, "")
        while len(os.fsencode(stem)) > LONGEST_NAME:
            stem = (
                stem[: LONGEST_NAME // 4]
                + "-"
                + hashlib.sha256(os.fsencode(file_name)).hexdigest()[:12]
            )
        stem = stem.lstrip(".") or "picture"
        base, number = stem, 1
        while self._stems.setdefault(base.casefold(), file_name) != file_name:
            number += 1
            base = f"{stem}-{number}"
        return base + own


def _place(job: tuple[_Row, ImageFile | None, str], folder: Path) -> tuple[Labelled, int] | str:
    """Put an image into the export, upright.

    Returns:
        The labelled image and its size in bytes, or the reason why it can't be included.

    Raises:
        OutputError: if it can't be written.
    """
    row, file, name = job
    if file is None:
        return "the photo is not there any more"
    try:
        _, size, orientation = header(file.path)
        plain = orientation == 1 and file.path.suffix.lower() in USUAL_SUFFIXES
        data = None if plain else storable(read(file)[0])
    except UnreadableImage as error:
        return str(error)
    target = (folder / name) if data is None else (folder / name).with_suffix(data[1])
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            target.write_bytes(data[0])
            copied = len(data[0])
        else:
            shutil.copyfile(file.path, target)
            copied = target.stat().st_size
    height, width = size
    regions = []
    for region in row.regions:
        x_min, y_min, x_max, y_max = region.xyxy
        box = (
            max(0.0, x_min),
            max(0.0, y_min),
            min(float(width), x_max),
            min(float(height), y_max),
        )
        if box[0] < box[2] and box[1] < box[3]:
            regions.append(Region(region.label, box, region.score))
    capture = row.capture
    if capture is not None and capture.taken is None:
        capture = replace(capture, taken=taken_at(file.path))
    name = target.relative_to(folder).as_posix()
    return Labelled(name, size, row.label, row.score, regions, row.others, capture), copied
