"""The tables of a run and the images drawn beside them, in a `ResultFolder`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from . import cells
from .home import cache_folder, keep, sweep, write_atomic, writing
from .names import same_file_key
from .records import listed_in
from .regular import open_text, read_text
from .result_folder import ResultFolder

BOXES = "boxes"  # under which a detector's file is noted beside photos
HIDDEN = 80  # bytes that folders and names have while a run is not complete


class TableWriter:
    """Writes NAME.jsonl and NAME.csv, which appear under their names only when the run is complete,
    and images.

    Args:
        output: the folder; made if need be. What an earlier run wrote there is replaced, other
            files are left alone.
        name: of the tables.
        columns: of the csv.
        folders: folders in `output` that images are drawn into; none: tables only.
        marker: name of the file that 0.1.0 wrote there, which lists the folders that are ours.
        images_of: returns the images, by path relative to `output`, that a row of the jsonl speaks
            of.
        photos: folders, files and globs that are looked through, noted so that the photos are found
            again by their names.
        others: names of further files that the run writes.

    Raises:
        InvalidArgument: if `output` is a file, holds tables of somebody else's by these names, or
            another run writes to it.
        OutputError: if it can't be written.
    """

    def __init__(
        self,
        output: Path,
        name: str,
        columns: Sequence[str],
        folders: Iterable[str],
        marker: str,
        images_of: Callable[[dict], Iterable[str]],
        photos: Iterable[str | os.PathLike] = (),
        others: Iterable[str] = (),
    ) -> None:
        self.output = output
        self._photos = [os.path.abspath(os.path.expanduser(os.fspath(photo))) for photo in photos]
        self._name, self._tables = name, [*others, f"{name}.csv", f"{name}.jsonl"]
        listed = listed_in(output / marker)
        self._old = (
            set()
            if listed is None
            else {*_listed(output / f"{name}.jsonl", images_of, listed), *self._tables}
        )
        self._folder = ResultFolder(
            output, name, adopt=lambda path: path.relative_to(output).as_posix() in self._old
        )
        self._folder.claim([*self._tables, *self._foreign(folders)])
        self._taken = set[str]()  # paths, as file systems compare them that pass over case
        self._naming = threading.Lock()
        with writing(output), contextlib.ExitStack() as held:
            self._build = held.enter_context(self._folder.build())
            self._lines = self._open(f"{name}.jsonl", held, "utf-8")
            self._table = self._open(f"{name}.csv", held, cells.ENCODING)
            self._rows = cells.writer(self._table)
            self._rows.writerow(columns)
            self._held = held.pop_all()

    def _foreign(self, folders: Iterable[str]) -> list[str]:
        """Return those of the folders to draw into that hold files, and none of ours."""
        ours = {*(self._folder.record or ()), *self._old}
        return [
            folder
            for folder in folders
            if any(files for _, _, files in os.walk(self.output / folder))
            and not any(name.startswith(f"{folder}/") for name in ours)
        ]

    def _open(self, name: str, held: contextlib.ExitStack, encoding: str) -> TextIO:
        """Open an unfinished table, which is closed when `held` ends."""
        file = open(  # noqa: SIM115
            self._build.path / name, "w", newline="", encoding=encoding, errors="surrogateescape"
        )
        held.callback(_drop, file)
        return file

    def add(self, record: dict, rows: Iterable[Sequence]) -> None:
        """Add an object to the jsonl and rows to the csv; lists and dicts within a row become
        JSON.
        """
        with writing(self.output):
            self._lines.write(json.dumps(record) + "\n")
            for row in rows:
                self._rows.writerow(
                    [
                        json.dumps(value) if isinstance(value, dict | list) else value
                        for value in row
                    ]
                )

    def reserve(self, path: str, suffix: str = "") -> str:
        """Return a path with the suffix that no other image of this run has, nor a file of
        somebody else's. Safe from many threads.
        """
        with self._naming:
            chosen = shortened(self.output, with_suffix(path, suffix))
            # a.png and a.png.jpg side by side
            while same_file_key(chosen) in self._taken or not self._free(chosen):
                path += "~"
                chosen = shortened(self.output, with_suffix(path, suffix))
            self._taken.add(same_file_key(chosen))
        return chosen

    def _free(self, name: str) -> bool:
        return not os.path.lexists(self.output / name) or self._folder.is_ours(name)

    def link(self, path: str, source: Path) -> int:
        """Link a path that was reserved to a file, or copy that where links are not to be had;
        return the bytes that takes.
        """
        with writing(self.output):
            return self._build.link(path, source.resolve())

    def write(self, path: str, data: bytes) -> None:
        """Write an image under a path that was reserved."""
        with writing(self.output):
            self._build.write(path, data)

    def write_table(self, name: str, rows: Iterable[Sequence]) -> None:
        """Write a further table, one of `others`, of rows of cells."""
        text = io.StringIO()
        cells.writer(text).writerows(rows)
        self.write_file(name, cells.table_bytes(text.getvalue()))

    def path_for(self, name: str) -> Path:
        """Return where a file is written that is put in place by others."""
        return self._build.path / name

    def write_file(self, name: str, data: bytes, now: bool = False) -> None:
        """Write a file, one of `others`; `now` puts it in place before all else."""
        with writing(self.output):
            if now:
                self._build.place(name, data)
            else:
                self._build.write(name, data)

    def flush(self) -> None:
        """Write out the rows so far, for whoever reads the unfinished tables."""
        with writing(self.output):
            self._lines.flush()

    def write_pages(self, pages: Iterable[tuple[str, bytes]]) -> None:
        """Write a report's pages, given by name and content."""
        for name, data in pages:
            self.write_file(name, data)

    def finish(self) -> None:
        """Put images and tables in place, and remove what an earlier run wrote and this one
        did not.

        Raises:
            InvalidArgument: if somebody else's file has come in the meantime.
            OutputError: if it can't be written.
        """
        with writing(self.output):
            for file, kind in ((self._lines, "jsonl"), (self._table, "csv")):
                file.close()
                self._build.add(f"{self._name}.{kind}")
            self._build.commit(self._old, self._tables)
        if self._photos:
            note_photos(self.output, self._name, self._photos)

    def close(self) -> None:
        """Drop what is unfinished (what an earlier run wrote stays as it was), and let others
        write here.
        """
        self._held.close()


def note_photos(output: Path, name: str, photos: list[str]) -> None:
    """Note, among our own files, in which folders, files and globs the photos of a table of
    results were found.
    """
    noted = json.dumps(photos).encode("utf-8", "surrogateescape")
    sweep(cache_folder() / "photos")
    keep(_record(output, name), lambda record: write_atomic(record, noted, sync=False))


def noted_photos(output: Path, name: str) -> list[str] | None:
    """Return what `note_photos` noted of a table on this machine, or None."""
    try:
        return [
            str(photo)
            for photo in json.loads(read_text(_record(output, name), errors="surrogateescape"))
        ]
    except (OSError, ValueError, TypeError):
        return None


def _record(output: Path, name: str) -> Path:
    whole = os.fsencode(f"{os.path.realpath(output)}|{name}")
    return cache_folder() / "photos" / f"{hashlib.sha256(whole).hexdigest()[:32]}.json"


def with_suffix(name: str, suffix: str) -> str:
    """Return a file's relative path with a suffix added where it lacks it, its name shortened
    where it would be too long.
    """
    if name.lower().endswith(suffix):
        return name
    folder, slash, last = name.rpartition("/")
    if len(os.fsencode(last + suffix)) > 255:
        last = hashlib.sha256(os.fsencode(last)).hexdigest()[:24]
    return folder + slash + last + suffix


def shortened(folder: Path, path: str) -> str:
    """Return a path relative to a folder of results, all but its first parts replaced by a digest
    where the whole would be too long for a file.
    """
    whole = os.path.join(os.path.abspath(folder), path)
    if len(os.fsencode(whole)) + HIDDEN <= _longest_path():
        return path
    parts = path.split("/")
    head = parts[:2] if len(parts) > 2 else parts[:1]
    suffix = os.path.splitext(path)[1]
    suffix = suffix if len(os.fsencode(suffix)) <= 16 else ""
    return "/".join([*head, hashlib.sha256(os.fsencode(path)).hexdigest()[:24] + suffix])


@functools.cache
def _longest_path() -> int:
    """Return how many bytes a path may have."""
    try:
        return os.pathconf("/", "PC_PATH_MAX") - 1
    except (AttributeError, OSError, ValueError):  # Windows
        return 259


def short_stem(stem: str, most: int = 150) -> str:
    """Return a file name's stem of at most so many bytes, without what would hide it or make it
    an option.
    """
    stem = stem.lstrip(".-") or "clip"
    while len(os.fsencode(stem)) > most:
        stem = stem[:-1]
    return stem


def _drop(file: TextIO) -> None:
    """Close a file; a full disk may refuse even the last buffer, which is not needed any more."""
    with contextlib.suppress(OSError):
        file.close()


def _listed(table: Path, images_of: Callable[[dict], Iterable[str]], folders: set[str]) -> set[str]:
    """Return the images in these folders that an earlier run's table speaks of, by relative
    path.
    """
    try:
        with open_text(table) as lines:
            return {
                path
                for line in lines
                for path in images_of(json.loads(line))
                if path.partition("/")[0] in folders
            }
    except (OSError, ValueError, AttributeError, KeyError, IndexError, TypeError):
        return set()  # no table of ours: nothing here is ours to remove
