"""The record of a folder that we write into, `.wordsight-files`: a line of JSON for each file, with
its digest and what wrote it. It says which files are ours, by their content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .names import safe_name
from .regular import open_regular, read_regular, read_text

MAX_MARKER = 1 << 26  # bytes
PREFIX = ".wordsight-"  # the names of all our own hidden files begin so
LOCK = f"{PREFIX}lock"  # there while a run writes, and after one that was killed
RECORD = f"{PREFIX}files"
HEAD = {"wordsight": "files written here, with their digests; others are never touched"}
HIDDEN = re.compile(re.escape(PREFIX) + "[0-9a-f]{12}")


@dataclass
class Written:
    """A file that the record lists.

    Attributes:
        by: what wrote it.
        digests: of its content; two while a run replaces it.
    """

    by: str
    digests: set[str]


def digest(path: Path) -> str | None:
    """Return what tells a file's content from any other: the SHA-256 of its bytes, or where a link
    leads; None for a folder, and for what can't be read.
    """
    try:
        if path.is_symlink():
            return f"link:{os.readlink(path)}"
        if not path.is_file():
            return None
        told = hashlib.sha256()
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                told.update(block)
        return told.hexdigest()
    except OSError:
        return None


def files_below(folder: Path) -> Iterator[str]:
    """Yield files, links and empty folders below a folder, by relative path."""
    for root, folders, files in os.walk(folder):
        at = Path(root).relative_to(folder)
        links = [name for name in folders if os.path.islink(os.path.join(root, name))]
        yield from ((at / name).as_posix() for name in [*files, *links])
        if not folders and not files and root != os.fspath(folder):
            yield at.as_posix()


def read_lines(record: Path) -> list[dict] | None:
    """Return the lines of a record that can be read, or None if it is none of ours."""
    try:
        if record.is_symlink() or not record.is_file():
            return None
        raw = read_regular(record).splitlines()
    except OSError:
        return None
    read = []
    for line in raw:
        with suppress(ValueError, RecursionError):  # cut short by a kill
            read.append(json.loads(line))
    if raw and (not read or read[0] != HEAD):
        return None
    return [line for line in read[1:] if isinstance(line, dict)]


def read_record(path: Path) -> dict[str, Written] | None:
    """Return what a record says of each file; None without a record of ours."""
    lines = read_lines(path)
    if lines is None:
        return None
    record: dict[str, Written] = {}
    for line in lines:
        name, told = line.get("name"), line.get("sha256")
        if isinstance(name, str) and isinstance(told, str) and safe_name(name) == name:
            by = line.get("by")
            by = by if isinstance(by, str) else ""
            record.setdefault(name, Written(by, set())).digests.add(told)
    return record


def unfinished_builds(record: Path) -> list[str]:
    """Return the hidden folders that runs noted and may have left."""
    named = (line.get("building") for line in read_lines(record) or ())
    return [name for name in named if isinstance(name, str) and HIDDEN.fullmatch(name)]


def listed_in(marker: Path) -> set[str] | None:
    """Return the names that a marker of 0.1.0 lists, or None where there is none that can be
    read.
    """
    try:
        return set(read_text(marker, most=MAX_MARKER).split("\n")) - {""}
    except (OSError, ValueError):
        return None


def drawn_names(folder: Path, names: Iterable[str]) -> set[str]:
    """Return which entries of a folder our runs drew there beside a table, by the record and by
    the markers of 0.1.0 among `names`.
    """
    hidden = [name for name in names if name.startswith(PREFIX)]
    record = (read_record(folder / RECORD) if RECORD in hidden else None) or {}
    drawn = {
        name.partition("/")[0]
        for name, of in record.items()
        if "/" in name and f"{of.by}.jsonl" in record
    }
    others = (listed_in(folder / name) for name in hidden if name not in (RECORD, LOCK))
    return drawn.union(*(names or () for names in others))
