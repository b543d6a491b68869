"""CSV tables as other programs write them: in their encoding, with their delimiter, and with
headings in any case.
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from ..core.cells import reader
from ..core.regular import open_regular, read_regular
from ..errors import InvalidArgument

log = logging.getLogger("wordsight")
MAX_BYTES = 1 << 29  # larger tables are refused unread
DELIMITERS = ",;\t|"
HEAD = 1 << 16  # characters from which the delimiter is told, bytes that hold the headings
# byte order marks, the longer one first where one begins with the other
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def read_table(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV, headings and blank lines included.

    UTF-8 and UTF-16 are told by their marks, UTF-8 by its form. What is neither is read as
    windows-1252, which is logged; a table of wordsight's own (metadata.csv) is always UTF-8, whose
    stray bytes are those of file names. The delimiter is a comma, semicolon, tab or bar, whichever
    the first line has most of.

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
        return [heading(name) for name in next(_rows(_decoded(begin, path)[0]), [])]


@contextlib.contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Refuse a CSV that can't be read, in one sentence."""
    try:
        yield
    except (csv.Error, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"'{path}' can't be read as CSV: {reason}.") from None


def _rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of a table's text."""
    first = text[:HEAD].lstrip("\r\n").split("\n", 1)[0]
    yield from reader(io.StringIO(text, newline=""), max(DELIMITERS, key=first.count))


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
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        pass
    if path.name == "metadata.csv":
        return data.decode("utf-8", errors="surrogateescape"), False
    return data.decode("cp1252", errors="replace"), True


def heading(name: str) -> str:
    """Return a heading as it is compared: "File Name", "file-name" and " FILE_NAME" are one."""
    return "_".join(name.replace("-", " ").replace("_", " ").casefold().split())
