"""CSV tables as other programs write them: in their encoding, with their delimiter, and with
headings in any case.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from ..core.cells import reader
from ..core.regular import open_regular, read_regular
from ..errors import InvalidArgument

log = logging.getLogger("wordsight")
MAX_BYTES = 1 << 29  # larger tables are refused unread
DELIMITERS = ",;\t|"
HEAD = 1 << 16  # characters from which the delimiter is told, bytes that hold the headings
TABLE_SUFFIXES = (".csv", ".tsv")
# a first line by which Excel is told the delimiter
_SEPARATOR = re.compile(r'"?sep=(.)"?[^\S\r\n]*(?:\r\n|\n|\r)', re.IGNORECASE)
# byte order marks, the longer one first where one begins with the other
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def read_table(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV, headings and blank lines included; see `numbered_rows`."""
    return (row for _, row in numbered_rows(path))


def numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the first line and the cells of each row of a CSV, headings included, and
    blank lines behind them.

    UTF-8 and UTF-16 are told by their marks, UTF-8 by its form. What is neither is read as
    windows-1252, which is logged; a table of wordsight's own (metadata.csv) is always UTF-8, whose
    stray bytes are those of file names. The delimiter is a comma, semicolon, tab or bar: the one
    that a first line such as `sep=;` names, or whichever the headings have most of.

    Raises:
        InvalidArgument: if it can't be read as a CSV.
    """
    with _unreadable(path):
        yield from _rows(decode(read_regular(path, MAX_BYTES), path))


def read_headings(path: Path) -> list[str]:
    """Return the headings of a CSV as they are compared, of which only the beginning is read; see
    `read_table`.

    Raises:
        InvalidArgument: if it can't be read as a CSV.
    """
    with _unreadable(path):
        with open_regular(path) as file:
            begin = file.read(HEAD)
            if len(begin) == HEAD:  # cut behind a line, so that no character is
                begin = begin[: begin.rfind(b"\n") + 1] or begin + file.read(MAX_BYTES)
        return [heading(name) for name in next(_rows(_decoded(begin, path)[0]), (1, []))[1]]


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Refuse a CSV that can't be read, in one sentence."""
    try:
        yield
    except (csv.Error, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"'{path}' can't be read as CSV: {reason}.") from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the cells of each row of a table's text."""
    named = _SEPARATOR.match(text)
    begin = named.end() if named else 0
    first = text[begin : begin + HEAD].lstrip("\r\n").split("\n", 1)[0]
    delimiter = named[1] if named else max(DELIMITERS, key=first.count)
    stream = io.StringIO(text, newline="")
    stream.seek(begin)
    rows, line, headed = reader(stream, delimiter), 1 + bool(named), False
    for row in rows:
        headed = headed or any(cell.strip() for cell in row)
        if headed:
            yield line, row
        line = 1 + bool(named) + rows.line_num


def decode(data: bytes, path: Path) -> str:
    """Return the text of a file; bytes that are none stay as surrogates where it is in UTF-8.

    Args:
        data: its content.
        path: the file, to name it by.
    """
    text, guessed = _decoded(data, path)
    if guessed:
        log.info("'%s' is not in UTF-8, so it is read as windows-1252, as Excel saves it.", path)
    return text


def _decoded(data: bytes, path: Path) -> tuple[str, bool]:
    """Return the text of a file, and whether its encoding is a guess; see `decode`."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            errors = "surrogateescape" if "8" in encoding else "replace"
            return data.decode(encoding, errors=errors), False
    wide = utf_16(data)
    if wide is not None:
        return data.decode(wide, errors="replace"), False
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        pass
    if path.name == "metadata.csv":
        return data.decode("utf-8", errors="surrogateescape"), False
    return data.decode("cp1252", errors="replace"), True


def utf_16(data: bytes) -> str | None:
    """Return the name of UTF-16 as a file's first bytes show it, by its mark or by every other of
    them being zero; None if they don't.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    begin = data[:64]
    if len(begin) < 4 or b"\0" not in begin:
        return None
    high, low = begin[0::2], begin[1::2]
    if low.count(0) > 0.7 * len(low) and 0 not in high:
        return "utf-16-le"
    return "utf-16-be" if high.count(0) > 0.7 * len(high) and 0 not in low else None


def heading(name: str) -> str:
    """Return a heading as it is compared: "File Name", "file-name" and " FILE_NAME" are one."""
    return "_".join(name.replace("-", " ").replace("_", " ").casefold().split())
