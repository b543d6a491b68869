"""Open files to read them: regular files only, so that no pipe, device or socket blocks a run or
fills the memory.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import BinaryIO, TextIO

MAX_BYTES = 1 << 29  # of a file that is read as a whole
NOT_REGULAR = "not a regular file"


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file, or a link to one, to read its bytes. This never waits.

    Raises:
        OSError: if it can't be opened, or is a folder, a pipe, a device or a socket.
    """
    _refuse_special(os.stat(path), path)  # opening a device may already do something
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb")
    try:
        _refuse_special(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def open_text(
    path: str | os.PathLike,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
) -> TextIO:
    """Open a regular file to read its text, with the options of `open`.

    Raises:
        OSError: see `open_regular`.
    """
    return io.TextIOWrapper(open_regular(path), encoding=encoding, errors=errors, newline=newline)


def read_regular(path: str | os.PathLike, most: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: see `open_regular`; also if there are more than `most` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # some files of the system say that they are empty, and are not
        data = file.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:
        unit, name = (1 << 20, "MiB") if most >= 1 << 20 else (1 << 10, "KiB")
        raise OSError(
            errno.EFBIG, f"larger than {most // unit} {name}, the most that is read", str(path)
        )
    return data


def read_text(
    path: str | os.PathLike,
    encoding: str = "utf-8",
    errors: str = "strict",
    most: int = MAX_BYTES,
) -> str:
    """Return the text of a regular file, its line ends as `\\n`.

    Raises:
        OSError: see `read_regular`.
        UnicodeDecodeError: if it is not text of the encoding.
    """
    text = read_regular(path, most).decode(encoding, errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refuse_special(status: os.stat_result, path: str | os.PathLike) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(Path(path)))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(Path(path)))
