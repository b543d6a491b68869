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

from ..core.progress import Progress
from ..core.regular import open_regular, read_regular
from ..core.threads import map_if_worth
from .decoding import MAX_BYTES
from .limits import BoundedFile, check_exif
from .signatures import identify

GAP = 60.0  # seconds to the photo before, at most
THREADS = 4
HEAD, JPEG, EXIF = 1 << 20, b"\xff\xd8", b"Exif\0\0"
EXIF_IFD, DATE_TIME_ORIGINAL, DIGITISED = 0x8769, 0x9003, 0x9004


def taken_at(path: Path) -> datetime | None:
    """Return when a photo was taken, by the camera's clock, whose time zone is not known; None
    where the file doesn't say, or can't be read.
    """
    with suppress(Exception):  # a broken file may raise anything
        with open_regular(path) as file:
            head = file.read(HEAD)
        # of a JPEG, what cameras say stands before the picture
        return time_of(head if head.startswith(JPEG) else read_regular(path, MAX_BYTES))
    return None


def time_of(data: bytes) -> datetime | None:
    """Return what `taken_at` does, for a file's bytes or those it begins with."""
    with suppress(Exception):  # a broken file may raise anything
        if data.startswith(JPEG) and EXIF not in data:
            return None  # most small pictures; to open them takes longer
        with identify(BoundedFile(data), data) as image:
            if image.format == "PNG" and "exif" not in image.info:
                return None  # asking further would decode all of it
            check_exif(image)
            kept = image.getexif().get_ifd(EXIF_IFD)
        for tag in (DATE_TIME_ORIGINAL, DIGITISED):
            with suppress(ValueError):
                told = str(kept.get(tag, "")).strip("\0 ")[:19]
                return datetime.strptime(told, "%Y:%m:%d %H:%M:%S")
    return None


def told_time(path: Path, time: datetime | None) -> tuple[str | None, str | None]:
    """Return when a photo was taken, ISO 8601 to the second without a time zone, and who says so:
    "camera", or "file" where only the file's own time is known, which a copy may have changed.

    Args:
        path: of the photo.
        time: by the camera's clock; see `time_of`.
    """
    if time is not None:
        return time.isoformat(), "camera"
    with suppress(OSError, OverflowError, ValueError, AttributeError):  # some stores tell none
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


def times_of(paths: Sequence[Path], progress: Progress | None = None) -> list[datetime | None]:
    """Return what `taken_at` does for each of many photos.

    Args:
        paths: of the photos.
        progress: called with (done, total, "times read").
    """
    times = []
    for time in map_if_worth(taken_at, paths, THREADS):
        times.append(time)
        if progress:
            progress(len(times), len(paths), "times read")
    return times


def events_of(
    paths: Sequence[Path],
    gap: float = GAP,
    folders: Sequence[Path] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the event of each photo, (n,) int, by the camera's times; see `grouped`.

    Args:
        paths: of the photos.
        gap: seconds.
        folders: where each belongs, if not in the folder that it lies in.
        progress: called with (done, total, "times read").
    """
    return grouped(folders or [path.parent for path in paths], times_of(paths, progress), gap)
