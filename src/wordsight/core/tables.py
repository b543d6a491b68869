"""The tables of a run and the images drawn beside them, in a `ResultFolder`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

from . import cells
from .home import cache_folder, keep, replace_file, write_atomic, writing
from .names import same_file_key
from .regular import open_text, read_text
from .result_folder import ResultFolder, building

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
        marker: name of the file there that lists the folders that are ours.
        images_of: returns the images, by path relative to `output`, that a row of the jsonl speaks
            of.
        photos: folders, files and globs that are looked through, noted so that the photos are found
            again by their names.

    Raises:
        InvalidArgument: if `output` is a file, holds folders of somebody else's by these names, or
            another run writes to it.
        OutputError: if it can't be written.
    """

    def __init__(
        self,
        output: Path,
        name: str,
        columns: Sequence[str],
        folders: Sequence[str],
        marker: str,
        images_of: Callable[[dict], Iterable[str]],
        photos: Iterable[str | os.PathLike] = (),
    ) -> None:
        self.output, self._name = output, name
        self._photos = [os.path.abspath(os.path.expanduser(os.fspath(photo))) for photo in photos]
        self._folder = ResultFolder(output, marker)
        self._folder.claim(folders)
        drawn = {*(self._folder.listed or ()), *folders}
        self._old = _listed(output / f"{name}.jsonl", images_of, drawn)
        self._new: set[str] = set()
        self._taken: set[str] = set()  # the same, as file systems compare them that pass over case
        self._naming = threading.Lock()
        with writing(output), contextlib.ExitStack() as held:
            held.enter_context(self._folder.locked())
            # images wait here until the run is complete
            self._drawing = held.enter_context(building(output / name, f".{name}-drawing"))
            if folders:
                self._folder.mark(drawn)
            self._lines, self._table = self._open("jsonl", held), self._open("csv", held)
            self._rows = cells.writer(self._table)
            self._rows.writerow(columns)
            self._held = held.pop_all()

    def _open(self, kind: str, held: contextlib.ExitStack) -> TextIO:
        """Open an unfinished table, which goes when `held` ends."""
        unfinished = self._unfinished(kind)
        held.callback(unfinished.unlink, missing_ok=True)
        file = open(  # noqa: SIM115
            unfinished, "w", newline="", encoding="utf-8", errors="surrogateescape"
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

    def reserve(self, path: str, suffix: str) -> str:
        """Return a path with the suffix that no other image of this run has. Safe from many
        threads.
        """
        with self._naming:
            chosen = shortened(self.output, with_suffix(path, suffix))
            while same_file_key(chosen) in self._taken:  # a.png and a.png.jpg side by side
                path += "~"
                chosen = shortened(self.output, with_suffix(path, suffix))
            self._new.add(chosen)
            self._taken.add(same_file_key(chosen))
        return chosen

    def link(self, path: str, source: Path) -> int:
        """Link a path to a file, or copy that where links are not to be had; return the bytes
        that takes.
        """
        source, target = source.resolve(), self._drawing / path
        self._new.add(path)
        with writing(self.output):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                target.symlink_to(source)
            except OSError:  # file systems and accounts that allow no links
                shutil.copyfile(source, target)
                return target.stat().st_size
        return 0

    def write(self, path: str, data: bytes) -> None:
        """Write an image under a path that was reserved."""
        with writing(self.output):
            write_atomic(self._drawing / path, data, sync=False)

    def finish(self) -> None:
        """Put images and tables in place, and remove what an earlier run drew and this one
        did not.
        """
        with writing(self.output):
            self._lines.close()
            self._table.close()
            for path in sorted(self._new):
                (self.output / path).parent.mkdir(parents=True, exist_ok=True)
                replace_file(self._drawing / path, self.output / path)
            for kind in ("jsonl", "csv"):
                replace_file(self._unfinished(kind), self.output / f"{self._name}.{kind}")
            self._folder.remove(self._old - self._new)
        if self._photos:
            note_photos(self.output, self._name, self._photos)

    def close(self) -> None:
        """Drop what is unfinished (what an earlier run wrote stays as it was), and let others
        write here.
        """
        self._held.close()

    def _unfinished(self, kind: str) -> Path:
        return self.output / f".{self._name}.{kind}.part"


def note_photos(output: Path, name: str, photos: list[str]) -> None:
    """Note, among our own files, in which folders, files and globs the photos of a table of
    results were found.
    """
    noted = json.dumps(photos).encode("utf-8", "surrogateescape")
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
