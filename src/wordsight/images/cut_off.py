"""Pictures whose file ends early: what is there is decoded, if it is most of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..errors import UnreadableImage

LEAST = 0.6  # of the rows; with fewer the picture is unreadable
JPEG_END = b"\xff\xd9"
# without any marker; where the file is whole, what follows its data changes nothing
_OTHER_ENDS = (JPEG_END, b"\x55" * (1 << 14) + JPEG_END)
ENDS_EARLY = ("truncated", "premature")  # in what decoders say


def ends_early(error: Exception) -> bool:
    """Whether a decoder complains of a file that ends early."""
    return any(sign in str(error) for sign in ENDS_EARLY)


def rescue(
    image: Image.Image, data: bytes, load: Callable[[bytes], Image.Image]
) -> tuple[Image.Image, float]:
    """Return what can be decoded of a file that ends early, and the share of its rows that are
    there, 0–1; missing ones are of one colour.

    Args:
        image: as far as it was decoded.
        data: the file's bytes.
        load: opens and decodes other bytes in the same way.

    Raises:
        UnreadableImage: if less than 60 % of the rows are there.
    """
    if image.format == "JPEG":
        # rows that depend on what follows the data are not there
        image, other = (load(data + end) for end in _OTHER_ENDS)
        apart = np.asarray(image) != np.asarray(other)
        rows = apart.reshape(image.height, -1).any(axis=1)
        there = int(rows.argmax()) if rows.any() else image.height
    else:
        image.tile = []  # type: ignore[attr-defined]  # else it is decoded again
        rows = np.asarray(image.convert("RGB")).reshape(image.height, -1).any(axis=1)
        there = int(np.flatnonzero(rows)[-1]) + 1 if rows.any() else 0
    share = there / image.height
    if share < LEAST:
        raise UnreadableImage(f"cut off: only {share:.0%} of it is there")
    return image, share
