"""What a file is, by its suffix and first bytes: an image, by Pillow's own signatures, or an
archive.
"""

from __future__ import annotations

import contextlib
import functools
import io

from PIL import Image

from .decoders.extras import is_heif
from .limits import BoundedFile

REFUSED_FORMATS = {
    "EPS": "PostScript is a program and is not run",
    "WMF": "Windows metafiles are drawing programs",
}
# films and weather data, which Pillow only knows by name
NOT_IMAGES = {"MPEG", "HDF5", "GRIB", "BUFR"}
USUAL_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
# of photos that need an extra, or can't be read: they are listed, not passed over
UNREADABLE_SUFFIXES = {
    *(".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
    *(".orf", ".rw2", ".raf", ".pef", ".srw"),
}
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"Rar!\x1a\x07": "rar",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\x1f\x8b\x08": "gzip",
}


@functools.cache
def image_formats() -> tuple[str, ...]:
    """Return the names of the formats that may be opened, common ones first: all of Pillow's except
    those that run programs.

    Pillow tries them in order. Some are recognized only by reading a header, which takes as long as
    decoding a small image.
    """
    Image.init()
    allowed = [name for name in Image.ID if name not in REFUSED_FORMATS and name not in NOT_IMAGES]
    return tuple(sorted(allowed, key=lambda name: name not in ("JPEG", "PNG", "WEBP", "GIF")))


def identify(file: BoundedFile, data: bytes) -> Image.Image:
    """Open a file, whose bytes are `data`, as an image of the format that they show.

    Raises:
        UnidentifiedImageError: if it is of no format that may be opened.
    """
    if is_heif(data):
        return Image.open(file, formats=("HEIF",))  # type: ignore[arg-type]
    if data.startswith(b"\xff\xd8"):  # a JPEG's; all other formats take time to load
        with contextlib.suppress(Image.UnidentifiedImageError):
            return Image.open(file, formats=("JPEG",))  # type: ignore[arg-type]
    return Image.open(file, formats=image_formats())  # type: ignore[arg-type]


def looks_like_image(suffix: str, first_bytes: bytes = b"") -> bool:
    """Whether a file counts as an image, judged by its suffix (with dot) or its first bytes (1,024
    are enough).
    """
    suffix = suffix.lower()
    if suffix in USUAL_SUFFIXES:  # avoids loading all of Pillow's formats
        return True
    image_formats()
    if (
        suffix in UNREADABLE_SUFFIXES
        or Image.registered_extensions().get(suffix) in Image.OPEN.keys() - NOT_IMAGES
    ):
        return True
    if len(first_bytes) < 16:
        return False
    for name in Image.OPEN.keys() - NOT_IMAGES:
        accept = Image.OPEN[name][1]
        if accept is not None and accept(first_bytes[:16]) is True:
            return True
    without_signature = [
        name for name in image_formats() if Image.OPEN[name][1] is None and name != "TGA"
    ]
    try:  # the few formats that are recognized only by reading their header
        Image.open(io.BytesIO(first_bytes), formats=without_signature).close()
    except Exception:  # a header reader may raise anything on foreign bytes
        return False
    return True


def archive_kind(first_bytes: bytes) -> str | None:
    """Return "zip", "tar" or the like for the first 512 bytes of an archive, else None."""
    if first_bytes[257:262] == b"ustar":
        return "tar"
    return next((kind for mark, kind in _ARCHIVES.items() if first_bytes.startswith(mark)), None)


def holds_image(suffix: str, first_bytes: bytes) -> bool:
    """Whether a file's first 4,096 bytes are those of an image, whatever it is called; the suffix
    (with dot) counts only for TGA, which has no other sign.
    """
    if looks_like_image("", first_bytes):
        return True
    if Image.registered_extensions().get(suffix.lower()) != "TGA":
        return False
    try:
        Image.open(io.BytesIO(first_bytes), formats=["TGA"]).close()
    except Exception:  # a header reader may raise anything on foreign bytes
        return False
    return True


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes (with dot) of all formats that may be opened, in order."""
    formats = set(image_formats())
    known = Image.registered_extensions().items()
    return tuple(sorted(suffix for suffix, name in known if name in formats))
