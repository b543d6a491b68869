"""What an engine gives for one image, and what every engine can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Encoding:
    """The result of one pass.

    Attributes:
        embedding: (C,) float32.
        feature_map: (C, h, w) float32, or None where it was not asked for or the backbone has none.
        fine_map: (c, about 4 h, about 4 w) float32, the last feature map at stride 8, from which
            `wordsight.heatmaps.extent` tells how far things reach; None likewise, and for networks
            other than EfficientNet-Lite.
        middle_map: (d, about 2 h, about 2 w) float32, the last feature map at stride 16, from which
            the edges of boxes are learned; None as `fine_map`.
    """

    embedding: np.ndarray
    feature_map: np.ndarray | None = None
    fine_map: np.ndarray | None = None
    middle_map: np.ndarray | None = None


class Runtime(Protocol):
    """An engine with a backbone loaded.

    Attributes:
        engine: "openvino" or "torch".
        dtype: "f32", "bf16" or "int8", the type it computes in.
    """

    engine: str
    dtype: str

    def encode(self, pixels: np.ndarray, feature_map: bool = False) -> Encoding:
        """Encode one image (height, width, 3) uint8, RGB, already of the preprocessing's
        input size.
        """


class MultiscaleRuntime(Protocol):
    """An engine with a backbone loaded for its feature maps at several strides."""

    def feature_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return feature maps (C, height / stride, width / stride) float32, one or more at each of
        `MAP_STRIDES`, finest first, for one image (height, width, 3) uint8, RGB, with sides in
        multiples of 32.
        """
