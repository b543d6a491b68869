"""Feature maps for sliding windows over one image: of all windows of a level from one pass, or of
each from its own crop.

Knows no classes: the callers decide what windows show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..backbones.backbone import Backbone
from ..backbones.embedder import Embedder
from ..backbones.preprocessing import STRIDE
from ..core.threads import parallel_map
from ..images.decoding import resize
from .one_pass import heatmap_box
from .windows import Level, shares

# of the feature map, made in one pass (1.3 megapixels of input); larger images go in several
TILE_CELLS = 1280
# cells around a tile that are seen and thrown away: at its edges a network sees otherwise than
# within
MARGIN = 3
# of a feature map held at once (84 MB of 1,280 channels); windows beyond it belong to another part
PART_CELLS = 16384
PART_VALUES = 1 << 22  # probabilities held at once: windows times classes
CROPS = 32  # windows looked at in one go where each has its own crop
HALF = 0.5  # of a cell must lie in a window for its evidence to count there


def can_be_dense(backbone: Backbone) -> bool:
    """Whether windows can share one pass: the embedding must be a mean over places, and images may
    have any size.
    """
    return backbone.pooled and backbone.preprocessing.fit == "area"


def network_scale(window: tuple[float, float], backbone: Backbone) -> float:
    """Return how many pixels of the network's input a pixel of the image becomes, for windows
    of (height, width).
    """
    height, width = backbone.preprocessing.image_size
    return math.sqrt(height * width / (window[0] * window[1]))


@dataclass
class View:
    """The network's output for a part.

    Attributes:
        features: (C, h, w), of which each window's embedding is a mean.
        rows, columns: (a, h) and (b, w), the shares of its cells in that.
        frame: `xyxy` in pixels that the map lies over.
        within: where every window has its own crop, the feature map (C, h, w) of each, or None
            where the network has none.
    """

    features: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    frame: tuple[float, float, float, float]
    within: list[np.ndarray] | None = None


class Dense:
    """All windows of a part from one feature map, which is made tile by tile."""

    def __init__(
        self, image: Image.Image, size: tuple[int, int], embedder: Embedder, classes: int
    ) -> None:
        self._image, self._embedder, self._classes = image, embedder, classes
        self._scale = image.width / size[1], image.height / size[0]

    def parts(self, level: Level) -> Iterator[Level]:
        """Return a level's windows in parts whose feature maps fit into memory."""
        side = math.sqrt(PART_CELLS) * STRIDE / network_scale(level.window, self._embedder.backbone)
        return level.split((side, side), PART_VALUES // self._classes)

    def pieces(self, part: Level) -> Iterator[tuple[Level, slice, slice]]:
        """Yield the tiles of a part: rows and columns of its feature map."""
        height, width = self._cells(part)
        down, across = _tiles(height, width)
        for y in range(down):
            for x in range(across):
                yield part, _span(y, down, height), _span(x, across, width)

    def piece(self, tile: Any) -> tuple[slice, slice, np.ndarray]:
        """Return a tile's rows, columns and feature map (C, h, w)."""
        part, rows, columns = tile
        left, top, right, bottom = part.span
        height, width = self._cells(part)
        seen = [
            slice(max(0, s.start - MARGIN), min(most, s.stop + MARGIN))
            for s, most in ((rows, height), (columns, width))
        ]
        cell_y, cell_x = (bottom - top) / height, (right - left) / width
        corners = (
            left + seen[1].start * cell_x,
            top + seen[0].start * cell_y,
            left + seen[1].stop * cell_x,
            top + seen[0].stop * cell_y,
        )
        box = tuple(side * self._scale[axis % 2] for axis, side in enumerate(corners))
        pixels = [(s.stop - s.start) * STRIDE for s in seen]
        crop = resize(
            self._image,
            (pixels[0], pixels[1]),
            self._embedder.backbone.preprocessing.interpolation,
            box,  # type: ignore[arg-type]
        )
        features = self._embedder.runtime.encode(crop, feature_map=True).feature_map
        assert features is not None
        inner = [
            slice(s.start - wide.start, s.stop - wide.start)
            for s, wide in zip((rows, columns), seen, strict=True)
        ]
        return rows, columns, features[:, inner[0], inner[1]]

    def join(self, part: Level, tiles: Iterator[tuple[slice, slice, np.ndarray]]) -> View:
        """Put a part's feature map together from its tiles, the next ones of `tiles`."""
        height, width = self._cells(part)
        features = np.empty((self._embedder.backbone.num_features, height, width), dtype=np.float32)
        for _ in range(math.prod(_tiles(height, width))):
            rows, columns, values = next(tiles)
            features[:, rows, columns] = values
        left, top, right, bottom = part.span
        down = shares(part.ys, part.window[0], top, (bottom - top) / height, height)
        return View(
            features,
            down,
            shares(part.xs, part.window[1], left, (right - left) / width, width),
            part.span,
        )

    def _cells(self, part: Level) -> tuple[int, int]:
        """Return (height, width) of a part's feature map."""
        left, top, right, bottom = part.span
        grow = network_scale(part.window, self._embedder.backbone) / STRIDE
        return max(1, round((bottom - top) * grow)), max(1, round((right - left) * grow))


class Exact:
    """Every window from its own crop, a few at a time."""

    def __init__(self, image: Image.Image, size: tuple[int, int], embedder: Embedder) -> None:
        self._image, self._embedder = image, embedder
        self._scale = image.width / size[1], image.height / size[0]

    def parts(self, level: Level) -> Iterator[Level]:
        """Return a level's windows in parts: a few windows of one row each."""
        for y in level.ys:
            for begin in range(0, len(level.xs), CROPS):
                yield Level(level.window, np.array([y]), level.xs[begin : begin + CROPS])

    def pieces(self, part: Level) -> Iterator[Level]:
        """Yield the whole part as a single piece."""
        yield part

    def piece(self, part: Any) -> tuple[np.ndarray, list[np.ndarray] | None]:
        """Return the embeddings (C, 1, b) of a part's windows, and their feature maps."""
        preprocessing = self._embedder.backbone.preprocessing
        size = preprocessing.input_size((round(part.window[0]), round(part.window[1])))
        seen = []
        for corners in part.boxes().tolist():
            box = tuple(side * self._scale[axis % 2] for axis, side in enumerate(corners))
            crop = resize(self._image, size, preprocessing.interpolation, box)  # type: ignore[arg-type]
            seen.append(self._embedder.runtime.encode(crop, feature_map=True))
        maps = [one.feature_map for one in seen if one.feature_map is not None]
        return np.stack([one.embedding for one in seen], axis=1)[:, None, :], maps or None

    def join(
        self, part: Level, pieces: Iterator[tuple[np.ndarray, list[np.ndarray] | None]]
    ) -> View:
        """Return the next piece as a map of which each window is one cell."""
        embeddings, maps = next(pieces)
        return View(
            embeddings,
            np.ones((1, 1), np.float32),
            np.eye(len(part.xs), dtype=np.float32),
            part.span,
            maps,
        )


def look_through(
    image: Image.Image,
    size: tuple[int, int],
    embedder: Embedder,
    levels: list[Level],
    classes: int,
    exact: bool = False,
    threads: int = 1,
) -> Iterator[tuple[int, Level, View]]:
    """Yield, part by part, the number of the level, the windows, and what the network makes of
    them.

    Args:
        image: upright RGB, possibly smaller than `size`.
        size: (height, width) in pixels that the levels are for.
        embedder: the network.
        levels: windows.
        classes: how many are told apart; parts are small enough for that many probabilities a
            window.
        exact: give every window its own crop, whatever the cost.
        threads: how many passes go on at once.
    """
    dense = not exact and can_be_dense(embedder.backbone)
    look: Dense | Exact = (
        Dense(image, size, embedder, classes) if dense else Exact(image, size, embedder)
    )
    parts = [(number, part) for number, level in enumerate(levels) for part in look.parts(level)]
    # The next parts are looked at while one is decided on.
    pieces: Iterator[Any] = parallel_map(
        look.piece, (piece for _, part in parts for piece in look.pieces(part)), threads
    )
    for number, part in parts:
        yield number, part, look.join(part, pieces)


def within(
    view: View,
    class_weight: np.ndarray,
    evidence: np.ndarray,
    window: int,
    shape: tuple[int, int],
    box: np.ndarray,
) -> tuple[np.ndarray | None, tuple[float, ...]]:
    """Return what speaks for a class at each place of a window, (h, w), and the `xyxy` in
    pixels that this lies over.
    """
    row, column = np.unravel_index(window, shape)
    if isinstance(view.within, list):
        return np.tensordot(class_weight, view.within[int(column)], axes=1), tuple(box.tolist())
    if evidence.size == 1 or view.rows.shape == (1, 1):
        return None, tuple(box.tolist())
    inside = [
        np.flatnonzero(share >= HALF * share.max())
        for share in (view.rows[row], view.columns[column])
    ]
    (top, bottom), (left, right) = ((int(cells[0]), int(cells[-1]) + 1) for cells in inside)
    cell_x, cell_y = (
        (view.frame[2] - view.frame[0]) / evidence.shape[1],
        (view.frame[3] - view.frame[1]) / evidence.shape[0],
    )
    x, y = view.frame[:2]
    return evidence[top:bottom, left:right].copy(), (
        x + left * cell_x,
        y + top * cell_y,
        x + right * cell_x,
        y + bottom * cell_y,
    )


def tighten(
    box: tuple[float, ...], evidence: np.ndarray | None, frame: tuple[float, ...], threshold: float
) -> tuple[float, ...]:
    """Return a window's `xyxy` box drawn in to the strongest region of the heat map within it, or
    as it is where there is none.

    Args:
        box: the window, in pixels.
        evidence, frame: as `within` returns them.
        threshold: share of the heat map's peak (0-1) from which it counts.
    """
    if evidence is None or evidence.max() <= 0:
        return box
    x_min, y_min, x_max, y_max = frame
    heatmap = np.maximum(evidence, 0) / evidence.max()
    inner = heatmap_box(
        heatmap, (max(1, round(y_max - y_min)), max(1, round(x_max - x_min))), threshold
    )
    return (
        box
        if inner is None
        else (x_min + inner[0], y_min + inner[1], x_min + inner[2], y_min + inner[3])
    )


def _tiles(height: int, width: int) -> tuple[int, int]:
    """Return into how many rows and columns of tiles a feature map is cut, so that the least is
    seen twice.
    """
    choices = []
    for down in range(1, height + 1):
        tall = -(-height // down) + 2 * MARGIN * (down > 1)
        across = next(
            (
                n
                for n in range(1, width + 1)
                if tall * (-(-width // n) + 2 * MARGIN * (n > 1)) <= TILE_CELLS
            ),
            width,
        )
        seen = (height + 2 * MARGIN * (down - 1)) * (width + 2 * MARGIN * (across - 1))
        choices.append((seen, down, across))
        if down * across > 1 and across == 1:
            break
        if down == across == 1:
            break
    return min(choices)[1:]


def _span(number: int, parts: int, length: int) -> slice:
    """Return the cells of one part, where all parts are as equal as possible."""
    return slice(number * length // parts, (number + 1) * length // parts)
