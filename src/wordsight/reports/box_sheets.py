"""Sheets that show boxes to people: a batch as it is learned from, and truth beside prediction.
Draws only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..backbones.embedder import read
from ..datasets.files import ImageFile
from ..errors import UnreadableImage
from ..heatmaps.drawing import COLOURS, rectangle
from ..images.contact_sheet import sheet
from ..images.decoding import decode

CELL = 220
BLUE, ORANGE = COLOURS[0], COLOURS[1]
MOST = 24  # pairs


def batch_sheet(views: Sequence[tuple[np.ndarray, np.ndarray, str]]) -> bytes:
    """Return a PNG of one batch of views: pixels, box (4,) or boxes (m, 4) in fractions, caption
    of each.
    """
    cells = [(_drawn(pixels, box, ORANGE), (label,)) for pixels, box, label in views]
    return sheet(
        cells,
        "One batch, as boxes are learned from: moved, zoomed, stretched, mirrored, in other light",
        cell=CELL,
    )


def truth_sheet(images: Sequence[tuple[ImageFile, np.ndarray, np.ndarray, float]]) -> bytes:
    """Return a PNG of images with their true box and, beside it, the predicted one.

    Args:
        images: file, true box, predicted box (4,) in fractions, IoU of each; the worst dozen and
            others evenly are shown.
    """
    cells = []
    for file, truth, found, overlap in _worst_and_others(sorted(images, key=lambda item: item[3])):
        try:
            pixels = np.asarray(decode(read(file)[0]).image)
        except UnreadableImage:
            continue
        cells += [
            (_drawn(pixels, truth, BLUE), (file.name, "truth")),
            (_drawn(pixels, found, ORANGE), ("", f"predicted, IoU {overlap:.2f}")),
        ]
    return sheet(
        cells,
        f"Truth (blue) beside prediction (orange), {len(cells) // 2} of {len(images)}: the "
        "worst first",
        columns=6,
        cell=CELL,
    )


def objects_sheet(
    images: Sequence[tuple[ImageFile, np.ndarray, np.ndarray, int]],
) -> bytes:
    """Return a PNG of images with their true objects and, beside them, those found.

    Args:
        images: file, true boxes (m, 4) and found ones (k, 4) in fractions, and how many objects are
            missed or found where none is; the worst dozen and others evenly are shown.
    """
    shown = _worst_and_others(sorted(images, key=lambda item: -item[3]))
    cells = []
    for file, truth, found, wrong in shown:
        try:
            pixels = np.asarray(decode(read(file)[0]).image)
        except UnreadableImage:
            continue
        cells += [
            (_drawn(pixels, truth, BLUE), (file.name, f"truth: {len(truth)}")),
            (_drawn(pixels, found, ORANGE), ("", f"found: {len(found)}, {wrong} wrong")),
        ]
    return sheet(
        cells,
        f"Truth (blue) beside what was found (orange), {len(cells) // 2} of {len(images)}: the "
        "worst first",
        columns=6,
        cell=CELL,
    )


def _worst_and_others(ordered: list) -> list:
    """Return the first dozen, and others evenly."""
    if len(ordered) <= MOST:
        return ordered
    rest = ordered[MOST // 2 :]
    chosen = np.linspace(0, len(rest) - 1, MOST - MOST // 2).round().astype(int)
    return ordered[: MOST // 2] + [rest[i] for i in chosen]


def _drawn(pixels: np.ndarray, boxes: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """Return a small image with a box (4,), or boxes (m, 4), in fractions drawn."""
    image = Image.fromarray(pixels)
    image.thumbnail((CELL - 8, CELL - 8))
    drawn = np.array(image)
    height, width = drawn.shape[:2]
    for box in (boxes.reshape(-1, 4) * (width, height, width, height)).tolist():
        drawn = rectangle(drawn, box, (height, width), colour=colour)
    return Image.fromarray(drawn)
