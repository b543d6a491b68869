"""CSV tables as other programs write them: in their encoding, with their delimiter, and with
headings in any case.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from ..core.cells import reader
from ..core.regular import read_regular
from ..errors import InvalidArgument

log = logging.getLogger("wordsight")
MAX_BYTES = 1 << 29  # larger tables are refused unread
DELIMITERS = ",;\t|"
HEAD = 1 << 16  # characters from which the delimiter is told
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
    try:
        text = decode(read_regular(path, MAX_BYTES), path)
        first = text[:HEAD].lstrip("\r\n").split("\n", 1)[0]
        delimiter = max(DELIMITERS, key=first.count)
        yield from reader(io.StringIO(text, newline=""), delimiter)
    except (csv.Error, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgument(f"'{path}' can't be read as CSV: {reason}.") from None


def decode(data: bytes, path: Path) -> str:
    """Return the text of a file; bytes that are none stay as surrogates where it is in UTF-8.

    Args:
        data: its content.
        path: the file, to name it by.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="surrogateescape" if "8" in encoding else "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if path.name == "metadata.csv":
        return data.decode("utf-8", errors="surrogateescape")
    log.info("'%s' is not in UTF-8, so it is read as windows-1252, as Excel saves it.", path)
    return data.decode("cp1252", errors="replace")


def heading(name: str) -> str:
    """Return a heading as it is compared: "File Name", "file-name" and " FILE_NAME" are one."""
    return "_".join(name.replace("-", " ").replace("_", " ").casefold().split())
