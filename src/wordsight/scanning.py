"""Look at one picture through sliding windows: all windows of a level from one pass over it, or each from its own crop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .classifier import Classifier
from .embed import Embedder
from .images import resize
from .localize import heatmap_box
from .preprocessing import STRIDE
from .runtime import callers
from .threads import parallel_map
from .windows import Level, representatives, shares, suppress, window_means

TILE_CELLS = 1280  # of the feature map, made in one pass (1.3 megapixels of input); larger pictures go in several
MARGIN = 3  # cells around a tile that are seen and thrown away: at its edges a network sees otherwise than within
PART_CELLS = 16384  # of a feature map held at once (84 MB of 1,280 channels); windows beyond it belong to another part
PART_VALUES = 1 << 22  # probabilities held at once: windows times classes
TILES = 8  # looked at at once, however many cores there are: each takes a third of a gigabyte
CROPS = 32  # windows looked at in one go where each has its own crop
MAP_CELLS = 128  # of the score map, on the picture's longer side
SAME = 0.7  # IoU from which windows of one part count as the same, and only the best is compared with what was learned from
HALF = 0.5  # of a cell must lie in a window for its evidence to count there


@dataclass
class Scan:
    """What was found in one picture.

    Attributes:
        boxes: (n, 4) `xyxy` in pixels, the best first: windows, drawn in to the heat map within them.
        labels: (n,) int, class indices.
        probabilities: (n,) calibrated, 0–1.
        windows: how many were looked at.
        map: (h, w) float32 score map, 0–1: the mean of what the windows over a place say, at the level where it is highest.
    """

    boxes: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    windows: int
    map: np.ndarray


def scan(
    image: Image.Image,
    size: tuple[int, int],
    model: Classifier,
    embedder: Embedder,
    levels: list[Level],
    threshold: float,
    overlap: float,
    exact: bool = False,
) -> Scan:
    """Look at a picture through all windows of all levels.

    Args:
        image: upright RGB, possibly smaller than `size`.
        size: (height, width) in pixels that the levels are for.
        model, embedder: who looks.
        levels: windows.
        threshold: probability from which a window counts, 0–1.
        overlap: share (0–1) of the smaller of two boxes of a class above which the less likely one goes.
        exact: give every window its own crop, whatever the cost.
    """
    dense = not exact and can_be_dense(model)
    look: _Dense | _Exact = _Dense(image, size, model, embedder) if dense else _Exact(image, size, embedder)
    picture = _ScoreMap(size, len(levels))
    parts = [(number, part) for number, level in enumerate(levels) for part in look.parts(level)]
    found: list[_Candidate] = []
    # The next parts are looked at while one is decided on.
    pieces: Iterator[Any] = parallel_map(look.piece, (piece for _, part in parts for piece in look.pieces(part)), min(callers(embedder.engine), TILES))
    for number, part in parts:
        scores, candidates = _decide(part, look.join(part, pieces), model, threshold)
        picture.add(number, part, scores)
        found += candidates
    found = _apart(found, overlap)
    for candidate in found:
        candidate.tighten(model.mask_threshold)
    found = _apart(found, overlap)
    boxes = np.array([candidate.box for candidate in found], dtype=float).reshape(-1, 4)
    boxes = np.clip(boxes, 0, np.tile(size[::-1], 2))
    labels = np.array([candidate.label for candidate in found], dtype=int)
    probabilities = np.array([candidate.probability for candidate in found], dtype=np.float32)
    windows = sum(len(level.ys) * len(level.xs) for level in levels)
    return Scan(boxes, labels, probabilities, windows, picture.finish())


@dataclass
class _Candidate:
    """A window that counts.

    Attributes:
        box: `xyxy` in pixels.
        label: index of its class.
        probability: of that class.
        evidence: (h, w) what speaks for the class at each place, or None where the network does not tell.
        frame: `xyxy` in pixels of what the evidence lies over.
    """

    box: tuple[float, ...]
    label: int
    probability: float
    evidence: np.ndarray | None
    frame: tuple[float, ...]

    def tighten(self, threshold: float) -> None:
        """Draw the box in to the strongest region of the heat map within the window."""
        if self.evidence is None or self.evidence.max() <= 0:
            return
        x_min, y_min, x_max, y_max = self.frame
        heatmap = np.maximum(self.evidence, 0) / self.evidence.max()
        inner = heatmap_box(heatmap, (max(1, round(y_max - y_min)), max(1, round(x_max - x_min))), threshold)
        if inner is not None:
            self.box = (x_min + inner[0], y_min + inner[1], x_min + inner[2], y_min + inner[3])


def _apart(candidates: list[_Candidate], overlap: float) -> list[_Candidate]:
    """Return the candidates that no better one covers, the best first."""
    boxes = np.array([c.box for c in candidates], dtype=float).reshape(-1, 4)
    labels, scores = np.array([c.label for c in candidates], dtype=int), np.array([c.probability for c in candidates])
    return [candidates[index] for index in suppress(boxes, labels, scores, overlap)]


def can_be_dense(model: Classifier) -> bool:
    """Tell whether windows can share one pass: the embedding is a mean over places, and pictures may have any size."""
    return model.backbone.pooled and model.backbone.preprocessing.fit == "area"


def network_scale(window: tuple[float, float], model: Classifier) -> float:
    """Return how many pixels of the network's input a pixel of the picture becomes, for windows of (height, width)."""
    height, width = model.backbone.preprocessing.image_size
    return math.sqrt(height * width / (window[0] * window[1]))


@dataclass
class _View:
    """What the network makes of a part.

    Attributes:
        features: (C, h, w), of which each window's embedding is a mean.
        rows, columns: (a, h) and (b, w), the shares of its cells in that.
        frame: `xyxy` in pixels that the map lies over.
        within: where every window has its own crop, the feature map (C, h, w) of each, or None where the network has none.
    """

    features: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    frame: tuple[float, float, float, float]
    within: list[np.ndarray] | None = None


class _Dense:
    """All windows of a part from one feature map, which is made tile by tile."""

    def __init__(self, image: Image.Image, size: tuple[int, int], model: Classifier, embedder: Embedder) -> None:
        self._image, self._size, self._model, self._embedder = image, size, model, embedder
        self._scale = image.width / size[1], image.height / size[0]

    def parts(self, level: Level) -> Iterator[Level]:
        """Return a level's windows in parts whose feature maps fit into memory."""
        side = math.sqrt(PART_CELLS) * STRIDE / network_scale(level.window, self._model)
        return level.split((side, side), PART_VALUES // len(self._model.class_names))

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
        seen = [slice(max(0, s.start - MARGIN), min(most, s.stop + MARGIN)) for s, most in ((rows, height), (columns, width))]
        cell_y, cell_x = (bottom - top) / height, (right - left) / width
        corners = (left + seen[1].start * cell_x, top + seen[0].start * cell_y, left + seen[1].stop * cell_x, top + seen[0].stop * cell_y)
        box = tuple(side * self._scale[axis % 2] for axis, side in enumerate(corners))
        pixels = [(s.stop - s.start) * STRIDE for s in seen]
        crop = resize(self._image, (pixels[0], pixels[1]), self._model.backbone.preprocessing.interpolation, box)  # type: ignore[arg-type]
        features = self._embedder.runtime.encode(crop, feature_map=True).feature_map
        assert features is not None
        inner = [slice(s.start - wide.start, s.stop - wide.start) for s, wide in zip((rows, columns), seen, strict=True)]
        return rows, columns, features[:, inner[0], inner[1]]

    def join(self, part: Level, tiles: Iterator[tuple[slice, slice, np.ndarray]]) -> _View:
        """Put a part's feature map together from its tiles, the next ones of `tiles`."""
        height, width = self._cells(part)
        features = np.empty((self._model.backbone.num_features, height, width), dtype=np.float32)
        for _ in range(math.prod(_tiles(height, width))):
            rows, columns, values = next(tiles)
            features[:, rows, columns] = values
        left, top, right, bottom = part.span
        down = shares(part.ys, part.window[0], top, (bottom - top) / height, height)
        return _View(features, down, shares(part.xs, part.window[1], left, (right - left) / width, width), part.span)

    def _cells(self, part: Level) -> tuple[int, int]:
        """Return (height, width) of a part's feature map."""
        left, top, right, bottom = part.span
        grow = network_scale(part.window, self._model) / STRIDE
        return max(1, round((bottom - top) * grow)), max(1, round((right - left) * grow))


class _Exact:
    """Every window from its own crop, a few at a time."""

    def __init__(self, image: Image.Image, size: tuple[int, int], embedder: Embedder) -> None:
        self._image, self._embedder = image, embedder
        self._scale = image.width / size[1], image.height / size[0]

    def parts(self, level: Level) -> Iterator[Level]:
        """Return a level's windows in parts of a few of one row."""
        for y in level.ys:
            for begin in range(0, len(level.xs), CROPS):
                yield Level(level.window, np.array([y]), level.xs[begin : begin + CROPS])

    def pieces(self, part: Level) -> Iterator[Level]:
        """Yield a part as the only piece of itself."""
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

    def join(self, part: Level, pieces: Iterator[tuple[np.ndarray, list[np.ndarray] | None]]) -> _View:
        """Return the next piece as a map of which each window is one cell."""
        embeddings, maps = next(pieces)
        return _View(embeddings, np.ones((1, 1), np.float32), np.eye(len(part.xs), dtype=np.float32), part.span, maps)


def _tiles(height: int, width: int) -> tuple[int, int]:
    """Return into how many rows and columns of tiles a feature map is cut, so that the least is seen twice."""
    choices = []
    for down in range(1, height + 1):
        tall = -(-height // down) + 2 * MARGIN * (down > 1)
        across = next((n for n in range(1, width + 1) if tall * (-(-width // n) + 2 * MARGIN * (n > 1)) <= TILE_CELLS), width)
        seen = (height + 2 * MARGIN * (down - 1)) * (width + 2 * MARGIN * (across - 1))
        choices.append((seen, down, across))
        if down * across > 1 and across == 1:
            break
        if down == across == 1:
            break
    return min(choices)[1:]


def _span(number: int, parts: int, length: int) -> slice:
    """Return the cells of one of several parts, as even as can be."""
    return slice(number * length // parts, (number + 1) * length // parts)


def _decide(part: Level, view: _View, model: Classifier, threshold: float) -> tuple[np.ndarray, list[_Candidate]]:
    """Decide on the windows of a part: those count that are probable enough and, where no class means "anything else", familiar.

    Returns:
        (a, b) what each window adds to the score map, and the windows that count. Where no class means "anything else", some class is
        likely everywhere, so there only windows that count add anything.
    """
    weight = model.head.weight
    evidence = np.tensordot(weight, view.features, axes=1)  # (classes, C) . (C, h, w) -> (classes, h, w)
    logits = window_means(evidence, view.rows, view.columns) + model.head.bias[:, None, None]
    probabilities = model.head.from_logits(logits.reshape(len(logits), -1).T)  # (classes, a, b) -> (windows, classes)
    top, best, boxes = probabilities.argmax(axis=1), probabilities.max(axis=1), part.boxes()
    other = -1 if model.catch_all is None else model.catch_all
    shape = (len(part.ys), len(part.xs))
    counted = np.flatnonzero((best >= threshold) & (top != other))
    scores = np.zeros(len(best), dtype=np.float32) if other < 0 else np.delete(probabilities, other, axis=1).max(axis=1)
    if not len(counted):
        return scores.reshape(shape), []
    chosen = representatives(boxes[counted], top[counted], best[counted], SAME)
    kept = np.unique(chosen)
    known = np.zeros(len(counted), dtype=bool)
    # A model that has learned what "anything else" looks like needs no other gate; windows, cut anywhere, rarely look like whole pictures.
    known[kept] = True if other >= 0 else ~model.is_stranger(_embeddings(view, counted[kept], shape))
    scores[counted] = np.where(known[chosen], best[counted], 0.0)
    candidates = []
    for window in counted[kept[known[kept]]].tolist():
        seen, frame = _within(view, weight[top[window]], evidence[top[window]], window, shape, boxes[window])
        candidates.append(_Candidate(tuple(boxes[window].tolist()), int(top[window]), float(best[window]), seen, frame))
    return scores.reshape(shape), candidates


def _within(
    view: _View, class_weight: np.ndarray, evidence: np.ndarray, window: int, shape: tuple[int, int], box: np.ndarray
) -> tuple[np.ndarray | None, tuple[float, ...]]:
    """Return what speaks for a class at each place of a window, (h, w), and the `xyxy` in pixels that this lies over."""
    row, column = np.unravel_index(window, shape)
    if isinstance(view.within, list):
        return np.tensordot(class_weight, view.within[int(column)], axes=1), tuple(box.tolist())
    if evidence.size == 1 or view.rows.shape == (1, 1):
        return None, tuple(box.tolist())
    inside = [np.flatnonzero(share >= HALF * share.max()) for share in (view.rows[row], view.columns[column])]
    (top, bottom), (left, right) = ((int(cells[0]), int(cells[-1]) + 1) for cells in inside)
    cell_x, cell_y = (view.frame[2] - view.frame[0]) / evidence.shape[1], (view.frame[3] - view.frame[1]) / evidence.shape[0]
    x, y = view.frame[:2]
    return evidence[top:bottom, left:right].copy(), (x + left * cell_x, y + top * cell_y, x + right * cell_x, y + bottom * cell_y)


def _embeddings(view: _View, windows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the embeddings (n, C) of windows by their index."""
    rows, columns = np.unravel_index(windows, shape)
    places = np.ascontiguousarray(view.features.transpose(1, 2, 0))  # (C, h, w) -> (h, w, C)
    means = np.empty((len(windows), len(view.features)), dtype=np.float32)
    for row in np.unique(rows):
        inside = np.flatnonzero(view.rows[row])
        band = slice(inside[0], inside[-1] + 1)
        line = np.tensordot(view.rows[row, band], places[band], axes=1)  # (h,) . (h, w, C) -> (w, C)
        chosen = np.flatnonzero(rows == row)
        means[chosen] = view.columns[columns[chosen]] @ line
    return means


class _ScoreMap:
    """Gathers what windows say into one map of the picture."""

    def __init__(self, size: tuple[int, int], levels: int) -> None:
        cell = max(size) / MAP_CELLS
        self._ys, self._xs = (np.arange(max(1, round(side / cell))) * cell + cell / 2 for side in size)
        self._sum = np.zeros((levels, len(self._ys), len(self._xs)), dtype=np.float32)
        self._count = np.zeros_like(self._sum)

    def add(self, level: int, part: Level, scores: np.ndarray) -> None:
        """Add the scores (a, b) of a part's windows."""
        rows = _covers(part.ys, part.window[0], self._ys)  # (h, a)
        columns = _covers(part.xs, part.window[1], self._xs)  # (w, b)
        self._sum[level] += rows @ scores.astype(np.float32) @ columns.T
        self._count[level] += rows.sum(axis=1)[:, None] * columns.sum(axis=1)

    def finish(self) -> np.ndarray:
        """Return the map (h, w)."""
        return (self._sum / np.maximum(self._count, 1)).max(axis=0)


def _covers(starts: np.ndarray, length: float, places: np.ndarray) -> np.ndarray:
    """Tell which windows lie over which places, (places, windows) float32."""
    return ((starts <= places[:, None]) & (places[:, None] <= starts + length)).astype(np.float32)
