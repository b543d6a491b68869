"""What is known of each photo: what results say, and over it what people decided."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...classification.predictions import NONE_OF_THESE
from ...core.home import expand
from ...core.regular import read_regular
from ...datasets.decisions import ANSWERS, REVIEW, ReviewBook, unreadable
from ...datasets.files import find_images
from ...datasets.foreign_tables import heading, read_table
from ...errors import InvalidArgument, NotFound
from ...words.class_names import is_catch_all
from ..result_tables import find_table, photos_of, read_rows, sources_of

CORRECTIONS, CHECKED = "corrections*.csv", "checked"  # of a report, and the column of a decision
TABLES = ("predictions.jsonl", "recognition.jsonl")
NEITHER = (
    "'{path}' holds neither results (one of {tables}) nor photos with labels (metadata.csv, or a "
    "folder a class). Give the folder that 'wordsight run', 'predict' or 'recognize' wrote, or "
    "photos that were reviewed or taught."
)


@dataclass(frozen=True)
class PhotoLabel:
    """What is known of one photo.

    Attributes:
        file_name: path relative to the folder of photos.
        path: where the photo is; None where it is not there any more.
        status: "labelled", "unsure", "none_of_these", "empty" or "unreadable".
        labels: its classes, the surest first; empty where it has none.
        guess: the best guess for a photo without a label, or None.
        probability: that the label, or else the guess, is right, 0–1; None where a person decided,
            and where nothing says.
        probabilities: the same by class.
        checked_by: "review", "teach" or "report" where a person decided, else "".
        error: why the file could not be read, or None.
    """

    file_name: str
    path: Path | None
    status: str
    labels: tuple[str, ...] = ()
    guess: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    checked_by: str = ""
    error: str | None = None


def read_photo_labels(
    source: str | os.PathLike | ReviewBook,
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    moved: bool = False,
) -> tuple[list[PhotoLabel], list[Path]]:
    """Return what is known of each photo, in order, and the folders in which they lie.

    Decisions of people count before what results say: those of metadata.csv beside the photos, then
    those of a report's corrections.csv there.

    Args:
        source: folder of results, a .jsonl table in one, or a folder of labelled photos, opened
            for review or not.
        photos: where the photos of results are, if they were moved.
        moved: whether there may be no photo any more, as all were moved by us.

    Raises:
        NotFound: if there is no such folder.
        InvalidArgument: if it holds no results and no labels, or a table can't be read.
    """
    if isinstance(source, ReviewBook):
        return _of_book(source), [source.root]
    path = expand(source)
    if path.name not in TABLES and not path.is_dir():
        raise NotFound(f"No such folder: '{source}'. Give a folder of results or of photos.")
    if path.is_dir() and not any((path / name).is_file() for name in TABLES):
        if photos is not None:
            raise InvalidArgument(
                f"--photos says where the photos of results are; '{path}' holds no results. "
                "Leave it out."
            )
        gone = moved and not _holds_images(path)
        return ([] if gone else _of_book(ReviewBook(path))), [path]
    table = find_table(path, TABLES)
    rows = list(read_rows(table, _of_row))
    folders = [expand(one) for one in sources_of(table, photos)]
    try:
        places = {name: image.path for name, image in photos_of(table, photos).items()}
    except InvalidArgument:
        if not moved:
            raise
        places = {}
    decided = {**_corrected(folders, places.values()), **_decisions(folders)}
    found = []
    for row in rows:
        there = places.get(row.file_name)
        now = decided.get(there.resolve()) if there is not None else None
        found.append(replace(row if now is None else _decided_over(row, now), path=there))
    return found, folders


def _of_row(row: dict) -> PhotoLabel:
    """Return what a row of predictions.jsonl or recognition.jsonl says; 0.1 wrote no status."""
    label, probability, error = row["label"], row["probability"], row["error"]
    labels = row.get("labels") or ([] if label is None else [row])
    names = [str(one["label"]) for one in labels]
    said = (
        "unreadable"
        if error is not None
        else "labelled"
        if names
        else NONE_OF_THESE
        if probability is None
        else "unsure"
    )
    status = str(row.get("status") or said)
    name, guess = str(row["file_name"]), row["top_label"]
    if names and is_catch_all(names[0]):
        status, names = NONE_OF_THESE, []
    return PhotoLabel(
        name,
        None,
        status,
        tuple(one for one in names if not is_catch_all(one)),
        str(guess) if status == "unsure" and guess is not None else None,
        float(probability)
        if status in ("labelled", "unsure") and probability is not None
        else None,
        {str(key): float(value) for key, value in (row.get("probabilities") or {}).items()},
        error=None if error is None else str(error),
    )


def _of_book(book: ReviewBook) -> list[PhotoLabel]:
    """Return what the labels of a folder say: those of its table, or else of its subfolders.

    Raises:
        InvalidArgument: if there are none.
    """
    found = [_in_book(book, name) for name in book.images]
    if not any(one.labels or one.checked_by for one in found):
        raise InvalidArgument(NEITHER.format(path=book.root, tables=", ".join(TABLES)))
    return found


def _holds_images(root: Path) -> bool:
    try:
        return bool(find_images([root]).images)
    except InvalidArgument:
        return False


def _in_book(book: ReviewBook, name: str) -> PhotoLabel:
    """Return what the labels of a folder say of one of its images."""
    label, decided = book.label(name), book.reviewed(name)
    told = book.cell(name, ANSWERS)
    by = "teach" if told else "review" if decided else ""
    labels = [] if label is None else [label, *_other_words(told, label)]
    named = tuple(one for one in labels if not is_catch_all(one))
    nothing = not named and (label is not None or decided == "rejected")
    status = "labelled" if named else NONE_OF_THESE if nothing else "unsure"
    return PhotoLabel(name, book.images[name].path, status, named, checked_by=by)


def _other_words(told: str, label: str) -> list[str]:
    """Return the words beside `label` that an answer says a photo shows."""
    try:
        words = json.loads(told or "{}")["words"]
        return [str(word) for word, there in words.items() if there and word != label]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _decisions(folders: Iterable[Path]) -> dict[Path, PhotoLabel]:
    """Return what people decided on the photos of these folders, by where each is.

    Raises:
        InvalidArgument: if a table of decisions can't be read.
    """
    decided = {}
    for folder in folders:
        table = folder / "metadata.csv"
        if table.is_file() and _has_decisions(table) and _holds_images(folder):
            book = ReviewBook(folder)
            for name, image in book.images.items():
                one = _in_book(book, name)
                if one.checked_by:
                    decided[image.path.resolve()] = one
    return decided


def _has_decisions(table: Path) -> bool:
    try:
        return REVIEW.encode() in read_regular(table)
    except OSError as error:
        raise InvalidArgument(unreadable(table, error)) from None


def _corrected(folders: Iterable[Path], photos: Iterable[Path]) -> dict[Path, PhotoLabel]:
    """Return what people corrected in a report, by where each photo is. Its tables lie in the
    folder of photos or, where there are several, in the one that holds all of them.

    Raises:
        InvalidArgument: if a table can't be read.
    """
    parents = {path.parent.absolute() for path in photos}
    whole = set()
    with suppress(ValueError):  # no photo, or on several drives
        whole.add(Path(os.path.commonpath(parents)))
    decided = {}
    for folder in {*(one.absolute() for one in folders if one.is_dir()), *whole}:
        for table in sorted(folder.glob(CORRECTIONS)):
            rows = read_table(table)
            columns = [heading(name) for name in next(rows, [])]
            if not {"file_name", "label", CHECKED} <= set(columns):
                continue  # somebody else's
            for row in (dict(zip(columns, cells, strict=False)) for cells in rows):
                name, label = row.get("file_name", ""), row.get("label", "").strip()
                if row.get(CHECKED) == "yes" and name and label:
                    nothing = is_catch_all(label)
                    with suppress(ValueError):  # no file can have such a name
                        decided[(folder / name).resolve()] = PhotoLabel(
                            name,
                            None,
                            NONE_OF_THESE if nothing else "labelled",
                            () if nothing else (label,),
                            checked_by="report",
                        )
    return decided


def _decided_over(row: PhotoLabel, decided: PhotoLabel) -> PhotoLabel:
    """Return a row with what a person decided instead of what was said."""
    if row.status == "unreadable":
        return row
    return replace(
        row,
        status=decided.status,
        labels=decided.labels,
        guess=None,
        probability=None,
        checked_by=decided.checked_by,
    )
