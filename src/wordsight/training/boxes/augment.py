"""Random views of annotated images, their boxes moved along: what a box head learns from."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...backbones.preprocessing import Preprocessing
from ...datasets.annotations import mirrored
from ...images.decoding import resize

# side of a view's window in sides of the image, drawn evenly on a logarithmic scale; above 1 a
# flat margin shows
ZOOM = (0.4, 1.6)
KEPT = 0.8  # of the box's area must be in the view
KEPT_OF_MANY = 0.3  # of each of many, or it doesn't count as shown
TRIES = 20
# logarithm of how much the window's aspect changes, at most; of the view's own, half of that
STRETCH = 0.2
LIGHT = 0.25  # logarithm of contrast and gain, at most; a third of it for each colour apart


def view(
    image: Image.Image, box: np.ndarray, preprocessing: Preprocessing, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a random view of an image as the network takes it, and its box there.

    A window that is moved, zoomed and stretched; other light and colours; mirrored every other
    time.

    Args:
        image: upright RGB.
        box: (4,) `xyxy` in fractions of the image.
        preprocessing: of the network.
        rng: decides everything.

    Returns:
        (height, width, 3) uint8, and (4,) float64 fractions of the view.
    """
    start, size, moved = _window(box, rng)
    stretch = np.exp(rng.uniform(-STRETCH, STRETCH) / 2)
    shape = (
        max(1, round(size[1] * image.height * stretch)),
        max(1, round(size[0] * image.width / stretch)),
    )
    shown = _render(
        image, start, size, preprocessing.input_size(shape), preprocessing.interpolation
    )
    pixels = _relit(shown, rng)
    if rng.random() < 0.5:
        pixels, moved = pixels[:, ::-1], np.array(mirrored(moved, 1.0))
    return np.ascontiguousarray(pixels), moved


def view_of_many(
    image: Image.Image, boxes: np.ndarray, preprocessing: Preprocessing, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a random view of an image with any number of boxes, and those of them that it shows.

    As `view`, but every view has the network's own size, so that views can be stacked, and a box of
    which too little is in the window is no box of the view.

    Args:
        image: upright RGB.
        boxes: (n, 4) `xyxy` in fractions of the image.
        preprocessing: of the network.
        rng: decides everything.

    Returns:
        (height, width, 3) uint8; (m, 4) float64 fractions of the view; (m,) which of `boxes` they
        are.
    """
    base = np.ones(2)
    if preprocessing.fit == "area":  # a square of as many pixels as the image has
        base = np.sqrt(np.array(image.size[::-1]) / np.array(image.size))
    start, size, moved, shown = _window_of_many(boxes, base, rng)
    height, width = preprocessing.image_size
    pixels = _relit(_render(image, start, size, (height, width), preprocessing.interpolation), rng)
    moved = moved[shown]
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        moved = moved[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [1, 0, 1, 0]
    return np.ascontiguousarray(pixels), moved, np.flatnonzero(shown)


def _window_of_many(
    boxes: np.ndarray, base: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a random window's corner and (width, height), in fractions of the image, the boxes
    (n, 4) in fractions of the window, clipped to it, and which of them it shows, (n,) bool. It
    cuts fewer boxes than it shows, if such a one is soon found.
    """
    for _ in range(TRIES):
        zoom, aspect = np.exp(rng.uniform(*np.log(ZOOM))), np.exp(rng.uniform(-STRETCH, STRETCH))
        size = base * zoom * [aspect, 1 / aspect]
        start = rng.uniform(np.minimum(0, 1 - size), np.maximum(0, 1 - size))
        moved = (boxes - np.tile(start, 2)) / np.tile(size, 2)
        clipped = np.clip(moved, 0, 1)
        areas = [(sides[:, 2:] - sides[:, :2]).prod(axis=1) for sides in (clipped, moved)]
        part = areas[0] / np.maximum(areas[1], 1e-12)
        shown = part >= KEPT_OF_MANY
        if shown.any() and ((part > 0.02) & ~shown).sum() <= shown.sum():
            break
    return start, size, clipped, shown


def _relit(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return pixels (height, width, 3) uint8 in other light and colours."""
    contrast, gain = (
        np.exp(rng.uniform(-LIGHT, LIGHT)),
        np.exp(rng.uniform(-LIGHT, LIGHT) + rng.uniform(-LIGHT / 3, LIGHT / 3, 3)),
    )
    # (3, 256)
    levels = np.clip(((np.arange(256) - 128) * contrast + 128) * gain[:, None], 0, 255).astype(
        np.uint8
    )
    return np.stack([levels[channel][pixels[:, :, channel]] for channel in range(3)], axis=2)


def _window(box: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a random window's corner and (width, height), in fractions of the image, and the
    box in fractions of the window.
    """
    for _ in range(TRIES):
        zoom, aspect = np.exp(rng.uniform(*np.log(ZOOM))), np.exp(rng.uniform(-STRETCH, STRETCH))
        size = np.array([zoom * aspect, zoom / aspect])
        start = rng.uniform(np.minimum(0, 1 - size), np.maximum(0, 1 - size))
        moved = np.clip((box - np.tile(start, 2)) / np.tile(size, 2), 0, 1)
        if np.prod((moved[2:] - moved[:2]) * size) >= KEPT * np.prod(box[2:] - box[:2]):
            return start, size, moved
    return np.zeros(2), np.ones(2), box.copy()


def _render(
    image: Image.Image,
    start: np.ndarray,
    size: np.ndarray,
    shape: tuple[int, int],
    interpolation: str,
) -> np.ndarray:
    """Return a window of an image at (height, width) `shape`; what lies outside the image is
    flat, of its mean colour.
    """
    whole, wanted = np.array(image.size), np.array(shape[::-1])  # (width, height)
    low, high = np.clip(start, 0, 1), np.clip(start + size, 0, 1)
    # of the image's part in the view
    corners = np.round((np.stack([low, high]) - start) / size * wanted).astype(int)
    width, height = np.maximum(corners[1] - corners[0], 1).tolist()
    part = resize(
        image, (height, width), interpolation, (*(low * whole).tolist(), *(high * whole).tolist())
    )
    if (height, width) == shape:
        return part
    out = np.empty((*shape, 3), dtype=np.uint8)
    out[:] = part.mean(axis=(0, 1)).astype(np.uint8)
    x, y = np.minimum(corners[0], wanted - (width, height)).tolist()
    out[y : y + height, x : x + width] = part
    return out
