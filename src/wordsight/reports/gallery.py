"""The images of a report: small, with heat maps as coarse as the network saw them, kept on
disk until they can be put in order.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.home import writing

SIDE = 224  # pixels on the longest side
QUALITY = 72
A_PAGE = 1000  # images
PAGE_BYTES = 13 << 20  # of images on one page, so that it stays below 15 MB


@dataclass(frozen=True)
class Card:
    """One image of a report and what is said of it.

    Attributes:
        name: of the file.
        group: what it is filed under: a class, or a reason.
        said: what the model or the check says, in a few words.
        note: more of it, "" for nothing.
        probability: of the likeliest class, 0–1; None where no model spoke.
        top: the likeliest class.
        right: whether the likeliest class is the true one, or, of a foreign image, does no harm;
            None where the truth isn't known.
        stranger: whether it is refused whatever its probability.
        foreign: whether it shows none of the classes, so that any label is wrong.
        likeliest: (class, probability) of the first few.
        box: (x_min, y_min, x_max, y_max), 0–1 of width and height, or None.
        true_box: the annotated one, likewise.
        link: relative address of a larger drawing, or None.
        image: JPEG, base64; "" where the image can't be shown.
        size: (height, width) of that, in pixels.
        heat: the heat map's cells, a byte each by row, base64; "" for none.
        grid: (h, w) of the heat map.
        place: path of the file from the folder where corrections go, "" where that is its name.
    """

    name: str
    group: str
    said: str
    note: str = ""
    probability: float | None = None
    top: str = ""
    right: bool | None = None
    stranger: bool = False
    foreign: bool = False
    likeliest: tuple[tuple[str, float], ...] = ()
    box: tuple[float, ...] | None = None
    true_box: tuple[float, ...] | None = None
    link: str | None = None
    image: str = ""
    size: tuple[int, int] = (0, 0)
    heat: str = ""
    grid: tuple[int, int] = (0, 0)
    place: str = ""

    def with_image(self, image: Image.Image | None, heat: np.ndarray | None = None) -> Card:
        """Return the card with its image, made small, and its heat map (h, w), 0–1."""
        if image is None:
            return self
        small = thumbnail(image)
        shown = replace(self, image=_text(small[0]), size=small[1])
        if heat is None or not heat.any():
            return shown
        return replace(
            shown,
            heat=_text(np.round(heat * 255).astype(np.uint8).tobytes()),
            grid=(heat.shape[0], heat.shape[1]),
        )


def thumbnail(image: Image.Image, side: int = SIDE) -> tuple[bytes, tuple[int, int]]:
    """Return an image as a small JPEG, and its (height, width) in pixels."""
    import cv2

    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.height * scale)), max(1, round(image.width * scale)))
    if scale <= 1 / 2:  # whole pixels' means first: several times as fast as means of parts
        image = image.reduce(int(1 / scale))
    pixels = np.asarray(image)
    pixels = pixels if scale == 1 else cv2.resize(pixels, size[::-1])
    return cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    )[1].tobytes(), size


class Gallery:
    """Cards that wait to be put in order, in a nameless file beside the report: a report of many
    images takes no memory.

    Args:
        folder: where the report will lie, or where it will be made.

    Raises:
        OutputError: if nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with writing(folder):
            there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
            self._file = tempfile.TemporaryFile(dir=there)  # noqa: SIM115  # closed by `close`
        self._places: list[tuple[tuple, int, int]] = []  # key, where it begins, how long it is
        self._lock = threading.Lock()
        self._end = 0

    def __len__(self) -> int:
        return len(self._places)

    def add(self, card: Card, key: tuple) -> None:
        """Keep a card; those with the least key come first. Safe from many threads."""
        line = json.dumps(vars(card)).encode()
        with self._lock, writing(self._folder):
            self._file.write(line)
            self._places.append(((*key, card.name), self._end, len(line)))
            self._end += len(line)

    def pages(self) -> list[list[int]]:
        """Return for each page the numbers of its cards, in order, at most a thousand; at least
        one page, be it empty.
        """
        pages: list[list[int]] = [[]]
        taken = 0
        for number in sorted(range(len(self)), key=lambda number: self._places[number][0]):
            length = self._places[number][2]
            if pages[-1] and (len(pages[-1]) == A_PAGE or taken + length > PAGE_BYTES):
                pages.append([])
                taken = 0
            pages[-1].append(number)
            taken += length
        return pages

    def read(self, numbers: Iterable[int]) -> list[Card]:
        """Return cards by their numbers."""
        cards = []
        for number in numbers:
            _, start, length = self._places[number]
            self._file.seek(start)
            cards.append(_card(json.loads(self._file.read(length))))
        return cards

    def close(self) -> None:
        """Forget the cards. A full disk may refuse the last of them; nobody needs those now."""
        with contextlib.suppress(OSError):
            self._file.close()


def _card(fields: dict) -> Card:
    return Card(**fields | {name: tuple(fields[name]) for name in ("size", "grid")})


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
