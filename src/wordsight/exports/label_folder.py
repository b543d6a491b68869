"""The folder that labels for other tools are written into: whole or not at all, and never over what
somebody has worked on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.home import writing
from ..core.records import LOCK, RECORD
from ..core.regular import read_text
from ..core.result_folder import ResultFolder, building, seal, swap
from ..errors import InvalidArgument

PRELABELS = "prelabels"
MARKER = ".wordsight-prelabels"  # of 0.1.0: size and time of every file
FOREIGN = (
    "'{folder}' was there before and is no export of wordsight. Choose another folder with -o."
)
CHANGED = (
    "'{folder}' was changed since it was written. Choose another folder with -o, or remove it."
)


@contextmanager
def new_labels(target: Path) -> Iterator[Path]:
    """Yield a hidden folder to write labels into, which takes the place of `target` at the end.

    Raises:
        InvalidArgument: if `target` is not ours, or was changed since it was written.
        OutputError: if it can't be written.
    """
    _check_target(target)
    before = _state(target)
    with building(target) as hidden:
        yield hidden
        with writing(target):
            seal(hidden, PRELABELS)
            if _state(target) != before:  # somebody has worked on it in the meantime
                raise InvalidArgument(CHANGED.format(folder=target))
            swap(hidden, target)


def _state(folder: Path) -> dict[str, list[int]]:
    """Return size and time of every file below a folder, except 0.1.0's manifest."""
    files = {
        path.relative_to(folder).as_posix(): path.lstat()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and path.name not in (MARKER, LOCK)
    }
    return {name: [status.st_size, status.st_mtime_ns] for name, status in files.items()}


def _check_target(target: Path) -> None:
    """Refuse to replace a folder that is not ours, or that somebody has worked on since.

    Raises:
        InvalidArgument: if there is such a folder.
    """
    before = _manifest(target)
    ours = before is not None or (target / RECORD).is_file()
    folder = ResultFolder(
        target,
        PRELABELS,
        adopt=lambda _: before is not None and before == _state(target),
        is_file=FOREIGN,
        not_ours=CHANGED if ours else FOREIGN,
    )
    folder.claim()
    if not folder.is_whole():
        raise InvalidArgument(CHANGED.format(folder=target))


def _manifest(target: Path) -> object:
    """Return what 0.1.0 noted of every file in a folder, or None."""
    try:
        return json.loads(read_text(target / MARKER))
    except (OSError, ValueError, RecursionError):
        return None
