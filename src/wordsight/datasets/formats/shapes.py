"""The boxes of other shapes: polygons, turned rectangles, and COCO's masks as run lengths. No mask
is unpacked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Sides = tuple[float, float, float, float]
MOST_DIGITS = 7  # of five bits each, of one packed run length


def box_of_points(xs: Sequence[float], ys: Sequence[float]) -> Sides:
    """Return the `xyxy` box of points.

    Raises:
        ValueError: if there are fewer than two, or not as many of each.
    """
    if len(xs) < 2 or len(xs) != len(ys):
        raise ValueError("a shape of fewer than two points")
    return min(xs), min(ys), max(xs), max(ys)


def box_of_polygons(polygons: Iterable[Sequence[float]]) -> Sides:
    """Return the `xyxy` box of polygons [x, y, x, y, …] of one object.

    Raises:
        ValueError, TypeError: if there is none, or one is no row of numbers.
    """
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        values = [float(value) for value in polygon]
        xs += values[0::2]
        ys += values[1::2]
    return box_of_points(xs, ys)


def box_of_turned(x: float, y: float, width: float, height: float, degrees: float) -> Sides:
    """Return the `xyxy` box around a rectangle that is turned clockwise about its upper left corner
    (x, y), as Label Studio writes it, in pixels.
    """
    turn = math.radians(degrees)
    corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    xs = [x + a * math.cos(turn) - b * math.sin(turn) for a, b in corners]
    ys = [y + a * math.sin(turn) + b * math.cos(turn) for a, b in corners]
    return box_of_points(xs, ys)


def turned_about_centre(box: Sides, degrees: float) -> Sides:
    """Return the `xyxy` box around a box that is turned about its centre."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    turn = math.radians(degrees)
    across, down = abs(box[2] - box[0]) / 2, abs(box[3] - box[1]) / 2
    half_width = across * abs(math.cos(turn)) + down * abs(math.sin(turn))
    half_height = across * abs(math.sin(turn)) + down * abs(math.cos(turn))
    return x - half_width, y - half_height, x + half_width, y + half_height


def box_of_runs(size: Sequence[int], counts: str | Sequence[int]) -> Sides:
    """Return the `xyxy` box of a COCO mask: run lengths, column by column, background first.

    Args:
        size: (height, width).
        counts: the lengths, or packed as text.

    Raises:
        ValueError: if they don't fit the size, or nothing is marked.
    """
    height, width = (int(side) for side in size)
    lengths = unpack_runs(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if height <= 0 or width <= 0 or any(length < 0 for length in lengths):
        raise ValueError("a mask of no size")
    if sum(lengths) != height * width:
        raise ValueError("run lengths that don't fit the mask's size")
    left, top, right, bottom = width, height, 0, 0
    begin = 0
    for number, length in enumerate(lengths):
        if number % 2 and length:
            first, last = divmod(begin, height), divmod(begin + length - 1, height)
            left, right = min(left, first[0]), max(right, last[0] + 1)
            # a run that goes on in the next column touches the lower edge and the upper one
            whole = first[0] < last[0]
            top = 0 if whole else min(top, first[1])
            bottom = height if whole else max(bottom, last[1] + 1)
        begin += length
    if right <= left:
        raise ValueError("a mask in which nothing is marked")
    return float(left), float(top), float(right), float(bottom)


def has_key_points(values: Sequence[float]) -> bool:
    """Whether numbers of YOLO's are a box within the image, and points within the box, each with
    its visibility, in fractions. A polygon that touches the edges may look so but for where it
    lies.
    """
    x, y, width, height = values[:4]
    xs, ys, seen = values[4::3], values[5::3], values[6::3]
    if not len(xs) == len(ys) == len(seen) or not set(seen) <= {0.0, 1.0, 2.0}:
        return False
    near = 0.01
    within = abs(x - 0.5) + width / 2 <= 0.5 + near and abs(y - 0.5) + height / 2 <= 0.5 + near
    shown = [(a, b) for a, b, known in zip(xs, ys, seen, strict=True) if known]
    return 2.0 in seen or (
        within
        and bool(shown)
        and all(
            abs(a - x) <= width / 2 + near and abs(b - y) <= height / 2 + near for a, b in shown
        )
    )


def box_of_brush(size: Sequence[int], packed: Sequence[int]) -> Sides:
    """Return the `xyxy` box of a mask as Label Studio's brush packs it: runs of bits that stand for
    the bytes of an RGBA image, of which the last of each four counts.

    Args:
        size: (height, width).
        packed: bytes.

    Raises:
        ValueError: if they don't fit the size, or nothing is marked.
    """
    height, width = (int(side) for side in size)
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    if count != 4 * height * width:
        raise ValueError("a brush that doesn't fit the picture's size")
    sizes = [bits.take(4) + 1 for _ in range(4)]
    left, top, right, bottom = width, height, 0, 0
    at = 0
    while at < count:
        same, length = bits.take(1), bits.take(sizes[bits.take(2)]) + 1
        end = min(at + length, count)
        # of the bytes from `at` on, those that are alpha: 3, 7, 11 …
        for begin, stop in [(at, end)] if same else [(one, one + 1) for one in range(at, end)]:
            value = bits.take(word)
            first, last = begin // 4, stop // 4 - 1  # pixels
            if not value or first > last:
                continue
            whole = first // width < last // width
            left = 0 if whole else min(left, first % width)
            right = width if whole else max(right, last % width + 1)
            top, bottom = min(top, first // width), max(bottom, last // width + 1)
        at = end
    if right <= left:
        raise ValueError("a brush by which nothing is marked")
    return float(left), float(top), float(right), float(bottom)


class _Bits:
    """Takes numbers of any length from bytes, the highest bit first."""

    def __init__(self, packed: Sequence[int]) -> None:
        self._bytes, self._at = bytes(packed), 0

    def take(self, bits: int) -> int:
        """Return the next number.

        Raises:
            ValueError: if the bytes end before.
        """
        end = self._at + bits
        part = self._bytes[self._at >> 3 : (end + 7) >> 3]
        if len(part) < ((end + 7) >> 3) - (self._at >> 3):
            raise ValueError("a brush that ends early")
        self._at = end
        return int.from_bytes(part, "big") >> (-end & 7) & ((1 << bits) - 1)


def unpack_runs(text: str) -> list[int]:
    """Return the run lengths that pycocotools packs as text: five bits a sign, the lowest first,
    each from the fourth on as its difference to the last but one.

    Raises:
        ValueError: if it is no such text.
    """
    counts: list[int] = []
    value = digits = 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or digits == MOST_DIGITS:
            raise ValueError("no packed run lengths")
        value |= (bits & 31) << (5 * digits)
        digits += 1
        if bits & 32:
            continue
        if bits & 16:
            value |= -1 << (5 * digits)
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = digits = 0
    if digits:
        raise ValueError("packed run lengths that end early")
    return counts
