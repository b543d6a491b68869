"""The object head finds every object of an image from the network's feature maps at strides 8, 16
and 32, in numpy, so that detecting needs no torch.

Each map is projected onto some principal directions, and all are brought to stride 16. Two 3 × 3
convolutions, the second dilated, let a cell see its surroundings. Every cell then says how well a
box of each class would fit here, and how far the four edges of that box are from it. Of boxes of a
class that overlap, the best stays; its edges are the mean of theirs, weighted by score and
overlap.

Sources: FCOS (Tian et al. 2019) for boxes from cells, VarifocalNet (Zhang et al. 2021) for scores
that foretell the overlap, box voting (Gidaris and Komodakis 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InvalidModel
from ..metrics.boxes import iou
from .layers import convolve, project, read_layers

# pixels, of whole images; the views learned from have 384, and show things larger on average. From
# 288 to 384 it is as good.
SIDE = 352
LARGEST_SIDE, LARGEST_PHOTO = 1024, 1e6  # pixels
STRIDE = 16  # pixels of the input from one cell to the next
NEAR, FAR = 1, 2  # dilation of the two convolutions
EDGES = 4
SHAPES = {"enter": 1, "near": 3, "far": 3, "leave": 1}  # layer -> side of its kernel, in order
OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0], dtype=np.float32)  # of x_min, y_min, x_max, y_max
UNIT = 2.0 * STRIDE  # pixels that a softplus of 1 stands for
SAME = 0.5  # IoU from which two boxes of a class show one object
VOTING = 0.7  # IoU from which a box has a say in where the edges of a better one are
OBJECT_THRESHOLD = 0.5  # probability from which an object counts
LEAST = 0.05  # probability below which no box is kept
MOST = 300  # boxes of an image that are kept, as many as COCO's largest images hold


@dataclass(frozen=True)
class ObjectBoxes:
    """Boxes found in one image, the surest first.

    Attributes:
        xyxy: (n, 4) float32 x_min, y_min, x_max, y_max.
        labels: (n,) int, class indices.
        probabilities: (n,) float32, calibrated, 0–1: that an object of the class is there and the
            box covers it with an IoU of at least 0.5.
    """

    xyxy: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    def chosen(self, rows: np.ndarray) -> ObjectBoxes:
        """Return some of them, by index or mask."""
        return ObjectBoxes(self.xyxy[rows], self.labels[rows], self.probabilities[rows])


@dataclass(frozen=True)
class ObjectHead:
    """Finds the objects of an image from its feature maps.

    Attributes:
        class_names: of what it finds, in the order of its scores.
        projections: for each map its mean (C,) and directions (c, C), float32.
        layers: by name ("enter", "near", "far", "leave") the kernel (out, in, k, k) and bias
            (out,), float32.
        learned_side: pixels, the side of a square of as many as the median image learned from has.
        side: pixels; it takes images of as many pixels as a square of this side has.
        calibration: scale and shift of a score's logit; the sigmoid of it is the probability.
    """

    class_names: tuple[str, ...]
    projections: tuple[tuple[np.ndarray, np.ndarray], ...]
    layers: dict[str, tuple[np.ndarray, np.ndarray]]
    learned_side: float = float(SIDE)
    side: int = SIDE
    calibration: tuple[float, float] = (1.0, 0.0)

    def find(
        self, maps: tuple[np.ndarray, ...], least: float = LEAST
    ) -> tuple[ObjectBoxes, np.ndarray]:
        """Return the objects of an image, and where something is.

        Args:
            maps: feature maps (C, h, w) at strides 8, 16 and 32, one or more each, the finest
                first.
            least: probability below which a box is not kept.

        Returns:
            Boxes in pixels of the network's input, and for each cell (h, w) float32 the highest
            probability, 0–1.
        """
        return self.find_in(self.reduce(maps), least)

    def reduce(self, maps: tuple[np.ndarray, ...]) -> np.ndarray:
        """Return the feature maps on their directions, brought to stride 16: (c, h, w) float32.

        Raises:
            InvalidModel: if they are not those that the head learned from.
        """
        there = [len(one) for one in maps]
        if there != [len(mean) for mean, _ in self.projections]:
            raise InvalidModel(
                "The model's object head was learned on the feature maps of another network. Train "
                "it again."
            )
        height, width = maps[0].shape[1] // 2, maps[0].shape[2] // 2
        return np.concatenate(
            [
                _with_sides(project(one, *projection), height, width)
                for one, projection in zip(maps, self.projections, strict=True)
            ]
        ).astype(np.float32, copy=False)

    def find_in(self, reduced: np.ndarray, least: float = LEAST) -> tuple[ObjectBoxes, np.ndarray]:
        """Return the same as `find`, for maps that `reduce` made."""
        logits, boxes = self.cells(reduced)
        probabilities = self.calibrated(logits)
        cells, labels = np.nonzero(probabilities >= least)
        found = ObjectBoxes(boxes[cells], labels, probabilities[cells, labels])
        return merge(found), probabilities.max(axis=1).reshape(reduced.shape[1:])

    def cells(self, reduced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each cell says, row by row: score logits (cells, classes), and `xyxy` boxes
        (cells, 4) in pixels of the input.
        """
        x = np.maximum(convolve(reduced.astype(np.float32), *self.layers["enter"]), 0)
        x = np.maximum(convolve(x, *self.layers["near"], NEAR), 0) + x
        x = np.maximum(convolve(x, *self.layers["far"], FAR), 0) + x
        out = convolve(x, *self.layers["leave"])
        height, width = out.shape[1:]
        distances = np.logaddexp(0, out[-EDGES:].reshape(EDGES, -1).T) * UNIT
        boxes = cell_centres(height, width) + OUTWARD * distances
        sides = np.array([width, height, width, height], dtype=np.float32) * STRIDE
        return out[:-EDGES].reshape(len(out) - EDGES, -1).T, np.clip(boxes, 0, sides)

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities that score logits stand for."""
        scale, shift = self.calibration
        return 1 / (1 + np.exp(-(scale * logits + shift)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, ready to be saved; the class names are not among them."""
        kept = {
            "calibration": np.array(self.calibration, dtype=np.float32),
            "sides": np.array([self.learned_side, self.side], dtype=np.float32),
        }
        for number, (mean, directions) in enumerate(self.projections):
            kept |= {f"{number}.mean": mean, f"{number}.directions": directions}
        for name, (weight, bias) in self.layers.items():
            kept |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return kept

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], class_names: tuple[str, ...]) -> ObjectHead:
        """Return the head that `arrays` came from.

        Raises:
            ValueError, KeyError: if the arrays don't fit each other or the class names.
        """
        count = sum(name.endswith(".mean") for name in arrays)
        projections = tuple(
            (
                arrays[f"{number}.mean"].astype(np.float32),
                arrays[f"{number}.directions"].astype(np.float32),
            )
            for number in range(count)
        )
        layers = read_layers(arrays, SHAPES, sum(len(kept) for _, kept in projections))
        widths = {len(layers[name][1]) for name in ("enter", "near", "far")}
        calibration, sides = arrays["calibration"].astype(float), arrays["sides"].astype(float)
        if (
            len(widths) != 1
            or len(layers["leave"][1]) != len(class_names) + EDGES
            or not class_names
            or not projections
            or calibration.shape != (2,)
            or sides.shape != (2,)
            or not 1 <= sides[0] <= LARGEST_PHOTO
            or not STRIDE <= sides[1] <= LARGEST_SIDE
            or not all(
                mean.ndim == 1 and kept.ndim == 2 and kept.shape[1:] == mean.shape
                for mean, kept in projections
            )
            or not all(np.isfinite(array).all() for array in arrays.values())
        ):
            raise ValueError("the object head does not fit itself")
        scale, shift = calibration.tolist()
        return cls(class_names, projections, layers, sides[0], int(sides[1]), (scale, shift))


def _with_sides(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a map (c, h, w) at (height, width), twice, once or half of which it has: the mean of
    its cells, or each repeated.
    """
    if x.shape[1] == 2 * height:
        return x.reshape(len(x), height, 2, width, 2).mean(axis=(2, 4))
    if x.shape[1] == height:
        return x
    return x.repeat(2, axis=1).repeat(2, axis=2)


def cell_centres(height: int, width: int) -> np.ndarray:
    """Return x, y, x, y of the centre of each cell of a map, row by row, in pixels of the input,
    (height × width, 4) float32.
    """
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    return (np.stack([x, y, x, y], axis=-1).reshape(-1, EDGES) * STRIDE).astype(np.float32)


def merge(found: ObjectBoxes) -> ObjectBoxes:
    """Return the best of boxes of a class that overlap, each with its edges where those that agree
    with it have theirs on average; the surest first.
    """
    if not len(found.xyxy):
        return found
    import cv2

    corners = np.concatenate([found.xyxy[:, :2], found.xyxy[:, 2:] - found.xyxy[:, :2]], axis=1)
    kept = np.asarray(
        cv2.dnn.NMSBoxesBatched(
            corners.astype(float).tolist(),
            found.probabilities.astype(float).tolist(),
            found.labels.tolist(),
            0.0,
            SAME,
        ),
        dtype=int,
    )
    kept = kept[np.argsort(-found.probabilities[kept], kind="stable")][:MOST]
    best = found.chosen(kept)
    overlaps = iou(best.xyxy, found.xyxy)
    agree = (overlaps >= VOTING) & (best.labels[:, None] == found.labels)
    agree &= found.probabilities >= LEAST  # whatever else is kept, sure boxes have these edges
    # a box agrees with itself, whatever its area
    agree[np.arange(len(kept)), kept] = True
    weights = agree * found.probabilities * np.maximum(overlaps, VOTING)
    edges = weights @ found.xyxy / weights.sum(axis=1, keepdims=True)
    return ObjectBoxes(edges.astype(np.float32), best.labels, best.probabilities)
