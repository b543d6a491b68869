"""What the heads on feature maps are made of, in numpy: projections and convolutions."""

from __future__ import annotations

import numpy as np


def project(feature_map: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return a feature map (C, h, w) on the principal directions (c, C) about the mean (C,):
    (c, h, w).
    """
    flat = feature_map.reshape(len(feature_map), -1) - mean[:, None]
    return (directions @ flat).reshape(-1, *feature_map.shape[1:])


def quartered(x: np.ndarray) -> np.ndarray:
    """Return a map (c, 2 h, 2 w) with half its sides, (4 c, h, w): each channel's upper left cells
    of two by two, then their upper right, lower left and lower right ones, then the next channel's.
    """
    channels, height, width = x.shape
    parts = x.reshape(channels, height // 2, 2, width // 2, 2).transpose(0, 2, 4, 1, 3)
    return parts.reshape(4 * channels, height // 2, width // 2)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Return the convolution of a map (c, h, w), padded with zeros, with a kernel (out, c, k, k):
    (out, h, w).
    """
    channels, height, width = x.shape
    side = weight.shape[-1]
    if side == 1:
        return (weight[:, :, 0, 0] @ x.reshape(channels, -1) + bias[:, None]).reshape(
            -1, height, width
        )
    edge = dilation * (side // 2)
    wide = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    offsets = [(i * dilation, j * dilation) for i in range(side) for j in range(side)]
    # (c, k * k, h, w)
    patches = np.stack([wide[:, y : y + height, z : z + width] for y, z in offsets], axis=1)
    return (
        weight.reshape(len(weight), -1) @ patches.reshape(channels * side * side, -1)
        + bias[:, None]
    ).reshape(-1, height, width)


def read_layers(
    arrays: dict[str, np.ndarray], sides: dict[str, int], width: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the kernel (out, in, k, k) and bias (out,), float32, of each layer of a chain.

    Args:
        arrays: "NAME.weight" and "NAME.bias" of each.
        sides: name -> side of its kernel, in order.
        width: channels that the first takes.

    Raises:
        ValueError, KeyError: if the arrays don't fit each other.
    """
    layers = {}
    for name, side in sides.items():
        weight, bias = (arrays[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
        fits = weight.ndim == 4 and weight.shape[1:] == (width, side, side)
        if not fits or bias.shape != (len(weight),):
            raise ValueError("the box head does not fit itself")
        layers[name], width = (weight, bias), len(weight)
    return layers
