"""Find every object of an image with a model's object head: one pass over the whole, and, where an
image has many more pixels than those learned from, one over each of a few overlapping tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ..backbones.embedder import Embedder
from ..backbones.preprocessing import Preprocessing
from ..backbones.runtime import open_multiscale
from ..classification.classifier import Classifier
from ..core.threads import parallel_map
from ..heads.objects import LEAST, STRIDE, ObjectBoxes, ObjectHead, merge
from ..images.decoding import Photo, resize
from ..metrics.boxes import covered
from .detections import Detection

LARGE = 3.0  # times as long as the images learned from, sides from which an image gets tiles
TILE = 1.5  # side of a tile, in sides of the images learned from
OVERLAP = 0.25  # of a tile, shared with the next one
CUT = 0.02  # of a tile: what ends so near to its edge, within the image, may go on beyond it
PART = 0.8  # of a tile's box that lies in a surer one of the whole image: it is a part of that
AT_ONCE = 4  # tiles

Box = tuple[float, float, float, float]


def find_objects(
    image: Image.Image,
    size: tuple[int, int],
    head: ObjectHead,
    embedder: Embedder,
    tile: tuple[int, int] | None = None,
    least: float = LEAST,
) -> tuple[ObjectBoxes, np.ndarray, int]:
    """Return the objects of an image in pixels, its score map, and how many passes that took.

    Args:
        image: upright RGB, possibly smaller than `size`.
        size: (height, width) in pixels that boxes are said in.
        head: what finds them.
        embedder: its backbone.
        tile: (height, width) in pixels of the tiles; None: as `tile_of` chooses.
        least: probability below which a box is not kept.

    Returns:
        The objects, the surest first; (h, w) float32 score map, 0–1: the highest probability at
        each cell of the whole image; the number of passes.
    """
    finder = _Finder(image, size, head, embedder, least)
    whole, score_map = finder.look((0.0, 0.0, float(size[1]), float(size[0])))
    tile = tile or tile_of(size, head)
    if tile is None:
        return whole, score_map, 1
    spans = list(tiles(size, tile))
    found = [whole]
    for seen in parallel_map(finder.look_at_tile, spans, AT_ONCE):
        found.append(_without_parts(seen, whole))
    every = ObjectBoxes(
        np.concatenate([one.xyxy for one in found]),
        np.concatenate([one.labels for one in found]),
        np.concatenate([one.probabilities for one in found]),
    )
    return merge(every), score_map, 1 + len(spans)


def tile_of(size: tuple[int, int], head: ObjectHead) -> tuple[int, int] | None:
    """Return (height, width) in pixels of the tiles of an image, or None if it gets none: if it is
    not much larger than the images that the head learned from.
    """
    if math.sqrt(math.prod(size)) < LARGE * head.learned_side:
        return None
    side = round(TILE * head.learned_side)
    return side, side


def tiles(size: tuple[int, int], tile: tuple[int, int]) -> Iterator[Box]:
    """Yield the `xyxy` tiles of an image of (height, width) `size`, evenly spread, each sharing at
    least a quarter with the next.
    """
    starts = []
    for length, side in zip(size, tile, strict=True):
        side = min(side, length)
        count = 1 + math.ceil((length - side) / (side * (1 - OVERLAP)))
        starts.append(
            [(float(start), float(side)) for start in np.linspace(0, length - side, count)]
        )
    for top, height in starts[0]:
        for left, width in starts[1]:
            yield left, top, left + width, top + height


def objects_of(
    photo: Photo, model: Classifier, threshold: float | None, tile: tuple[int, int] | None = None
) -> tuple[list[Detection], np.ndarray, int]:
    """Return what a model's object head finds from a probability on, the surest first; see
    `find_objects` for the rest. A threshold of None finds nothing.
    """
    head = model.object_head
    assert head is not None
    least = LEAST if threshold is None else min(LEAST, threshold)
    boxes, scores, passes = find_objects(photo.image, photo.size, head, model.embedder, tile, least)
    rows = zip(
        boxes.xyxy.tolist(), boxes.labels.tolist(), boxes.probabilities.tolist(), strict=True
    )
    found = [
        Detection(tuple(box), head.class_names[label], probability)
        for box, label, probability in rows
        if threshold is not None and probability >= threshold
    ]
    return found, scores, passes


class _Finder:
    """Looks at parts of one image."""

    def __init__(
        self,
        image: Image.Image,
        size: tuple[int, int],
        head: ObjectHead,
        embedder: Embedder,
        least: float,
    ) -> None:
        self._image, self._size, self._head, self._least = image, size, head, least
        self._preprocessing: Preprocessing = embedder.backbone.preprocessing.with_side(head.side)
        self._runtime = open_multiscale(embedder.backbone, embedder.engine, embedder.dtype)
        self._scale = image.width / size[1], image.height / size[0]

    def look(self, span: Box) -> tuple[ObjectBoxes, np.ndarray]:
        """Return the objects in a part of the image, in pixels of the image, and its score map."""
        left, top, right, bottom = span
        height, width = self._preprocessing.input_size((round(bottom - top), round(right - left)))
        x, y = self._scale
        pixels = resize(
            self._image,
            (height, width),
            self._preprocessing.interpolation,
            (left * x, top * y, right * x, bottom * y),
        )
        found, scores = self._head.find(self._runtime.feature_maps(pixels), self._least)
        grow = np.array([(right - left) / width, (bottom - top) / height] * 2, dtype=np.float32)
        moved = found.xyxy * grow + np.array([left, top] * 2, dtype=np.float32)
        return ObjectBoxes(moved, found.labels, found.probabilities), scores

    def look_at_tile(self, span: Box) -> ObjectBoxes:
        """Return the objects that lie wholly in a tile."""
        found, _ = self.look(span)
        margin = CUT * min(span[2] - span[0], span[3] - span[1])
        height, width = self._size
        inner = np.array([span[0] > 0, span[1] > 0, span[2] < width, span[3] < height])
        near = np.abs(found.xyxy - np.array(span, dtype=np.float32)) < margin
        return found.chosen(~(near & inner).any(axis=1))


def _without_parts(seen: ObjectBoxes, whole: ObjectBoxes) -> ObjectBoxes:
    """Return what was seen in a tile, without what is part of a surer object of its class that was
    seen in the whole image.
    """
    if not len(seen.xyxy) or not len(whole.xyxy):
        return seen
    same = seen.labels[:, None] == whole.labels
    surer = whole.probabilities > seen.probabilities[:, None]
    parts = (covered(seen.xyxy, whole.xyxy) >= PART) & same & surer
    return seen.chosen(~parts.any(axis=1))


def longest_side(size: tuple[int, int], head: ObjectHead, tile: tuple[int, int] | None) -> int:
    """Return the longest side in pixels that an image is needed at, for what will be looked at."""
    tile = tile or tile_of(size, head)
    stretch = head.side * 2
    if tile is None:
        return min(max(size), stretch)
    return min(max(size), round(max(size) * min(1.0, stretch / max(tile))) + STRIDE)
