"""Weights and activations as eight-bit integers, without a single picture.

What calibration would measure is known from batch normalisation: it says of every channel which
mean and deviation the activations had while the network learned. From that follow the range of a
map, and what rounding the weights adds to each output on average, which the bias takes off again
(Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LARGEST = 127  # of a signed byte; weights go as far down as up
STEPS = 256  # values of a byte
DEVIATIONS = 5.0  # from the mean to the end of a map's range, where no clipping ends it
CLIPPED = (0.0, 6.0)  # range of a map after the activation
_normal_share = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))


@dataclass(frozen=True)
class Statistics:
    """What a map's channels hold on average, as batch normalisation tells it.

    Attributes:
        mean: (C,) float64.
        variance: (C,) float64.
    """

    mean: np.ndarray
    variance: np.ndarray

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of the sum of two maps, taken to be independent."""
        return Statistics(self.mean + other.mean, self.variance + other.variance)

    def clipped(self) -> Statistics:
        """Return the statistics after clipping to `CLIPPED`, of normally distributed values; the
        variance is left as it is.
        """
        low, high = CLIPPED
        deviation = np.sqrt(self.variance) + 1e-9
        a, b = (low - self.mean) / deviation, (high - self.mean) / deviation
        below, above = _normal_share(a), 1 - _normal_share(b)
        density = (np.exp(-(a**2) / 2) - np.exp(-(b**2) / 2)) / math.sqrt(2 * math.pi)
        inside = self.mean * (1 - below - above) + deviation * density
        return Statistics(low * below + inside + high * above, self.variance)

    def range(self) -> tuple[float, float]:
        """Return the symmetric range that holds nearly all values, its lower end one step further,
        as that of a signed byte.
        """
        end = float((np.abs(self.mean) + DEVIATIONS * np.sqrt(self.variance)).max())
        return -end * (LARGEST + 1) / LARGEST, end


def round_weights(kernel: np.ndarray, keep_sums: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return weights as bytes, and the float of one step of each filter.

    Args:
        kernel: (filters, inputs, height, width) float32.
        keep_sums: whether to round so that the sum over height and width of each filter and input
            stays nearly what it was. Neighbouring cells of a map hold similar values, so this
            keeps the error small where a filter has few weights.

    Returns:
        (filters, inputs, height, width) int8; (filters, 1, 1, 1) float32.
    """
    largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
    step = (np.maximum(largest, np.finfo(np.float32).tiny * LARGEST) / LARGEST).astype(np.float32)
    exact = (kernel / step).astype(np.float64)
    rounded = np.round(exact)
    if keep_sums:
        _keep_sums(exact.reshape(-1, exact[0, 0].size), rounded.reshape(-1, exact[0, 0].size))
    return np.clip(rounded, -LARGEST, LARGEST).astype(np.int8), step


def _keep_sums(exact: np.ndarray, rounded: np.ndarray) -> None:
    """Round some weights of each row the other way, in place: those that were nearly halfway."""
    rest = exact - rounded
    missing = np.round(rest.sum(axis=1)).astype(int)
    for row in np.flatnonzero(missing):
        way = np.sign(missing[row])
        rounded[row, np.argsort(-way * rest[row])[: abs(missing[row])]] += way


def mean_error(kernel: np.ndarray, values: np.ndarray, step: np.ndarray, mean: np.ndarray):
    """Return what rounding adds to each output on average, (filters,).

    Args:
        kernel, values, step: weights, and what `round_weights` made of them.
        mean: (C,) of the input's channels. A kernel with a single input belongs to a depthwise
            convolution, whose filters have a channel each.
    """
    added = (values * step.astype(np.float64) - kernel).sum(axis=(2, 3))  # (filters, inputs)
    return added[:, 0] * mean if kernel.shape[1] == 1 else added @ mean
