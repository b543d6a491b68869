"""Compose scenes of many objects from cutouts: what an object head learns from where nobody drew
boxes (Dwibedi, Misra and Hebert 2017, "Cut, Paste and Learn").

Most scenes show several of one class, near each other and about as large, since that is how fruit
lies in a bowl. Later objects hide parts of earlier ones, and a box holds what is still to be seen.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from PIL import Image

from ...datasets.annotations import Annotated, Box
from ...datasets.files import ImageFile
from .cutting import Cutout

SIZES = ((360, 480), (480, 360), (420, 420))  # height, width in pixels
COUNTS = (1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6, 8)  # objects of a scene; each as likely
SIDES = (0.16, 0.85)  # of an object, in shorter sides of the scene; even on a logarithmic scale
CROWDED = 1.28  # side of each of n objects times the root of n, at most
ALIKE = 0.15  # standard deviation of the logarithm of their sides, within a scene
MIXED = 0.25  # of the scenes show several classes
NEAR = 0.6  # of the scenes have their objects near each other
DISTANCES = (0.55, 1.05)  # of near ones, in their sides
TURN = 20.0  # degrees, standard deviation
LIGHT = 0.08  # standard deviation of the gain
SHADOW = 0.35  # how dark a shadow is
INSIDE = 0.7  # of an object lies in the scene, at least
SEEN = 0.45  # of an object can be seen when others lie on it, at least
FEWEST_PIXELS = 60  # of an object
TRIES = 30
QUALITY = 92  # of the JPEG


@dataclass
class _Placed:
    """An object in a scene: its class, its centre (x, y), and how many pixels it had at first."""

    label: str
    centre: tuple[float, float]
    pixels: int


def compose(
    cutouts: Sequence[Cutout], count: int, seed: int, what: str = "scene"
) -> list[Annotated]:
    """Return scenes whose files are in memory, each with one to eight objects.

    Args:
        cutouts: what is pasted, and on what.
        count: how many scenes.
        seed: the same seed gives the same scenes.
        what: begins the name of each.
    """
    by_label: dict[str, list[Cutout]] = {}
    for cutout in cutouts:
        by_label.setdefault(cutout.label, []).append(cutout)
    scenes = []
    for number in range(count):
        pixels, boxes = _scene(by_label, cutouts, np.random.default_rng([seed, number]))
        if boxes:
            largest = max(boxes, key=lambda box: box.area)
            name = f"{what} {number + 1}"
            file = ImageFile(InMemory(pixels), name, largest.label)  # type: ignore[arg-type]
            ordered = sorted(boxes, key=lambda box: -box.area)
            scenes.append(Annotated(file, pixels.shape[:2], ordered))
    return scenes


class InMemory:
    """An image file that lies in memory, read as one in an object store is."""

    def __init__(self, pixels: np.ndarray) -> None:
        held = io.BytesIO()
        Image.fromarray(pixels).save(held, "JPEG", quality=QUALITY)
        self._data = held.getvalue()

    def __str__(self) -> str:
        return f"in memory: {hashlib.sha256(self._data).hexdigest()}"

    def stat(self) -> NoReturn:
        """Refuse, as of a file that is not on the disk.

        Raises:
            FileNotFoundError: always.
        """
        raise FileNotFoundError(str(self))

    def read_bytes(self, most: int) -> bytes:
        """Return the file's bytes; never more than `most`."""
        return self._data[:most]


def _scene(
    by_label: dict[str, list[Cutout]], cutouts: Sequence[Cutout], rng: np.random.Generator
) -> tuple[np.ndarray, list[Box]]:
    """Return the pixels (height, width, 3) uint8 of a scene, and its objects."""
    import cv2

    height, width = SIZES[rng.integers(len(SIZES))]
    behind = cutouts[int(rng.integers(len(cutouts)))].background
    if rng.random() < 0.5:
        behind = np.ascontiguousarray(behind[:, ::-1])
    canvas = cv2.resize(behind, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    count, names = int(COUNTS[rng.integers(len(COUNTS))]), list(by_label)
    side = math.exp(rng.uniform(*np.log(SIDES)))
    side = min(side, CROWDED / math.sqrt(count)) * min(height, width)
    main, mixed, near = names[rng.integers(len(names))], rng.random() < MIXED, rng.random() < NEAR
    owner = np.full((height, width), -1)  # which object each pixel belongs to
    placed: list[_Placed] = []
    for _ in range(count):
        label = names[rng.integers(len(names))] if mixed else main
        cutout = by_label[label][rng.integers(len(by_label[label]))]
        pixels, mask = _turned(cutout, side * math.exp(rng.normal(0, ALIKE)), rng)
        corner = _corner(mask, side, owner, placed, near, rng)
        if corner is not None:
            own = _paste(canvas, pixels, mask, corner)
            owner[own > 0.5] = len(placed)
            middle = corner[0] + mask.shape[1] / 2, corner[1] + mask.shape[0] / 2
            placed.append(_Placed(label, middle, int((mask > 0.5).sum())))
    boxes = []
    for number, one in enumerate(placed):
        y, x = np.nonzero(owner == number)
        if len(y) >= FEWEST_PIXELS:
            sides = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
            boxes.append(Box(one.label, sides))
    return canvas.clip(0, 255).astype(np.uint8), boxes


def _turned(cutout: Cutout, side: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a cutout whose longer side has so many pixels, mirrored, turned and relit at random:
    pixels (h, w, 3) float32, 0-255, and mask (h, w) float32, 0-1.
    """
    import cv2

    pixels, mask = cutout.pixels, cutout.mask
    if rng.random() < 0.5:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    scale = side / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels, mask = (
        cv2.resize(np.ascontiguousarray(one), size, interpolation=kind) for one in (pixels, mask)
    )
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), rng.normal(0, TURN), 1.0)
    cosine, sine = np.abs(turn[0, :2])
    wide = math.ceil(size[0] * cosine + size[1] * sine)
    high = math.ceil(size[0] * sine + size[1] * cosine)
    turn[:, 2] += (wide - size[0]) / 2, (high - size[1]) / 2
    pixels = cv2.warpAffine(pixels, turn, (wide, high), borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(mask, turn, (wide, high))
    gain = np.clip(rng.normal(1, LIGHT), 0.8, 1.2)
    return (pixels * gain).astype(np.float32), mask.astype(np.float32) / 255


def _corner(
    mask: np.ndarray,
    side: float,
    owner: np.ndarray,
    placed: list[_Placed],
    near: bool,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Return where the corner (x, y) of an object comes to lie, so that enough of it is in the
    scene and enough of those below it stays to be seen; None where no such place was found.
    """
    height, width = owner.shape
    rows, columns = np.nonzero(mask > 0.5)
    if len(rows) < FEWEST_PIXELS:
        return None
    seen = np.bincount(owner[owner >= 0], minlength=len(placed))
    fewest = SEEN * np.array([one.pixels for one in placed])
    for _ in range(TRIES):
        if placed and near:
            x, y = placed[rng.integers(len(placed))].centre
            distance, angle = side * rng.uniform(*DISTANCES), rng.uniform(0, 2 * math.pi)
            x, y = x + distance * math.cos(angle), y + distance * math.sin(angle)
        else:
            x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
        left, top = int(x - mask.shape[1] / 2), int(y - mask.shape[0] / 2)
        inside = (rows + top >= 0) & (rows + top < height)
        inside &= (columns + left >= 0) & (columns + left < width)
        if inside.mean() < INSIDE:
            continue
        below = owner[rows[inside] + top, columns[inside] + left]
        hidden = np.bincount(below[below >= 0], minlength=len(placed))
        if (seen - hidden >= fewest)[hidden > 0].all():
            return left, top
    return None


def _paste(
    canvas: np.ndarray, pixels: np.ndarray, mask: np.ndarray, corner: tuple[int, int]
) -> np.ndarray:
    """Paste an object into a scene, in place, with a soft shadow beside it; return how much of each
    pixel of the scene it covers, (height, width) float32.
    """
    import cv2

    (height, width), (left, top) = canvas.shape[:2], corner
    rows = slice(max(0, top), min(height, top + mask.shape[0]))
    columns = slice(max(0, left), min(width, left + mask.shape[1]))
    part = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    cover = np.zeros((height, width), np.float32)
    cover[rows, columns] = mask[part]
    moved = cv2.warpAffine(cover, np.array([[1.0, 0, 2], [0, 1, 3]]), (width, height))
    shade = cv2.GaussianBlur(moved, (0, 0), 5) * SHADOW * (1 - cover)
    canvas *= (1 - shade)[..., None]
    share = mask[part][..., None]
    canvas[rows, columns] = canvas[rows, columns] * (1 - share) + pixels[part] * share
    return cover
