"""Compare images regardless of scale, compression and small changes of light. Knows no files and
no networks.

Two images are near duplicates if their perceptual hashes differ in few bits *and* their thumbnails
look alike. The hash finds candidates fast; the thumbnail keeps flat or simple images, whose hashes
carry little information, from being confused.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

MAX_BITS = 10  # of 63
THUMBNAIL = 16  # pixels on each side
# difference allowed between two thumbnails, as a share of their contrast: on average, at worst
MEAN_LEFT, WORST_LEFT = 0.2, 1.0
MAX_LIGHT = 30.0  # by how much a channel may be lighter or darker, of 255
GAIN = (0.6, 1.6)  # range of the ratio of contrasts
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_BIT_COUNT = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Look:
    """An image's appearance in 776 bytes.

    Attributes:
        bits: perceptual hash, 8 bytes.
        thumbnail: (16, 16, 3) uint8 RGB, as 768 bytes.
    """

    bits: bytes
    thumbnail: bytes


def look(image: Image.Image) -> Look:
    """Return the fingerprint of an RGB image: the signs of its 8 × 8 lowest cosine frequencies, and
    a thumbnail.

    Source: the hash is the "pHash" of C. Zauner, Implementation and Benchmarking of Perceptual
    Image Hash Functions (2010).
    """
    small = image.resize((32, 32), Image.Resampling.BOX)
    low = cv2.dct(np.asarray(small.convert("L"), dtype=np.float32))[:8, :8].ravel()
    signs = low > np.median(low[1:])
    signs[0] = False  # the mean is brightness, not content
    thumbnail = (
        np.asarray(small, dtype=np.float32).reshape(THUMBNAIL, 2, THUMBNAIL, 2, 3).mean(axis=(1, 3))
    )
    return Look(np.packbits(signs).tobytes(), np.rint(thumbnail).astype(np.uint8).tobytes())


class NearDuplicates:
    """The fingerprints of the images kept so far, each under a number."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._bits = np.empty((0, 8), dtype=np.uint8)
        self._thumbnails = np.empty((0, THUMBNAIL * THUMBNAIL * 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, appearance: Look) -> None:
        """Keep an image's fingerprint."""
        if len(self) == len(self._bits):
            more = max(256, len(self._bits))
            self._bits = np.concatenate([self._bits, np.empty((more, 8), dtype=np.uint8)])
            self._thumbnails = np.concatenate(
                [self._thumbnails, np.empty((more, self._thumbnails.shape[1]), dtype=np.uint8)]
            )
        self._bits[len(self)] = np.frombuffer(appearance.bits, dtype=np.uint8)
        self._thumbnails[len(self)] = np.frombuffer(appearance.thumbnail, dtype=np.uint8)
        self._numbers.append(number)

    def find(self, appearance: Look) -> int | None:
        """Return the number of the most similar near duplicate, or None."""
        count = len(self)
        bits = np.frombuffer(appearance.bits, dtype=np.uint8)
        # (n, 8) -> (n,)
        different = _BIT_COUNT[self._bits[:count] ^ bits].sum(axis=1, dtype=np.int32)
        candidates = np.flatnonzero(different <= MAX_BITS)
        if not len(candidates):
            return None
        mine = (
            np.frombuffer(appearance.thumbnail, dtype=np.uint8).reshape(1, -1, 3).astype(np.float32)
        )
        # (k, 256, 3)
        others = self._thumbnails[candidates].reshape(len(candidates), -1, 3).astype(np.float32)
        left, alike = _compare(mine, others)
        left[~alike] = np.inf
        best = int(left.argmin())
        return self._numbers[candidates[best]] if alike[best] else None


def mirrored(appearance: Look) -> Look:
    """Return the mirror image's thumbnail; its hash is empty."""
    pixels = np.frombuffer(appearance.thumbnail, dtype=np.uint8).reshape(THUMBNAIL, THUMBNAIL, 3)
    return Look(bytes(8), pixels[:, ::-1].tobytes())


def resembles(a: Look, b: Look) -> bool:
    """Whether two fingerprints are of copies, ignoring colour: one may be grey."""
    grey = [
        np.frombuffer(x.thumbnail, dtype=np.uint8).reshape(1, -1, 3).astype(np.float32) @ _LUMA
        for x in (a, b)
    ]
    _, alike = _compare(grey[0][..., None], grey[1][..., None])
    return bool(alike[0])


def _compare(mine: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare thumbnails (1, pixels, 3) and (k, pixels, 3), ignoring light and contrast.

    Returns:
        The mean remaining difference (k,), of 255; and whether each is a copy, (k,) bool.
    """
    flat_mine, flat_others = (
        mine - mine.mean(axis=1, keepdims=True),
        others - others.mean(axis=1, keepdims=True),
    )
    light = np.abs(mine.mean(axis=1) - others.mean(axis=1)).max(axis=1)  # (k,)
    # (k,); 0 if only the colours differ
    contrast = np.minimum(flat_mine.std(axis=(1, 2)), flat_others.std(axis=(1, 2)))
    gain = (flat_mine * flat_others).sum(axis=(1, 2)) / np.maximum(
        (flat_others**2).sum(axis=(1, 2)), 1e-6
    )
    rest = np.abs(flat_mine - np.clip(gain, *GAIN)[:, None, None] * flat_others)  # (k, pixels, 3)
    left = rest.mean(axis=(1, 2))
    alike = (
        (left <= 1 + MEAN_LEFT * contrast)
        & (rest.max(axis=(1, 2)) <= 4 + WORST_LEFT * contrast)
        & (light <= 2 + np.minimum(MAX_LIGHT, 3 * contrast))
    )
    return left, alike
