"""The tables of a run and the pictures drawn beside them: whole or not at all, one run at a time, never over what is not ours."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .dataset import PictureFile
from .errors import InvalidArgument
from .home import lock_folder, write_atomic, writing


class TableWriter:
    """Writes NAME.jsonl and NAME.csv, which appear under their names only when the run is complete, and pictures.

    Args:
        output: the folder; made if need be. What an earlier run wrote there is replaced, other files are left alone.
        name: of the tables.
        columns: of the csv.
        folders: folders in `output` that pictures are drawn into; none: tables only.
        marker: name of the file that says that those folders are ours.
        pictures_of: tells which pictures, by path relative to `output`, a row of the jsonl speaks of.

    Raises:
        InvalidArgument: `output` is a file, holds folders of somebody else's by these names, or another run writes to it.
        OutputError: it can't be written.
    """

    def __init__(
        self, output: Path, name: str, columns: Sequence[str], folders: Sequence[str], marker: str, pictures_of: Callable[[dict], Iterable[str]]
    ) -> None:
        self.output, self._name = output, name
        if output.exists() and not output.is_dir():
            raise InvalidArgument(f"'{output}' is a file; results need a folder. Choose another with -o.")
        ours = any((output / known).exists() for known in (marker, f"{name}.jsonl"))
        for folder in folders:
            if not ours and (output / folder).exists():
                raise InvalidArgument(f"'{output / folder}' was there before and is no result of wordsight. Choose another folder with -o.")
        self._old = _listed(output, name, pictures_of) if ours else set()
        self._new: set[str] = set()
        self._naming = threading.Lock()
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(output)
            if folders:
                (output / marker).touch()
            self._lines = open(self._unfinished("jsonl"), "w", encoding="utf-8")  # noqa: SIM115
            self._table = open(self._unfinished("csv"), "w", newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
            self._rows = csv.writer(self._table)
            self._rows.writerow(columns)

    def add(self, record: dict, rows: Iterable[Sequence]) -> None:
        """Add an object to the jsonl and rows to the csv; lists and dicts within a row become JSON."""
        with writing(self.output):
            self._lines.write(json.dumps(record) + "\n")
            for row in rows:
                self._rows.writerow([json.dumps(value) if isinstance(value, dict | list) else value for value in row])

    def reserve(self, path: str, suffix: str) -> str:
        """Return a path with the suffix that no other picture of this run has. Safe from many threads."""
        with self._naming:
            chosen = with_suffix(path, suffix)
            while chosen in self._new:  # a.png and a.png.jpg side by side
                path += "~"
                chosen = with_suffix(path, suffix)
            self._new.add(chosen)
        return chosen

    def keep(self, path: str) -> None:
        """Note a picture that this run wrote by other means than `write`."""
        self._new.add(path)

    def write(self, path: str, data: bytes) -> None:
        """Write a picture under a path that was reserved."""
        with writing(self.output):
            write_atomic(self.output / path, data)

    def finish(self) -> None:
        """Put the tables in place and remove what an earlier run drew and this one did not."""
        with writing(self.output):
            self._lines.close()
            self._table.close()
            for kind in ("jsonl", "csv"):
                os.replace(self._unfinished(kind), self.output / f"{self._name}.{kind}")
            for stale in self._old - self._new:
                (self.output / stale).unlink(missing_ok=True)

    def close(self) -> None:
        """Drop what is unfinished (an earlier run's tables stay as they were), and let others write here."""
        for file, kind in ((self._lines, "jsonl"), (self._table, "csv")):
            with contextlib.suppress(OSError):  # a full disk may refuse even the last buffer, which is being dropped anyway
                file.close()
            self._unfinished(kind).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _unfinished(self, kind: str) -> Path:
        return self.output / f".{self._name}.{kind}.part"


def refuse_photos_among_results(pictures: list[PictureFile], output: Path, names: Iterable[str]) -> None:
    """Refuse to draw over the very photos that are read.

    Raises:
        InvalidArgument: a photo lies in one of the folders `names` of `output`, where results would be drawn.
    """
    ours = [(output / name).resolve() for name in names]
    for folder in {picture.path.parent for picture in pictures}:
        if any(folder.resolve().is_relative_to(path) for path in ours):
            raise InvalidArgument(f"The photos in '{folder}' lie where results would be drawn. Choose another folder with -o.")


def safe_name(name: str) -> str:
    """Return a relative path below which nothing can climb out."""
    return "/".join(part for part in name.split("/") if part not in ("", ".", ".."))


def with_suffix(name: str, suffix: str) -> str:
    """Return a file's relative path with a suffix added where it lacks it, its name shortened where it would be too long."""
    if name.lower().endswith(suffix):
        return name
    folder, slash, last = name.rpartition("/")
    if len(os.fsencode(last + suffix)) > 255:
        last = hashlib.sha256(os.fsencode(last)).hexdigest()[:24]
    return folder + slash + last + suffix


def _listed(output: Path, name: str, pictures_of: Callable[[dict], Iterable[str]]) -> set[str]:
    """Return the pictures, by path relative to `output`, that an earlier run's table speaks of."""
    drawn: set[str] = set()
    try:
        with open(output / f"{name}.jsonl", encoding="utf-8") as lines:
            for line in lines:
                drawn.update(pictures_of(json.loads(line)))
    except (OSError, ValueError, AttributeError, KeyError, IndexError, TypeError):
        return set()  # no table of ours: nothing here is ours to remove
    root = output.resolve()
    return {path for path in drawn if (output / path).parent.resolve().is_relative_to(root)}
