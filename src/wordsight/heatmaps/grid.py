"""Grids: cut an image into parts and embed each, from the image's own feature map or from true
crops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..backbones.backbone import Backbone
from ..backbones.embedder import Embedder
from ..backbones.preprocessing import STRIDE
from ..errors import InvalidArgument
from ..images.decoding import Photo, resize
from .windows import shares, window_means

MOST = 16  # rows or columns
MOST_PIXELS = 1_500_000  # of the network's input in one pass
HEIGHTS = (32, 1280)  # pixels; images are decoded no larger


@dataclass(frozen=True)
class Grid:
    """How an image is cut.

    Attributes:
        shape: rows and columns.
        base_height: pixels that the image's height becomes before it is cut; None: the network's
            own input, so that the one pass over the image serves its parts, too.
        exact: cut true crops, each with a pass of its own, instead of taking means of the feature
            map.
    """

    shape: tuple[int, int] = (2, 2)
    base_height: int | None = None
    exact: bool = False

    def check(self, backbone: Backbone) -> None:
        """Check the settings.

        Raises:
            InvalidArgument: if the grid or height is out of range, or the network's embedding
                isn't a mean over places.
        """
        if not all(1 <= n <= MOST for n in self.shape) or self.shape == (1, 1):
            raise InvalidArgument(
                f"The grid must have 1 to {MOST} rows and columns, and more than one part, got "
                f"{self.shape[0]}x{self.shape[1]}."
            )
        if self.base_height is not None and not HEIGHTS[0] <= self.base_height <= HEIGHTS[1]:
            raise InvalidArgument(
                f"The base height must lie between {HEIGHTS[0]} and {HEIGHTS[1]} pixels, got "
                f"{self.base_height}."
            )
        if not self.exact and not backbone.pooled:
            raise InvalidArgument(
                f"'{backbone.name}' gives no feature map whose parts could be looked at. Use "
                "--exact: a pass for each part."
            )
        if (
            not self.exact
            and self.base_height is not None
            and backbone.preprocessing.fit == "squash"
        ):
            raise InvalidArgument(
                f"'{backbone.name}' takes one size only, so a base height needs --exact."
            )


def part_embeddings(
    photo: Photo, embedder: Embedder, grid: Grid, feature_map: np.ndarray | None = None
) -> list[tuple[tuple[float, float, float, float], np.ndarray]]:
    """Return each part's `xyxy` in pixels of the upright original, row by row, and its embedding
    (C,).

    Args:
        photo: the image.
        embedder: the network.
        grid: how to cut.
        feature_map: (C, h, w) of the ordinary pass, if it was kept.
    """
    (rows, columns), (height, width) = grid.shape, photo.size
    boxes = [
        (width * x / columns, height * y / rows, width * (x + 1) / columns, height * (y + 1) / rows)
        for y in range(rows)
        for x in range(columns)
    ]
    if grid.exact:
        embeddings = [_crop(photo, box, embedder, grid) for box in boxes]
    else:
        if grid.base_height is not None:
            feature_map = embedder.runtime.encode(
                _at_height(photo, grid.base_height, embedder.backbone), feature_map=True
            ).feature_map
        elif feature_map is None:
            feature_map = embedder.encode(photo, feature_map=True).feature_map
        assert feature_map is not None
        cells = feature_map.shape[1:]
        down, across = (
            shares(np.arange(n) / n, 1 / n, 0.0, 1 / count, count)
            for n, count in zip(grid.shape, cells, strict=True)
        )
        means = window_means(feature_map, down, across)  # (C, h, w) -> (C, rows, columns)
        embeddings = list(means.reshape(len(means), -1).T)
    return [
        (tuple(round(side, 1) for side in box), embedding)  # type: ignore[misc]
        for box, embedding in zip(boxes, embeddings, strict=True)
    ]


def _at_height(photo: Photo, height: int, backbone: Backbone) -> np.ndarray:
    """Return the whole image at a height, as near as the network's stride and `MOST_PIXELS`
    allow.
    """
    return resize(photo.image, _input(height, photo.size), backbone.preprocessing.interpolation)


def _crop(
    photo: Photo, box: tuple[float, float, float, float], embedder: Embedder, grid: Grid
) -> np.ndarray:
    """Return the embedding of a true crop, as high as its share of the base height."""
    preprocessing, image = embedder.backbone.preprocessing, photo.image
    scale = np.tile([image.width / photo.size[1], image.height / photo.size[0]], 2)
    corners = tuple((np.array(box) * scale).tolist())
    part = (max(1, round(box[3] - box[1])), max(1, round(box[2] - box[0])))
    size = preprocessing.input_size(part)
    if grid.base_height is not None and preprocessing.fit == "area":
        size = _input(grid.base_height / grid.shape[0], part)
    return embedder.runtime.encode(
        resize(image, size, preprocessing.interpolation, corners)
    ).embedding


def _input(height: float, size: tuple[int, int]) -> tuple[int, int]:
    """Return the network's input (height, width) for an image of (height, width) `size` at a
    height, in multiples of 32.
    """
    height = min(height, math.sqrt(MOST_PIXELS * size[0] / size[1]))
    wide = min(height * size[1] / size[0], MOST_PIXELS / STRIDE)
    return max(1, round(height / STRIDE)) * STRIDE, max(1, round(wide / STRIDE)) * STRIDE
