"""Which of a picture's pages or frames counts: the one that shows all of it, never a small copy."""

from __future__ import annotations

import contextlib
import struct

from PIL import Image

from ...errors import UnreadableImage

MAX_PAGES = 64  # of a TIFF among which the whole picture is looked for
# a first page that nothing calls a small copy is one if another has so many times its pixels
MUCH_LARGER = 4
# TIFF's tags and their values: kinds of page (the lowest bit: a small copy; the third: a mask), the
# older one (2: a small copy), directories below one, width, height
_KIND, _OLD_KIND, _BELOW, _WIDTH, _HEIGHT = 254, 255, 330, 256, 257
_SMALL, _MASK, _OLD_SMALL = 1, 4, 2
# of what is no further page, or a broken one
_NO_PAGE = (EOFError, OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)
ONLY_SMALL = "only a small preview of it can be read; convert it to JPEG"


def turn_to_whole_page(image: Image.Image, data: bytes) -> None:
    """Turn an open image to the page that shows all of it: of a TIFF that begins with a small copy,
    the large page.

    Args:
        image: an open image.
        data: the bytes of its file.

    Raises:
        UnreadableImage: if the large one can't be read, as in a raw photo.
    """
    if image.format != "TIFF":
        return
    first = image.width * image.height
    small, below = _is_small(image), _pixels_below(image, data)
    best, most = 0, first if small else MUCH_LARGER * first - 1
    with contextlib.suppress(*_NO_PAGE):
        for page in range(1, MAX_PAGES):
            image.seek(page)
            mask = _tag(image, _KIND) & _MASK
            if not mask and image.width * image.height > most:
                best, most = page, image.width * image.height
    if best == 0 and (small or below > most):
        raise UnreadableImage(f"a raw photo or TIFF, and {ONLY_SMALL}")
    image.seek(best)


def _tag(image: Image.Image, tag: int) -> int:
    """Return the number that a page's tag holds; 0 for none."""
    value = image.tag_v2.get(tag, 0)  # type: ignore[attr-defined]  # of every TIFF
    return value if isinstance(value, int) else 0


def _is_small(image: Image.Image) -> bool:
    """Whether a TIFF's page says that it is a small copy."""
    return bool(_tag(image, _KIND) & _SMALL) or _tag(image, _OLD_KIND) == _OLD_SMALL


def _pixels_below(image: Image.Image, data: bytes) -> int:
    """Return the pixels of the largest picture in directories below a TIFF's page, which can't be
    read; 0 if there is none.
    """
    places = image.tag_v2.get(_BELOW, ())  # type: ignore[attr-defined]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return 0
    most = 0
    for place in (places,) if isinstance(places, int) else list(places)[:MAX_PAGES]:
        with contextlib.suppress(struct.error, TypeError):  # the file ends before, or no place
            sides = directory(data, order, place)
            most = max(most, sides.get(_WIDTH, 0) * sides.get(_HEIGHT, 0))
    return most


def directory(data: bytes, order: str, start: int) -> dict[int, int]:
    """Return the tags of a TIFF's directory, each with its first number, or where that stands.

    Args:
        data: the bytes of the file.
        order: of its bytes, as in the module `struct`.
        start: where the directory begins.

    Raises:
        struct.error: if the file ends within it.
    """
    tags: dict[int, int] = {}
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, at)
        number = "H" if kind == 3 else "I"
        (tags[tag],) = struct.unpack_from(order + number, data, at + 8)
    return tags


def pages_remark(image: Image.Image) -> str:
    """Return what is to be said of an image that has several frames or pages."""
    if image.format == "HEIF":
        return "the main picture of several" if is_animated(image) else ""
    if image.format not in ("GIF", "TIFF", "PNG", "WEBP", "AVIF"):
        return ""
    page = image.tell()
    if image.format == "TIFF":
        several = _has_page(image, page + 1) or page > 0
        return f"page {page + 1} of several" if several else ""
    return "the first frame of several" if is_animated(image) else ""


def is_animated(image: Image.Image) -> bool:
    """Whether an open image has several frames or pages."""
    known = getattr(image, "is_animated", None)
    return getattr(image, "n_frames", 1) > 1 if known is None else known


def _has_page(image: Image.Image, page: int) -> bool:
    """Whether an open TIFF has a page; it stays where it is."""
    there, now = False, image.tell()
    with contextlib.suppress(*_NO_PAGE):
        image.seek(page)
        there = True
    image.seek(now)
    return there
