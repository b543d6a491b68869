"""Cut objects out of photos that have a label and no box: along the heat map of the label, and from
there along the photo's own colours (GrabCut, Rother et al. 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...backbones.encoding import Encoding
from ...heatmaps.heatmap import extent_of
from ...heatmaps.one_pass import class_heatmap

SIDE = 384  # pixels of a photo's longer side, in which cutouts and backgrounds are kept
GRAIN = 256  # pixels of the longer side, at which is decided what belongs to the object
# reach of the class, 0-1, from which a pixel may belong to the object, likely does, and does
MAYBE, LIKELY, SURE = 0.06, 0.2, 0.7
ROUNDS = 4  # of GrabCut
SPECK = 5  # pixels; what is thinner is none of the object
SMALLEST = 0.03  # share of the photo that a whole object takes
MAIN = 0.7  # share of what was cut out that its largest piece has, if it is a whole object
BEHIND = 128  # pixels of the longer side, at which a photo is painted over where the object was
MARGIN = 15  # pixels around the object that are painted over, too


@dataclass(frozen=True)
class Cutout:
    """One object, cut out of a photo.

    Attributes:
        label: class name.
        pixels: (h, w, 3) uint8 RGB, the part of the photo that the object lies in.
        mask: (h, w) uint8, how much of each pixel is the object, 0-255.
        whole: whether it is likely to be a whole object: in one piece, not tiny, and no more than
            one of its sides at the edge of the photo.
        solidity: its area beside that of its convex hull, 0-1. Several objects side by side have
            dents between them, so theirs is lower.
        background: the photo, painted over where the object was, (height, width, 3) uint8 RGB.
    """

    label: str
    pixels: np.ndarray
    mask: np.ndarray
    whole: bool
    solidity: float
    background: np.ndarray


def cut_out(
    image: Image.Image, label: str, class_weight: np.ndarray, encoding: Encoding
) -> Cutout | None:
    """Return the largest object of a class, or None where nothing speaks for it.

    Args:
        image: upright RGB.
        label: class name.
        class_weight: (C,) the class's row of the head's weight.
        encoding: of the image, with its feature maps.
    """
    import cv2

    assert encoding.feature_map is not None
    heat = class_heatmap(encoding.feature_map, class_weight)
    reach = extent_of(heat, encoding)
    reach = heat if reach is None else reach
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    pixels = np.array(small)
    piece, share = _largest_piece(_grabbed(pixels, reach))
    if piece is None:
        return None
    x, y, width, height = cv2.boundingRect(piece)
    tall, wide = piece.shape
    cut_off = (x <= 1) + (y <= 1) + (x + width >= wide - 1) + (y + height >= tall - 1)
    whole = cut_off <= 1 and share >= MAIN and piece.mean() >= SMALLEST
    mask = cv2.resize(piece * 255, small.size, interpolation=cv2.INTER_LINEAR)
    x, y, width, height = cv2.boundingRect((mask > 127).astype(np.uint8))
    if min(width, height) < SPECK:
        return None
    inside = (slice(y, y + height), slice(x, x + width))
    outline = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
    hull = cv2.contourArea(cv2.convexHull(outline))
    solidity = cv2.contourArea(outline) / max(1.0, hull)
    background = _painted_over(pixels, mask)
    return Cutout(label, pixels[inside], mask[inside], whole, solidity, background)


def _grabbed(pixels: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return what belongs to the object, (h, w) uint8, 1 or 0, with `GRAIN` pixels on the longer
    side.
    """
    import cv2

    scale = GRAIN / max(pixels.shape[:2])
    size = tuple(max(SPECK, round(side * scale)) for side in pixels.shape[1::-1])
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    fine = cv2.resize(reach, size, interpolation=cv2.INTER_CUBIC)
    guess = np.full(fine.shape, cv2.GC_BGD, dtype=np.uint8)
    guess[fine > MAYBE] = cv2.GC_PR_BGD
    guess[fine > LIKELY] = cv2.GC_PR_FGD
    guess[fine > SURE] = cv2.GC_FGD
    inside = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if inside.any() and not inside.all():  # GrabCut wants some of both
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)
        cv2.grabCut(small, guess, (0, 0, 1, 1), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        inside = np.isin(guess, (cv2.GC_FGD, cv2.GC_PR_FGD))
    kernel = np.ones((SPECK, SPECK), np.uint8)
    return cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_OPEN, kernel)


def _largest_piece(mask: np.ndarray) -> tuple[np.ndarray | None, float]:
    """Return the largest connected piece of a mask, without holes, and its share of all; None where
    there is none.
    """
    import cv2

    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return None, 0.0
    areas = stats[1:, cv2.CC_STAT_AREA]
    piece = (pieces == 1 + int(areas.argmax())).astype(np.uint8)
    outlines = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = cv2.drawContours(np.zeros_like(piece), outlines, -1, 1, cv2.FILLED)
    return filled, float(areas.max() / areas.sum())


def _painted_over(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a photo with what surrounds an object in the object's place."""
    import cv2

    hidden = cv2.dilate((mask > 20).astype(np.uint8), np.ones((MARGIN, MARGIN), np.uint8))
    if hidden.all():
        return np.broadcast_to(pixels.mean(axis=(0, 1)).astype(np.uint8), pixels.shape)
    scale = BEHIND / max(pixels.shape[:2])
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(hidden, size, interpolation=cv2.INTER_NEAREST)
    filled = cv2.inpaint(small, coarse, 3, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    share = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 3)[..., None]
    return (pixels * (1 - share) + filled * share).astype(np.uint8)
