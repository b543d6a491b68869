"""What a picture may cost to read: time, and the memory its headers claim. Honest pictures stay far
below; a small file made to cost minutes or gigabytes is refused.
"""

from __future__ import annotations

import io
import re
import struct
import time

from PIL import Image

from ..errors import UnreadableImage

MAX_PIXELS = 120_000_000  # of a picture
MAX_SCANS = 100  # of a JPEG; programs write about ten, and each goes over the whole picture
# seconds of one processor: for any picture, for each megapixel, and at most for decoders written
# in Python, which are a hundred times as slow as others
BASE_S, MEGAPIXEL_S, PYTHON_S = 10.0, 0.5, 60.0
REREAD = 16  # how many times its own size may be read of a file, besides
REREAD_BYTES = 64 << 20
MAX_ENTRIES = 200_000  # of EXIF directories in one file
_LOOK_EVERY = 1 << 16  # bytes or, a byte a read costing as much as 256, reads
_DIRECTORY = re.compile(rb"II\*\0|MM\0\*")
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither an escaped byte nor a restart
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


class TooMuch(Exception):
    """A file costs more than it may. Not a ValueError or OSError, which Pillow would pass over."""


class BoundedFile:
    """A file in memory that ends its reader, by `TooMuch`, once that has taken too much time or
    read the file too often. Time is the thread's own, so a busy machine refuses nothing.
    """

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self._left = REREAD * len(data) + REREAD_BYTES
        self._until, self._seconds = time.thread_time() + BASE_S, BASE_S
        self._unlooked = 0

    def allow(self, image: Image.Image) -> None:
        """Allow the time that decoding an open image may take, from now."""
        seconds = BASE_S + MEGAPIXEL_S * image.width * image.height / 1e6
        tiles = getattr(image, "tile", None)
        if tiles and tiles[0][0] in Image.DECODERS:  # written in Python
            seconds = PYTHON_S
        self._until, self._seconds = time.thread_time() + seconds, seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does.

        Raises:
            TooMuch: if time or bytes are used up.
        """
        data = self._file.read(size)
        self._spend(len(data))
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line; see `read`."""
        data = self._file.readline(size)
        self._spend(len(data))
        return data

    def _spend(self, count: int) -> None:
        self._left -= count
        self._unlooked += count + 256
        if self._left < 0:
            raise TooMuch("its parts are read again and again, as no honest picture needs")
        if self._unlooked > _LOOK_EVERY:
            self._unlooked = 0
            if time.thread_time() > self._until:
                raise TooMuch(
                    f"takes more than {self._seconds:.0f} s to decode; save it as a plain JPEG or "
                    "PNG"
                )

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)


def check_work(data: bytes) -> None:
    """Refuse the bytes of a picture that would take much time or memory where nothing can be
    stopped any more: in a decoder, or in a reader of EXIF.

    Raises:
        UnreadableImage: if a JPEG has more than 100 scans, or EXIF values lie over one another.
    """
    if not data.startswith(b"\xff\xd8"):
        _check_directories(data)
        return
    scans, exif = _jpeg_parts(data)
    if scans > MAX_SCANS:
        raise UnreadableImage(
            f"a JPEG of more than {MAX_SCANS} scans, each of which takes as long as a picture"
        )
    _check_directories(exif)


def check_exif(image: Image.Image) -> None:
    """Refuse an open image whose EXIF, packed into a text of it, would take much memory.

    Raises:
        UnreadableImage: if its values lie over one another.
    """
    profile = image.info.get("Raw profile type exif")
    if not profile:
        return
    try:
        exif = bytes.fromhex("".join(profile.split("\n")[3:]))
    except (ValueError, AttributeError):  # no profile: Pillow says so
        return
    _check_directories(exif)


def _jpeg_parts(data: bytes) -> tuple[int, bytes]:
    """Return how many scans a JPEG has (counted to just over the limit), and its EXIF data."""
    scans, exif, position = 0, [], 2
    while scans <= MAX_SCANS and (found := _MARKER.search(data, position)):
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:  # what follows is no part of the picture
            break
        if marker in (0x01, 0xD8):  # of no length
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0":
            exif.append(data[position + 8 : position + length])
        scans += marker == 0xDA
        position += max(2, length)
    return scans, b"".join(exif)


def _check_directories(data: bytes) -> None:
    """Refuse EXIF or TIFF directories whose values claim several times the bytes there are: each
    would be copied.
    """
    entries = 0
    for found in _DIRECTORY.finditer(data):
        start, order = found.start(), "<" if found[0][:1] == b"I" else ">"
        try:
            (offset,) = struct.unpack_from(f"{order}I", data, start + 4)
            (count,) = struct.unpack_from(f"{order}H", data, start + offset)
        except struct.error:
            continue
        first = start + offset + 2
        listed = data[first : first + 12 * count]
        entries += len(listed) // 12
        whole = len(data) - start
        sizes = (
            _UNITS.get(kind, 0) * number
            for _, kind, number, _ in struct.iter_unpack(
                f"{order}HHII", listed[: len(listed) // 12 * 12]
            )
        )
        # a value larger than all there is can't be read, and is not copied
        if entries > MAX_ENTRIES or sum(size for size in sizes if size <= whole) > 4 * whole + 4096:
            raise UnreadableImage(
                "its EXIF or TIFF values lie over one another, which takes many times its size in "
                "memory"
            )
