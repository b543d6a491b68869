"""Look at one image through sliding windows, and decide which of them show something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..backbones.runtime import callers
from ..classification.classifier import Classifier
from ..heads.decision import accepts
from ..heatmaps.window_features import View, look_through, tighten, within
from ..heatmaps.windows import Level, representatives, suppress, window_means

TILES = 8  # looked at at once, however many cores there are: each takes a third of a gigabyte
MAP_CELLS = 128  # of the score map, on the image's longer side
# IoU from which windows of one part count as the same, and only the best is compared with what was
# learned from
SAME = 0.7


@dataclass
class Scan:
    """What was found in one image.

    Attributes:
        boxes: (n, 4) `xyxy` in pixels, the best first: windows, drawn in to the heat map within
            them.
        labels: (n,) int, class indices.
        probabilities: (n,) calibrated, 0–1.
        windows: how many were looked at.
        map: (h, w) float32 score map, 0–1: the mean of what the windows over a place say, at the
            level where it is highest.
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
    levels: list[Level],
    threshold: float | None,
    overlap: float,
    exact: bool = False,
) -> Scan:
    """Look at an image through all windows of all levels.

    Args:
        image: upright RGB, possibly smaller than `size`.
        size: (height, width) in pixels that the levels are for.
        model: the classifier.
        levels: windows.
        threshold: probability from which a window counts, 0–1; None: none does.
        overlap: share (0–1) of the smaller of two boxes of a class above which the less likely one
            goes.
        exact: give every window its own crop, whatever the cost.
    """
    score_map = _ScoreMap(size, len(levels))
    found: list[_Candidate] = []
    threads = min(callers(model.embedder.engine), TILES)
    for number, part, view in look_through(
        image, size, model.embedder, levels, len(model.class_names), exact, threads
    ):
        scores, candidates = _decide(part, view, model, threshold)
        score_map.add(number, part, scores)
        found += candidates
    found = _apart(found, overlap)
    for candidate in found:
        candidate.box = tighten(
            candidate.box, candidate.evidence, candidate.frame, model.mask_threshold
        )
    found = _apart(found, overlap)
    boxes = np.array([candidate.box for candidate in found], dtype=float).reshape(-1, 4)
    boxes = np.clip(boxes, 0, np.tile(size[::-1], 2))
    labels = np.array([candidate.label for candidate in found], dtype=int)
    probabilities = np.array([candidate.probability for candidate in found], dtype=np.float32)
    windows = sum(len(level.ys) * len(level.xs) for level in levels)
    return Scan(boxes, labels, probabilities, windows, score_map.finish())


@dataclass
class _Candidate:
    """A window that counts.

    Attributes:
        box: `xyxy` in pixels.
        label: index of its class.
        probability: of that class.
        evidence: (h, w) what speaks for the class at each place, or None where the network does not
            tell.
        frame: `xyxy` in pixels of what the evidence lies over.
    """

    box: tuple[float, ...]
    label: int
    probability: float
    evidence: np.ndarray | None
    frame: tuple[float, ...]


def _apart(candidates: list[_Candidate], overlap: float) -> list[_Candidate]:
    """Return the candidates that no better one covers, the best first."""
    boxes = np.array([c.box for c in candidates], dtype=float).reshape(-1, 4)
    labels, scores = (
        np.array([c.label for c in candidates], dtype=int),
        np.array([c.probability for c in candidates]),
    )
    return [candidates[index] for index in suppress(boxes, labels, scores, overlap)]


def _decide(
    part: Level, view: View, model: Classifier, threshold: float | None
) -> tuple[np.ndarray, list[_Candidate]]:
    """Decide on the windows of a part: those count that are probable enough and, where no class
    means "anything else", familiar.

    Returns:
        (a, b) what each window adds to the score map, and the windows that count. Where no class
        means "anything else", some class is likely everywhere, so there only windows that count add
        anything.
    """
    weight = model.head.weight
    # (classes, C) . (C, h, w) -> (classes, h, w)
    evidence = np.tensordot(weight, view.features, axes=1)
    logits = window_means(evidence, view.rows, view.columns) + model.head.bias[:, None, None]
    # (classes, a, b) -> (windows, classes)
    probabilities = model.head.from_logits(logits.reshape(len(logits), -1).T)
    top, best, boxes = probabilities.argmax(axis=1), probabilities.max(axis=1), part.boxes()
    catch_all = -1 if model.catch_all is None else model.catch_all
    shape = (len(part.ys), len(part.xs))
    counted = np.flatnonzero(accepts(best, top == catch_all, threshold))
    scores = (
        np.zeros(len(best), dtype=np.float32)
        if catch_all < 0
        else np.delete(probabilities, catch_all, axis=1).max(axis=1)
    )
    if not len(counted):
        return scores.reshape(shape), []
    chosen = representatives(boxes[counted], top[counted], best[counted], SAME)
    kept = np.unique(chosen)
    known = np.zeros(len(counted), dtype=bool)
    # A model that has learned what "anything else" looks like needs no other gate; windows, cut
    # anywhere, rarely look like whole images.
    known[kept] = (
        True if catch_all >= 0 else ~model.is_stranger(_embeddings(view, counted[kept], shape))
    )
    scores[counted] = np.where(known[chosen], best[counted], 0.0)
    candidates = []
    for window in counted[kept[known[kept]]].tolist():
        seen, frame = within(
            view, weight[top[window]], evidence[top[window]], window, shape, boxes[window]
        )
        candidates.append(
            _Candidate(
                tuple(boxes[window].tolist()), int(top[window]), float(best[window]), seen, frame
            )
        )
    return scores.reshape(shape), candidates


def _embeddings(view: View, windows: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the embeddings (n, C) of windows by their index."""
    rows, columns = np.unravel_index(windows, shape)
    places = np.ascontiguousarray(view.features.transpose(1, 2, 0))  # (C, h, w) -> (h, w, C)
    means = np.empty((len(windows), len(view.features)), dtype=np.float32)
    for row in np.unique(rows):
        inside = np.flatnonzero(view.rows[row])
        band = slice(inside[0], inside[-1] + 1)
        # (h,) . (h, w, C) -> (w, C)
        line = np.tensordot(view.rows[row, band], places[band], axes=1)
        chosen = np.flatnonzero(rows == row)
        means[chosen] = view.columns[columns[chosen]] @ line
    return means


class _ScoreMap:
    """Gathers what windows say into one map of the image."""

    def __init__(self, size: tuple[int, int], levels: int) -> None:
        cell = max(size) / MAP_CELLS
        self._ys, self._xs = (
            np.arange(max(1, round(side / cell))) * cell + cell / 2 for side in size
        )
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
    """Return which windows lie over which places, (places, windows) float32, 1 or 0."""
    return ((starts <= places[:, None]) & (places[:, None] <= starts + length)).astype(np.float32)
