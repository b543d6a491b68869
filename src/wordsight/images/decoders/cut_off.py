"""Pictures whose file ends early: what is there is decoded, if it is most of it.

One rule for all formats: the picture is decoded twice, in ways that differ only in what did not
arrive. A row counts as there if all of it is the same both times.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from ...errors import UnreadableImage
from ..limits import BoundedFile

LEAST = 0.6  # of the rows; with fewer the picture is unreadable
JPEG_END, PNG_END, GIF_END = b"\xff\xd9", b"IEND", b";"
TAIL = 1 << 16  # a whole file's end lies within so many of its last bytes
# what JPEG data may end with, without any marker; where the file is whole, it changes nothing
_OTHER_ENDS = (JPEG_END, b"\x55" * (1 << 14) + JPEG_END)
_GROUNDS = (0, 255)  # what other pictures are decoded over
_ENDS_EARLY = ("truncated", "premature")  # in what decoders say
_BAND = 1 << 20  # pixels that are compared at a time
_MOST_GAPS = 1 << 16  # rows that are filled
_EXIF_ORIENTATION = 0x0112
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # TIFF's tags of strips and tiles


def load(image: Image.Image, data: bytes | None) -> tuple[Image.Image, str]:
    """Return an open image decoded, and what is to be said where its file ends early; "" where it
    does not. Missing rows are of one colour, or, between rows that are there, like the one above.

    Args:
        image: an open image.
        data: the bytes of its file; None for an image that was given open, which must be whole.

    Raises:
        UnreadableImage: if less than 60 % of the rows are there.
    """
    tiles = list(getattr(image, "tile", ()))
    try:
        image.load()
    except (OSError, SyntaxError) as error:
        if data is None or not _ends_early(error, image, data):
            raise
    else:
        return image, ""
    image.tile = []  # type: ignore[attr-defined]  # else it is decoded again
    image.im = Image.new(image.mode, (1, 1)).im  # frees what was decoded
    jpeg = image.format in ("JPEG", "MPO")
    one, other = (
        _jpeg(image, data + end) if jpeg else _over(image, data, tiles, ground)
        for end, ground in zip(_OTHER_ENDS, _GROUNDS, strict=True)
    )
    there = _same_rows(one, other)
    if jpeg:  # whose later rows may agree by chance
        there = np.logical_and.accumulate(there)
    share = float(there.mean())
    percent = int(100 * share + 1e-9)  # rounded down: what lacks a row is not whole
    if share < LEAST:
        raise UnreadableImage(f"cut off: only {percent}% of it is there")
    if share < 1:
        _fill_gaps(one, there)
    if image.format == "TIFF":  # which Pillow turns upright once all of it is decoded
        ImageOps.exif_transpose(one, in_place=True)
        image.getexif().pop(_EXIF_ORIENTATION, None)
    one.info = image.info
    return one, "" if share == 1 else f"cut off: {percent}% of it is there"


def may_end_early(image: Image.Image, data: bytes) -> bool:
    """Whether an open image's file may end early, told without decoding."""
    tail = data[-TAIL:]
    if image.format in ("JPEG", "MPO"):
        return JPEG_END not in tail
    if image.format == "PNG":
        return PNG_END not in tail
    if image.format == "GIF":
        return not tail.rstrip(b"\0").endswith(GIF_END)
    if image.format == "TIFF":
        return _tiff_ends_early(image, data)
    # these are read whole or not at all
    return image.format not in ("WEBP", "AVIF", "HEIF", "JPEG2000", "RAW")


def _ends_early(error: Exception, image: Image.Image, data: bytes) -> bool:
    """Whether a decoder failed because the file ends early."""
    if image.format == "TIFF":
        return _tiff_ends_early(image, data)
    return any(sign in str(error) for sign in _ENDS_EARLY)


def _tiff_ends_early(image: Image.Image, data: bytes) -> bool:
    """Whether parts of a TIFF's picture lie behind the end of the file."""
    tags = image.tag_v2  # type: ignore[attr-defined]  # of every TIFF
    with contextlib.suppress(TypeError):  # a single number, or text, in place of numbers
        for offsets, counts in zip(_OFFSETS, _COUNTS, strict=True):
            parts = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
            if any(offset + count > len(data) for offset, count in parts):
                return True
    return False


def _again(image: Image.Image, data: bytes) -> Image.Image:
    """Open a file once more, at the page and size of `image`."""
    file = BoundedFile(data)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    again = Image.open(file, formats=[kind])  # type: ignore[arg-type]
    if again.tell() != image.tell():
        again.seek(image.tell())
    again.draft("RGB", image.size)
    file.allow(again)
    return again


def _jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """Return a JPEG decoded, whose data were given an end."""
    again = _again(image, data)
    again.load()
    return again


def _over(image: Image.Image, data: bytes, tiles: list, ground: int) -> Image.Image:
    """Return an image's tiles decoded as far as they go, over pixels whose bands are all
    `ground`.
    """
    again = _again(image, data)
    again.tile = tiles.copy()  # type: ignore[attr-defined]
    _prepare_over(again, again.load_prepare, ground)  # type: ignore[attr-defined]  # of all files
    with contextlib.suppress(OSError, SyntaxError):
        again.load()
    del again.load_prepare  # type: ignore[attr-defined]  # which holds the image, as that holds it
    again.tile = []  # type: ignore[attr-defined]
    return again


def _prepare_over(image: Image.Image, prepare: Callable[[], None], ground: int) -> None:
    """Have an open image's pixels filled once they are made, before any is decoded."""

    def load_prepare() -> None:
        prepare()
        core = image.im
        colour = ground if core.bands == 1 else (ground,) * core.bands
        core.paste(colour, (0, 0, *core.size))

    image.load_prepare = load_prepare  # type: ignore[attr-defined]


def _same_rows(one: Image.Image, other: Image.Image) -> np.ndarray:
    """Return for each row whether two decodings of one file agree in it, (height,) bool."""
    width, height = one.im.size  # as stored; an image's own size may be that of an upright one
    same, band = np.empty(height, bool), max(1, _BAND // width)
    for top in range(0, height, band):
        box = (0, top, width, min(top + band, height))
        pixels, others = (np.asarray(image.crop(box)) for image in (one, other))
        same[top : box[3]] = (pixels == others).reshape(len(pixels), -1).all(axis=1)
    return same


def _fill_gaps(image: Image.Image, there: np.ndarray) -> None:
    """Fill an image's missing rows between others, as those of an interlaced picture, like the row
    above.
    """
    rows = np.flatnonzero(there)
    gaps = np.flatnonzero(~there[: rows[-1]])
    for gap in gaps[gaps > rows[0]][:_MOST_GAPS]:
        above = rows[np.searchsorted(rows, gap) - 1]
        image.paste(image.crop((0, above, image.im.size[0], above + 1)), (0, gap))
