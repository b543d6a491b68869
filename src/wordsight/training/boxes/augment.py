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
    contrast, gain = (
        np.exp(rng.uniform(-LIGHT, LIGHT)),
        np.exp(rng.uniform(-LIGHT, LIGHT) + rng.uniform(-LIGHT / 3, LIGHT / 3, 3)),
    )
    # (3, 256)
    levels = np.clip(((np.arange(256) - 128) * contrast + 128) * gain[:, None], 0, 255).astype(
        np.uint8
    )
    pixels = np.stack([levels[channel][shown[:, :, channel]] for channel in range(3)], axis=2)
    if rng.random() < 0.5:
        pixels, moved = pixels[:, ::-1], np.array(mirrored(moved, 1.0))
    return np.ascontiguousarray(pixels), moved


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
