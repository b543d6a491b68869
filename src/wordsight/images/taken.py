"""When photos were taken, by the camera's clock, and which of them show one event: photos of one
folder that were taken one soon after another. A burst shows one scene, so it counts as one
observation.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np

from ..core.regular import read_regular
from ..core.threads import parallel_map
from .decoding import MAX_BYTES
from .limits import BoundedFile, check_exif
from .signatures import identify

GAP = 60.0  # seconds to the photo before, at most
THREADS = 4
EXIF_IFD, DATE_TIME_ORIGINAL, DIGITISED = 0x8769, 0x9003, 0x9004


def taken_at(path: Path) -> datetime | None:
    """Return when a photo was taken, by the camera's clock, whose time zone is not known; None
    where the file doesn't say, or can't be read.
    """
    with suppress(Exception):  # a broken file may raise anything
        return time_of(read_regular(path, MAX_BYTES))
    return None


def time_of(data: bytes) -> datetime | None:
    """Return what `taken_at` does, for a file's bytes."""
    with suppress(Exception):  # a broken file may raise anything
        with identify(BoundedFile(data), data) as image:
            check_exif(image)
            kept = image.getexif().get_ifd(EXIF_IFD)
        told = kept.get(DATE_TIME_ORIGINAL) or kept.get(DIGITISED) or ""
        return datetime.strptime(str(told).strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S")
    return None


def told_time(path: Path, data: bytes) -> tuple[str | None, str | None]:
    """Return when a photo was taken, ISO 8601 to the second without a time zone, and who says so:
    "camera", or "file" where only the file's own time is known, which a copy may have changed.
    """
    time = time_of(data)
    if time is not None:
        return time.isoformat(), "camera"
    with suppress(OSError, OverflowError, ValueError):
        changed = datetime.fromtimestamp(path.stat().st_mtime)
        return changed.isoformat(timespec="seconds"), "file"
    return None, None


def grouped(
    folders: Sequence[Hashable], times: Sequence[datetime | None], gap: float = GAP
) -> np.ndarray:
    """Return the event of each photo, (n,) int, counted from 0 in the order of the photos.

    Photos of one folder belong to an event as long as each was taken at most `gap` seconds after
    the one before. A photo of which the time is not known is an event of its own.

    Args:
        folders: where each photo lies.
        times: when each was taken, by one clock a folder.
        gap: seconds.
    """
    known: dict[Hashable, list[tuple[datetime, int]]] = {}
    for index, (folder, time) in enumerate(zip(folders, times, strict=True)):
        if time is not None:
            known.setdefault(folder, []).append((time, index))
    first = np.arange(len(times))
    for rows in known.values():
        rows.sort()
        for (before, last), (time, index) in itertools.pairwise(rows):
            if (time - before).total_seconds() <= gap:
                first[index] = first[last]
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in first.tolist()], dtype=int)


def events_of(paths: Sequence[Path], gap: float = GAP) -> np.ndarray:
    """Return the event of each photo, (n,) int, by the camera's times; see `grouped`."""
    times = list(parallel_map(taken_at, paths, THREADS))
    return grouped([path.parent for path in paths], times, gap)
