"""The box head finds the box of an image's object from its feature maps, in numpy, so that
predicting needs no torch.

The maps are first projected onto a few principal directions, and the four cells of the middle map
that lie in one of the last are stacked there: they tell where within the cell an edge is. Two 3 × 3
convolutions, the second dilated, let a cell see its surroundings. Every cell then predicts how far
each edge of the box is from it, and a vote for that edge. The edge is the mean of the cells'
predictions, weighted by a softmax of their votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layers import convolve, project, quartered, read_layers

# direction of x_min, y_min, x_max, y_max from a cell
OUTWARD = np.array([-1.0, -1.0, 1.0, 1.0], dtype=np.float32)
NEAR, FAR = 1, 2  # dilation of the two convolutions
EDGES = 4
PLANES = 2 * EDGES + 1  # distances, whether the cell lies in the box (for training), votes
SHAPES = {"enter": 1, "near": 3, "far": 3, "leave": 1}  # layer -> side of its kernel, in order


@dataclass(frozen=True)
class BoxHead:
    """Finds one box in each image, from its feature maps.

    Attributes:
        mean: (C,) float32, subtracted from every cell of the last map.
        directions: (c, C) float32, the principal directions kept of it.
        layers: by name ("enter", "near", "far", "leave") the kernel (out, in, k, k) and bias
            (out,), float32.
        middle: mean (D,) and directions (d, D) of the map at stride 16, float32; None where the
            network has none, and in heads of 0.1.
    """

    mean: np.ndarray
    directions: np.ndarray
    layers: dict[str, tuple[np.ndarray, np.ndarray]]
    middle: tuple[np.ndarray, np.ndarray] | None = None

    def box(self, feature_map: np.ndarray, middle_map: np.ndarray | None = None) -> np.ndarray:
        """Return the `xyxy` box (4,) in fractions of the image, 0–1.

        Args:
            feature_map: (C, h, w), the last one.
            middle_map: (D, 2 h, 2 w), the one at stride 16, which a head with `middle` needs.
        """
        return self.box_of(self.reduce(feature_map, middle_map))

    def reduce(self, feature_map: np.ndarray, middle_map: np.ndarray | None = None) -> np.ndarray:
        """Return the maps projected onto the directions, (c + 4 d, h, w)."""
        reduced = project(feature_map, self.mean, self.directions)
        if self.middle is None:
            return reduced
        assert middle_map is not None
        return np.concatenate([reduced, quartered(project(middle_map, *self.middle))])

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
        if self.middle is not None:
            kept |= {"middle.mean": self.middle[0], "middle.directions": self.middle[1]}
        for name, (weight, bias) in self.layers.items():
            kept |= {f"{name}.weight": weight, f"{name}.bias": bias}
        return kept

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> BoxHead:
        """Return the head that `arrays` came from.

        Raises:
            ValueError, KeyError: if the arrays don't fit each other.
        """
        parts = ("mean", "directions")
        mean, directions = (arrays[part].astype(np.float32) for part in parts)
        middle, width = None, len(directions)
        if any(name.startswith("middle.") for name in arrays):
            at, along = (arrays[f"middle.{part}"].astype(np.float32) for part in parts)
            if along.shape[1:] != at.shape:
                raise ValueError("the box head does not fit itself")
            middle, width = (at, along), width + 4 * len(along)
        layers = read_layers(arrays, SHAPES, width)
        residual = len(layers["enter"][1]) == len(layers["near"][1]) == len(layers["far"][1])
        if (
            directions.shape[1:] != mean.shape
            or len(layers["leave"][1]) != PLANES
            or not residual
            or not all(np.isfinite(a).all() for a in arrays.values())
        ):
            raise ValueError("the box head does not fit itself")
        return cls(mean, directions, layers, middle)


def centres(height: int, width: int) -> np.ndarray:
    """Return x, y, x, y of the centre of each cell of a map, in fractions of the image, (4,
    height, width) float32.
    """
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    return np.stack([x, y, x, y]).astype(np.float32)
