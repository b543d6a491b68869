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
    """Return a PNG of one batch of views: pixels, box (4,) in fractions, label of each."""
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
    ordered = sorted(images, key=lambda item: item[3])
    if len(ordered) > MOST:
        rest = ordered[MOST // 2 :]
        ordered = ordered[: MOST // 2] + [
            rest[i] for i in np.linspace(0, len(rest) - 1, MOST - MOST // 2).round().astype(int)
        ]
    cells = []
    for file, truth, found, overlap in ordered:
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


def _drawn(pixels: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """Return a small image with a box in fractions drawn."""
    image = Image.fromarray(pixels)
    image.thumbnail((CELL - 8, CELL - 8))
    drawn = np.array(image)
    height, width = drawn.shape[:2]
    return Image.fromarray(
        rectangle(
            drawn, (box * (width, height, width, height)).tolist(), (height, width), colour=colour
        )
    )
