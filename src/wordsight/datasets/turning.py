"""Turn boxes as EXIF turns their images; refuse those that nobody knows how to read."""

from __future__ import annotations

import numpy as np

from ..errors import InvalidArgument
from .formats import RawBox

# (height, width) of the stored and of the upright image, and the EXIF orientation
Head = tuple[tuple[int, int], tuple[int, int], int]
Sides = tuple[float, float, float, float]

EXIF = ("upright", "stored")
MIN_SIDE = 1.0  # pixels
LOST = 0.5  # share of a box that may lie outside the picture; the rest counts
UNCLEAR = (
    "EXIF turns the picture, and nothing says whether the box was drawn before or after; choose "
    "--exif upright (after) or --exif stored (before)"
)


def check_exif(exif: str | None) -> None:
    """Check what boxes are said to be drawn on.

    Raises:
        InvalidArgument: if it is neither None nor one of `EXIF`.
    """
    if exif is not None and exif not in EXIF:
        raise InvalidArgument(
            f"Unknown --exif '{exif}'. Choose upright (boxes are drawn on pictures as EXIF turns "
            "them) or stored (on pictures as their files hold them)."
        )


def check_exif_has_boxes(exif: str | None, boxes: object) -> None:
    """Check what boxes are said to be drawn on, and that there are boxes.

    Raises:
        InvalidArgument: if it is unknown, or there are none.
    """
    check_exif(exif)
    if exif is not None and boxes is None:
        raise InvalidArgument(
            "--exif says how annotated boxes are meant, so it needs --boxes ANNOTATIONS. Add "
            "them, or leave --exif out."
        )


def upright_box(raw: RawBox, head: Head, exif: str | None = None) -> Sides | str:
    """Return a box in pixels of the upright image, or why it can't be used.

    Args:
        raw: the box as it is written.
        head: sizes and orientation of its image.
        exif: on what it is drawn, where the annotation doesn't tell; see `read_boxes`.
    """
    if raw.box is None or not np.isfinite(raw.box).all():
        return "its sides are no numbers"
    drawn_on = _drawn_on(raw, head, exif)
    if drawn_on not in EXIF:
        return drawn_on
    stored, upright, orientation = head
    height, width = upright if drawn_on == "upright" else stored
    x_min, y_min, x_max, y_max = raw.box
    if raw.fractions:
        x_min, y_min, x_max, y_max = x_min * width, y_min * height, x_max * width, y_max * height
    if x_min > x_max or y_min > y_max:
        return "its corners are swapped"
    box = (max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(width)), min(y_max, float(height)))
    inside = max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
    if inside <= LOST * (x_max - x_min) * (y_max - y_min) and x_max > x_min and y_max > y_min:
        return "it lies outside the picture, or most of it does"
    if box[2] - box[0] < MIN_SIDE or box[3] - box[1] < MIN_SIDE:
        return "it has no area"
    return box if drawn_on == "upright" else _turned(box, stored, orientation)


def _drawn_on(raw: RawBox, head: Head, exif: str | None) -> str:
    """Return what a box is drawn on, one of `EXIF`, or why nobody knows. What the annotation tells
    goes before what the user says.
    """
    stored, upright, orientation = head
    if raw.upright:
        return "upright"
    if raw.size is not None and raw.size not in (stored, upright):
        return (
            f"the annotation says {raw.size[1]} × {raw.size[0]} pixels, the picture has "
            f"{stored[1]} × {stored[0]}"
        )
    if orientation == 1:
        return "upright"
    if raw.size is not None and stored != upright:
        return "upright" if raw.size == upright else "stored"
    return UNCLEAR if exif is None else exif


def _turned(box: Sides, size: tuple[int, int], orientation: int) -> Sides:
    """Return a box of the stored image of (height, width) `size` as it lies once EXIF's
    orientation is applied.
    """
    height, width = size
    x_min, y_min, x_max, y_max = box
    xs, ys = np.array([x_min, x_max]), np.array([y_min, y_max])
    xs, ys = {
        1: (xs, ys),
        2: (width - xs, ys),
        3: (width - xs, height - ys),
        4: (xs, height - ys),
        5: (ys, xs),
        6: (height - ys, xs),
        7: (height - ys, width - xs),
        8: (ys, width - xs),
    }[orientation]
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
