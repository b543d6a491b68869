"""Draw on images: heat maps laid over them, masks, rectangles with their names."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..images.decoding import MAX_LONGEST
from .one_pass import MASK_THRESHOLD

JPEG_QUALITY = 88
WHITE = (255, 255, 255)
HEAT = 0.4  # share of the colours where a heat map lies over an image
# Okabe and Ito 2008
COLOURS = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (240, 228, 66),
)


def superimpose(
    image: Image.Image,
    heatmap: np.ndarray,
    box: Sequence[float] | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Return the image (height, width, 3) uint8 RGB with its heat map laid over it and a box
    drawn.

    Args:
        image: upright RGB, possibly smaller than `size`.
        heatmap: (h, w), 0–1.
        box: `xyxy` in pixels of `size`, or None.
        size: (height, width) of the original; by default the image's.
    """
    import cv2

    pixels = np.asarray(image)
    colours = cv2.applyColorMap(_in_bytes(heatmap, pixels.shape[:2]), _heat_colours())
    laid_over = cv2.addWeighted(pixels, 1 - HEAT, colours, HEAT, 0.0)
    return laid_over if box is None else rectangle(laid_over, box, size or pixels.shape[:2])


def _in_bytes(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a heat map (h, w), 0–1, interpolated smoothly to (height, width) `size`, as bytes of
    0–255: eight times as fast as floats, and as fine as any screen.
    """
    import cv2

    cells = np.round(heatmap * 255).astype(np.uint8)
    return cv2.resize(cells, size[::-1], interpolation=cv2.INTER_CUBIC)


@functools.cache
def _heat_colours() -> np.ndarray:
    """Return the colours (256, 1, 3) uint8 RGB of a heat map's values: Turbo (Mikhailov 2019),
    which OpenCV has as BGR.
    """
    import cv2

    return cv2.cvtColor(
        cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO),
        cv2.COLOR_BGR2RGB,
    )


def rectangle(
    image: np.ndarray,
    box: Sequence[float],
    size: tuple[int, int],
    text: str = "",
    colour: tuple[int, int, int] = WHITE,
) -> np.ndarray:
    """Draw a box into an image (height, width, 3) uint8 RGB, with a text above it, and return the
    image.

    Args:
        image: changed in place.
        box: `xyxy` in pixels of `size`.
        size: (height, width) that the box is for.
        text: a short line.
        colour: RGB.
    """
    import cv2

    height, width = image.shape[:2]
    scale = np.array([width / size[1], height / size[0]] * 2)
    x_min, y_min, x_max, y_max = np.round(np.array(box) * scale).astype(int).tolist()
    thick = max(2, round(max(height, width) / 250))
    cv2.rectangle(image, (x_min, y_min), (x_max - 1, y_max - 1), colour, thick)
    return _banner(image, text, colour, x_min, y_min) if text else image


def _banner(
    image: np.ndarray, text: str, colour: tuple[int, int, int], x: int, y: int
) -> np.ndarray:
    """Write a line on a coloured background, above (x, y) if there is room, else below."""
    from PIL import ImageDraw, ImageFont

    height, width = image.shape[:2]
    font = ImageFont.load_default(max(12, round(max(height, width) / 55)))
    left, top, right, bottom = font.getbbox(text)
    wide, high = round(right - left) + 6, round(bottom - top) + 6
    x, y = max(0, min(x, width - wide)), y - high if y >= high else y
    banner = Image.new("RGB", (wide, high), colour)
    ImageDraw.Draw(banner).text(
        (3 - left, 3 - top), text, fill="black" if sum(colour) > 330 else "white", font=font
    )
    part = image[y : y + high, x : x + wide]
    part[:] = np.asarray(banner)[: part.shape[0], : part.shape[1]]
    return image


def caption(image: np.ndarray, text: str, colour: tuple[int, int, int] = WHITE) -> np.ndarray:
    """Write a short line into the upper left corner of an image (height, width, 3) uint8 RGB,
    in place, and return it.
    """
    return _banner(image, text, colour, 0, 0)


def to_jpeg(image: np.ndarray) -> bytes:
    """Return an image (height, width, 3) uint8 RGB as JPEG."""
    import cv2

    return cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )[1].tobytes()


def segmentation(
    heatmap: np.ndarray, size: tuple[int, int], threshold: float = MASK_THRESHOLD
) -> bytes:
    """Return a PNG mask of the original's (height, width) `size`: 255 where the heat map
    reaches `threshold`, else 0.
    """
    import cv2

    return cv2.imencode(
        ".png",
        full_mask(heatmap, size, threshold),
        [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1],
    )[1].tobytes()


def full_mask(
    heatmap: np.ndarray, size: tuple[int, int], threshold: float = MASK_THRESHOLD
) -> np.ndarray:
    """Return (height, width) uint8 of `size`: 255 where the heat map (h, w) reaches
    `threshold`, else 0.
    """
    import cv2

    scale = min(1.0, MAX_LONGEST / max(size))
    drawn = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    heat = _in_bytes(heatmap, drawn)
    mask = cv2.threshold(heat, np.ceil(threshold * 255) - 1, 255, cv2.THRESH_BINARY)[1]
    return mask if drawn == size else cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST)
