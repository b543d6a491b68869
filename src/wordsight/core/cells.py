"""CSV tables as wordsight writes and reads them: any file name comes back as it was, and no cell
begins a formula when a spreadsheet opens the table. What people open begins with a mark, by which
Excel knows UTF-8; tables are read with and without it.

The names are those of the module `csv`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from .regular import open_regular, open_text

ENCODING = "utf-8-sig"  # of tables for people: without the mark, Excel guesses another one
MARK = "\ufeff"

# a cell that spreadsheets take for a formula, perhaps guarded already; numbers are none
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# begins like a formula, and is a plain file name all the same: it can do nothing, and people who
# read the table by a program look for it as it is
_PLAIN = re.compile(r"-[A-Za-z][\w .-]*\.[A-Za-z]\w*\Z")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z|[+-](inf|nan)\Z")


def create_table(path: str | os.PathLike) -> TextIO:
    """Open a new table for people, in UTF-8 with its mark; names may hold stray bytes."""
    return open(path, "w", newline="", encoding=ENCODING, errors="surrogateescape")


def open_table(path: str | os.PathLike, errors: str = "surrogateescape") -> TextIO:
    """Open a table of ours to read it, with the mark or without.

    Raises:
        OSError: see `open_regular`.
    """
    return open_text(path, ENCODING, errors, newline="")


def encoding_of(path: Path) -> str:
    """Return the encoding in which a table is written again: somebody's own that has no mark gets
    none, for whatever else reads it.

    Raises:
        OSError: see `open_regular`.
    """
    if not path.exists():
        return ENCODING
    with open_regular(path) as file:
        return ENCODING if file.read(3) == MARK.encode() else "utf-8"


def table_bytes(text: str) -> bytes:
    """Return a whole table for people as bytes, with the mark."""
    return text.encode(ENCODING, "surrogateescape")


def guard(value: Any) -> Any:
    """Return a cell with an apostrophe before it if spreadsheets would take it for a formula;
    anything but text, numbers, and plain file names such as `-o.jpg`, as they are.
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    if not _NUMBER.match(value) and not _PLAIN.match(value):
        return f"'{value}"
    return value


def unguard(cell: str) -> str:
    """Return a cell without the apostrophe that `guard` put before it."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


class _Writer:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def writerow(self, row: Iterable[Any]) -> Any:
        """Write one row, guarded."""
        return self._writer.writerow([guard(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows, guarded."""
        for row in rows:
            self.writerow(row)


class _Reader:
    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        return [unguard(cell) for cell in next(self._reader)]

    @property
    def line_num(self) -> int:
        return self._reader.line_num


def writer(file: Any) -> _Writer:
    """Return a writer whose rows are guarded; the file must not translate line ends."""
    return _Writer(csv.writer(file))


def reader(file: Iterable[str], delimiter: str = ",") -> _Reader:
    """Return a reader that undoes `guard`."""
    return _Reader(csv.reader(file, delimiter=delimiter))


class DictWriter(csv.DictWriter):
    """`csv.DictWriter` whose rows are guarded."""

    def __init__(self, file: Any, fieldnames: Sequence[str], **options: Any) -> None:
        super().__init__(file, fieldnames, **options)
        self.writer = _Writer(self.writer)  # type: ignore[assignment]


class DictReader(csv.DictReader):
    """`csv.DictReader` that undoes `guard`."""

    def __init__(self, file: Iterable[str], **options: Any) -> None:
        super().__init__(file, **options)
        self.reader = _Reader(self.reader)  # type: ignore[assignment]
