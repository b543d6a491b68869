"""When a photo was taken, by the camera's clock."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ..core.regular import read_regular
from .decoding import MAX_BYTES
from .limits import BoundedFile, check_exif
from .signatures import identify

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
