"""The box head finds the box of an image's object from its feature map, in numpy, so that
predicting needs no torch.

The map is first projected onto a few principal directions. Two 3 × 3 convolutions, the second
dilated, let a cell see its surroundings. Every cell then predicts how far each edge of the box is
from it, and a vote for that edge. The edge is the mean of the cells' predictions, weighted by a
softmax of their votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layers import convolve, project, read_layers

# direction of x_min, y_min, x_max, y_max from a cell
OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0], dtype=np.float32)
NEAR, FAR = 1, 2  # dilation of the two convolutions
EDGES = 4
PLANES = 2 * EDGES + 1  # distances, whether the cell lies in the box (for training), votes
SHAPES = {"enter": 1, "near": 3, "far": 3, "leave": 1}  # layer -> side of its kernel, in order


@dataclass(frozen=True)
class BoxHead:
    """Finds one box in each image, from its feature map.

    Attributes:
        mean: (C,) float32, subtracted from every cell.
        directions: (c, C) float32, the principal directions kept.
        layers: by name ("enter", "near", "far", "leave") the kernel (out, in, k, k) and bias
            (out,), float32.
    """

    mean: np.ndarray
    directions: np.ndarray
    layers: dict[str, tuple[np.ndarray, np.ndarray]]

    def box(self, feature_map: np.ndarray) -> np.ndarray:
        """Return the `xyxy` box (4,) in fractions of the image, 0–1, for a feature map (C, h,
        w).
        """
        return self.box_of(self.reduce(feature_map))

    def reduce(self, feature_map: np.ndarray) -> np.ndarray:
        """Return a feature map (C, h, w) projected onto the directions, (c, h, w)."""
        return project(feature_map, self.mean, self.directions)

    def box_of(self, reduced: np.ndarray) -> np.ndarray:
        """Return the box as `box` does, for a map (c, h, w) that is projected already."""
        x = np.maximum(convolve(reduced.astype(np.float32), *self.layers["enter"], 1), 0)
        x = np.maximum(convolve(x, *self.layers["near"], NEAR), 0) + x
        x = np.maximum(convolve(x, *self.layers["far"], FAR), 0) + x
        out = convolve(x, *self.layers["leave"], 1).reshape(PLANES, -1)
        said = centres(*reduced.shape[1:]).reshape(EDGES, -1) + OUTWARD[:, None] * np.logaddexp(
            0, out[:EDGES]
        )
        votes = np.exp(out[-EDGES:] - out[-EDGES:].max(axis=1, keepdims=True))
        return np.clip((said * votes).sum(axis=1) / votes.sum(axis=1), 0.0, 1.0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, ready to be saved."""
        kept = {"mean": self.mean, "directions": self.directions}
        for name, (weight, bias) in self.layers.items():
            kept |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return kept

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> BoxHead:
        """Return the head that `arrays` came from.

        Raises:
            ValueError, KeyError: if the arrays don't fit each other.
        """
        mean, directions = (
            arrays["mean"].astype(np.float32),
            arrays["directions"].astype(np.float32),
        )
        layers = read_layers(arrays, SHAPES, len(directions))
        residual = len(layers["enter"][1]) == len(layers["near"][1]) == len(layers["far"][1])
        if (
            directions.shape[1:] != mean.shape
            or len(layers["leave"][1]) != PLANES
            or not residual
            or not all(np.isfinite(a).all() for a in arrays.values())
        ):
            raise ValueError("the box head does not fit itself")
        return cls(mean, directions, layers)


def centres(height: int, width: int) -> np.ndarray:
    """Return x, y, x, y of the centre of each cell of a map, in fractions of the image, (4,
    height, width) float32.
    """
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    return np.stack([x, y, x, y]).astype(np.float32)
