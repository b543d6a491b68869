"""Minimal raw photos, made from nothing: DNG of uncompressed pixels of one colour each."""

from __future__ import annotations

import struct

import numpy as np

# a camera's names, the DNG's version, and colours that are sRGB's nearly
_CAMERA = [
    (50706, 1, 4, b"\1\4\0\0"),
    (50708, 2, 5, b"Test\0"),
    (271, 2, 5, b"Test\0"),
    (272, 2, 5, b"Test\0"),
    (50721, 10, 9, b"".join(struct.pack("<ii", n, 1) for n in (1, 0, 0, 0, 1, 0, 0, 0, 1))),
    (50728, 5, 3, struct.pack("<6I", *[1] * 6)),
    (50778, 3, 1, struct.pack("<H", 21)),
]


def dng(rgb: np.ndarray, orientation: int = 1, small: np.ndarray | None = None) -> bytes:
    """Return a raw photo.

    Args:
        rgb: (height, width, 3) uint16, of which the sensor sees one colour a pixel.
        orientation: EXIF's.
        small: (height, width, 3) uint8, a small copy that comes first, as cameras write it.
    """
    height, width = rgb.shape[:2]
    sensor = np.zeros((height, width), "<u2")
    for top, left, colour in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):  # Bayer's pattern
        sensor[top::2, left::2] = rgb[top::2, left::2, colour]
    turned = [(274, 3, 1, struct.pack("<H", orientation))]

    def whole(at: int) -> list:
        return [
            *_picture(width, height, at, 2 * width * height, 32803, (16,)),
            (254, 4, 1, struct.pack("<I", 0)),
            (33421, 3, 2, struct.pack("<HH", 2, 2)),
            (33422, 1, 4, bytes((0, 1, 1, 2))),
            (50714, 3, 1, struct.pack("<H", 0)),
            (50717, 4, 1, struct.pack("<I", 65535)),
        ]

    if small is None:
        begin = 8 + len(_directory([*_CAMERA, *turned, *whole(0)], 0))
        head = _directory([*_CAMERA, *turned, *whole(begin)], 8)
        return b"II*\0\x08\0\0\0" + head + sensor.tobytes()

    def first(at: int, below: int) -> list:
        size = (small.shape[1], small.shape[0])
        return [
            *_CAMERA,
            *turned,
            *_picture(*size, at, small.size, 2, (8, 8, 8)),
            (254, 4, 1, struct.pack("<I", 1)),
            (330, 4, 1, struct.pack("<I", below)),
        ]

    below = 8 + len(_directory(first(0, 0), 0))
    begin = below + len(_directory(whole(0), 0))
    parts = (_directory(first(begin, below), 8), _directory(whole(begin + small.size), below))
    return b"II*\0\x08\0\0\0" + b"".join(parts) + small.tobytes() + sensor.tobytes()


def _picture(
    width: int, height: int, at: int, size: int, photometric: int, bits: tuple[int, ...]
) -> list:
    """Return the tags of an uncompressed picture in one strip."""
    return [
        (256, 4, 1, struct.pack("<I", width)),
        (257, 4, 1, struct.pack("<I", height)),
        (258, 3, len(bits), struct.pack(f"<{len(bits)}H", *bits)),
        (259, 3, 1, struct.pack("<H", 1)),
        (262, 3, 1, struct.pack("<H", photometric)),
        (273, 4, 1, struct.pack("<I", at)),
        (277, 3, 1, struct.pack("<H", len(bits))),
        (278, 4, 1, struct.pack("<I", height)),
        (279, 4, 1, struct.pack("<I", size)),
    ]


def _directory(tags: list, start: int) -> bytes:
    """Return a TIFF's directory that stands at an offset, and the values that it points to."""
    listed, values = struct.pack("<H", len(tags)), b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, kind, count, value in sorted(tags):
        if len(value) > 4:
            value, values = (
                struct.pack("<I", behind + len(values)),
                values + value + b"\0" * (len(value) % 2),
            )
        listed += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    return listed + b"\0\0\0\0" + values
