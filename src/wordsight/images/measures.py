"""Measure an image without a network: size, light, sharpness, plainness, fingerprint and corners.

One decode gives all of it. It is cached by the content of the file, like embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np
from PIL import Image

from .decoding import Photo
from .fingerprints import Look, look

KEY = "measures-1"  # in the cache; change the number when any measure changes
# pixels; light and sharpness are measured at this size, so that they are comparable between images
LONGEST = 320
MAX_TRIM = 0.2  # of a side
# corners, and the longest side in pixels at which they are searched
POINTS, POINTS_LONGEST = 200, 400


@dataclass(frozen=True, eq=False)
class Measures:
    """Numbers about one image.

    Attributes:
        width: of the upright original, in pixels.
        height: of the upright original, in pixels.
        frames: number of frames or pages; 1 for most.
        darkest: 5th percentile of brightness, 0–255.
        brightest: 95th percentile of brightness, 0–255.
        spread: standard deviation of the least uniform colour channel, 0–128.
        plain: share of the pixels that have the commonest colour, 0–1.
        coloured: share of the pixels that have a colour rather than a shade of grey, 0–1.
        sharpness: share of the finest detail in all detail, 0–1; low for blurred images.
        look: fingerprint of the image without uniform borders.
        points: (k, 2) uint16, x and y of up to 200 corners, at a longest side of 400 pixels.
        descriptors: (k, 32) uint8, the surroundings of each corner.
    """

    width: int
    height: int
    frames: int
    darkest: float
    brightest: float
    spread: float
    plain: float
    coloured: float
    sharpness: float
    look: Look
    points: np.ndarray
    descriptors: np.ndarray

    def pack(self) -> bytes:
        """Return everything as bytes, for the cache."""
        numbers = np.array([getattr(self, field.name) for field in fields(self)[:9]], dtype="<f4")
        return (
            numbers.tobytes()
            + self.look.bits
            + self.look.thumbnail
            + self.points.tobytes()
            + self.descriptors.tobytes()
        )

    @staticmethod
    def unpack(packed: bytes) -> Measures:
        """Restore measures from the bytes of `pack`."""
        numbers, bits, thumbnail, rest = packed[:36], packed[36:44], packed[44:812], packed[812:]
        count = len(rest) // 36  # 2 × 2 bytes for x and y, and 32 for the descriptor
        points = np.frombuffer(rest[: 4 * count], dtype="<u2").reshape(count, 2)
        descriptors = np.frombuffer(rest[4 * count :], dtype=np.uint8).reshape(count, 32)
        return _measures(
            np.frombuffer(numbers, dtype="<f4").tolist(), Look(bits, thumbnail), points, descriptors
        )


def measure(photo: Photo, frames: int = 1) -> Measures:
    """Measure a decoded image."""
    height, width = photo.size
    scale = min(1.0, LONGEST / max(photo.image.size))
    small = photo.image.resize(
        (max(1, round(photo.image.width * scale)), max(1, round(photo.image.height * scale))),
        Image.Resampling.BOX,
    )
    pixels = np.asarray(small)  # (h, w, 3) uint8
    grey = np.asarray(small.convert("L"))
    darkest, brightest = np.percentile(grey, (5, 95))
    coloured = float((np.ptp(pixels, axis=2) >= 40).mean())
    spread = float(pixels.reshape(-1, 3).std(axis=0).max())
    numbers = np.array(
        [
            width,
            height,
            frames,
            darkest,
            brightest,
            spread,
            _plainness(pixels),
            coloured,
            _sharpness(grey),
        ],
        dtype=np.float32,
    )
    # rounded as in the cache
    return _measures(numbers.tolist(), look(trim(photo.image)), *_corners(photo.image))


def _corners(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return points (k, 2) and descriptors (k, 32) of corners that are found again when the image
    is scaled or cropped (ORB).
    """
    scale = POINTS_LONGEST / max(image.size)
    size = (max(32, round(image.width * scale)), max(32, round(image.height * scale)))
    detector = cv2.ORB_create(POINTS, 1.25, 8, fastThreshold=7)  # type: ignore[attr-defined]
    found, descriptors = detector.detectAndCompute(
        np.asarray(image.convert("L").resize(size)), None
    )
    if descriptors is None:
        return np.zeros((0, 2), dtype="<u2"), np.zeros((0, 32), dtype=np.uint8)
    return np.array([point.pt for point in found]).round().astype("<u2"), descriptors


def _measures(
    numbers: list[float], appearance: Look, points: np.ndarray, descriptors: np.ndarray
) -> Measures:
    width, height, frames, darkest, brightest, spread, plain, coloured, sharpness = numbers
    return Measures(
        int(width),
        int(height),
        int(frames),
        darkest,
        brightest,
        spread,
        plain,
        coloured,
        sharpness,
        appearance,
        points,
        descriptors,
    )


def trim(image: Image.Image) -> Image.Image:
    """Return the image without uniform borders, if it has any."""
    # (96, 96, 3)
    pixels = np.asarray(image.resize((96, 96), Image.Resampling.BOX)).astype(np.int16)
    left = upper = 0
    right = lower = 96
    most = int(96 * MAX_TRIM)
    while upper < most and _uniform(pixels[upper]):
        upper += 1
    while 96 - lower < most and _uniform(pixels[lower - 1]):
        lower -= 1
    while left < most and _uniform(pixels[:, left]):
        left += 1
    while 96 - right < most and _uniform(pixels[:, right - 1]):
        right -= 1
    if (left, upper, right, lower) == (0, 0, 96, 96):
        return image
    x, y = image.width / 96, image.height / 96
    box = (
        round(left * x),
        round(upper * y),
        max(round(left * x) + 1, round(right * x)),
        max(round(upper * y) + 1, round(lower * y)),
    )
    return image.crop(box)


def _uniform(line: np.ndarray) -> bool:
    """Whether a line of pixels (n, 3) has one colour."""
    return bool((line.max(axis=0) - line.min(axis=0)).max() <= 12)


def _plainness(pixels: np.ndarray) -> float:
    """Return the share of the commonest colour."""
    coarse = (pixels.astype(np.int32) + 8) >> 4  # 17 steps per channel
    counts = np.bincount(((coarse[..., 0] * 17 + coarse[..., 1]) * 17 + coarse[..., 2]).ravel())
    return float(counts.max() / counts.sum())


def _sharpness(grey: np.ndarray) -> float:
    """Return the share of the detail between 1 and 4 pixels that is finer than 2, in the sharpest
    tenth of the image.
    """
    image = grey.astype(np.float32)
    fine = np.abs(image - cv2.GaussianBlur(image, (0, 0), 1.0))
    coarse = np.abs(image - cv2.GaussianBlur(image, (0, 0), 3.0))
    edges = coarse >= max(np.percentile(coarse, 90), 2.0)
    return float(fine[edges].sum() / max(coarse[edges].sum(), 1e-6)) if edges.any() else 0.0
