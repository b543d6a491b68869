"""EfficientNet-Lite (Tan and Le 2019; without squeeze-and-excitation), as timm names its weights
and as OpenVINO runs it, without torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InvalidModel
from ..backbone import Backbone
from ..preprocessing import Preprocessing
from .int8 import CLIPPED, STEPS, Statistics, mean_error, round_weights

STEM, WIDEST, EXPANSION, CLASSES = 32, 1280, 6, 1000
KERNELS, STRIDES = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)  # of each stage
EPSILON = 1e-3  # of batch normalisation
HEAD = "classifier"
WIDENING, DEPTHWISE = "conv_pw", "conv_dw"
MAPPED = (2, 4)  # stages that end with the last feature maps at strides 8 and 16
WIDENED = 5  # stage whose first block begins by widening the latter
NORMALISATION = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Variant:
    """What distinguishes one network of the family.

    Attributes:
        side: of the square images it was trained on, pixels.
        pool: side of its last feature map at that size.
        blocks, widths: number of blocks and of output channels of each stage.
    """

    side: int
    pool: int
    blocks: tuple[int, ...]
    widths: tuple[int, ...]


VARIANTS = {
    "tf_efficientnet_lite0": Variant(
        224, 7, (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)
    ),
    "tf_efficientnet_lite1": Variant(
        240, 8, (1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)
    ),
    "tf_efficientnet_lite2": Variant(
        260, 9, (1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)
    ),
}


def with_timms_names(name: str, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of an installed package under the names that timm has for them: they are
    the same arrays in the same order.

    Raises:
        ValueError: if they are not the weights of this network.
    """
    shapes = {**_body(VARIANTS[name]), **_head(CLASSES)}
    if [array.shape for array in weights.values()] != list(shapes.values()):
        raise ValueError("its arrays have other shapes")
    return dict(zip(shapes, weights.values(), strict=True))


def middle_width(architecture: str) -> int | None:
    """Return the channels of the middle map of a pass; None for networks of other families."""
    variant = VARIANTS.get(architecture)
    return None if variant is None else variant.widths[MAPPED[1]]


def check_weights(name: str, weights: dict[str, np.ndarray], folder: Path) -> None:
    """Refuse weights of another network than `name`; the head may have any number of classes.

    Raises:
        InvalidModel: if an array is missing or has another shape.
    """
    for key, shape in _body(VARIANTS[name]).items():
        # a number alone may have been stored as an array of one
        if key not in weights or weights[key].shape not in (shape, shape or (1,)):
            raise InvalidModel(
                f"The weights in '{folder}' are not those of '{name}', which its config.json "
                f"names: '{key}' is missing or has another shape. Both must be of the same network."
            )


def timms_config(name: str) -> dict[str, Any]:
    """Return the config.json from which timm makes the network with ImageNet's classes."""
    variant = VARIANTS[name]
    return {
        "architecture": name,
        "num_classes": CLASSES,
        "num_features": WIDEST,
        "pretrained_cfg": {
            "tag": "in1k",
            "input_size": (3, variant.side, variant.side),
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "pool_size": (variant.pool, variant.pool),
            "first_conv": "conv_stem",
            "license": "apache-2.0",
            "num_classes": CLASSES,
            "classifier": HEAD,
            "custom_load": False,
        },
    }


def _body(variant: Variant) -> Shapes:
    """Return name and shape of all weights but the head's, in order."""
    shapes: Shapes = {"conv_stem.weight": (STEM, 3, 3, 3), **_normalisation("bn1", STEM)}
    into = STEM
    for stage, (count, out, kernel) in enumerate(
        zip(variant.blocks, variant.widths, KERNELS, strict=True)
    ):
        for block in range(count):
            for layer, norm, shape in _block_layers(stage, into, out, kernel):
                prefix = f"blocks.{stage}.{block}."
                shapes[f"{prefix}{layer}.weight"] = shape
                shapes |= _normalisation(prefix + norm, shape[0])
            into = out
    shapes["conv_head.weight"] = (WIDEST, into, 1, 1)
    return {**shapes, **_normalisation("bn2", WIDEST)}


def _head(classes: int) -> Shapes:
    return {f"{HEAD}.weight": (classes, WIDEST), f"{HEAD}.bias": (classes,)}


def _normalisation(prefix: str, channels: int) -> Shapes:
    return {f"{prefix}.{part}": (channels,) * (part != NORMALISATION[-1]) for part in NORMALISATION}


def _block_layers(
    stage: int, into: int, out: int, kernel: int
) -> list[tuple[str, str, tuple[int, ...]]]:
    """Return (convolution, its normalisation, shape of its weight) of a block, in order. The first
    stage doesn't widen its input.
    """
    if stage == 0:
        return [
            ("conv_dw", "bn1", (into, 1, kernel, kernel)),
            ("conv_pw", "bn2", (out, into, 1, 1)),
        ]
    wide = into * EXPANSION
    return [
        (WIDENING, "bn1", (wide, into, 1, 1)),
        (DEPTHWISE, "bn2", (wide, 1, kernel, kernel)),
        ("conv_pwl", "bn3", (out, wide, 1, 1)),
    ]


def openvino_network(
    ov: Any, backbone: Backbone, dtype: str = "f32", multiscale: bool = False
) -> Any:
    """Return the network as an OpenVINO model: (n, height, width, 3) uint8 -> embedding (n, C),
    feature map (n, C, h, w), fine map (n, c, 4 h, 4 w), the last at stride 8, middle map (n, d,
    2 h, 2 w), the last at stride 16; or, if it is `multiscale`, four feature maps: the last at
    strides 8 and 16, the latter as the next block widens it, and the last at stride 32.

    Args:
        ov: the module `openvino`.
        backbone: one whose architecture is among `VARIANTS`.
        dtype: "f32", or "int8": weights and activations are bytes, sums and the feature map are
            floats.
        multiscale: which outputs it has.

    Raises:
        InvalidModel: if its weights are of another network.
    """
    from openvino import opset13

    variant, weights = VARIANTS[backbone.architecture], backbone.weights()
    check_weights(backbone.architecture, weights, backbone.folder)
    preprocessing = backbone.preprocessing
    sides = preprocessing.image_size if preprocessing.fit == "squash" else (None, None)
    pixels = opset13.parameter(
        ov.PartialShape([-1, *(side or -1 for side in sides), 3]), np.uint8, name="pixels"
    )
    layers = (_Int8Layers if dtype == "int8" else _Layers)(opset13, weights, sides)
    x = layers.scaled(pixels, preprocessing)
    x = layers.convolved(x, "conv_stem", "bn1", stride=2)
    into, maps = STEM, {}
    for stage, block, out in _blocks(variant):
        stride = STRIDES[stage] if block == 0 else 1
        prefix, y = f"blocks.{stage}.{block}.", x
        parts = _block_layers(stage, into, out, KERNELS[stage])
        for layer, norm, _ in parts:
            y = layers.convolved(
                y,
                prefix + layer,
                prefix + norm,
                stride=stride if layer == DEPTHWISE else 1,
                clipped=layer != parts[-1][0],
            )
            if (stage, block, layer) == (WIDENED, 0, WIDENING):
                widened = y.node
        x = layers.ended(y, x if stride == 1 and into == out else None)
        into, maps[stage] = out, x.node
    features = layers.convolved(x, "conv_head", "bn2", last=True)
    if multiscale:
        outputs = [*(maps[stage] for stage in MAPPED), widened, features.node]
        return ov.Model(outputs, [pixels], backbone.architecture)
    embedding = opset13.reduce_mean(features.node, np.array([2, 3]), False)
    outputs = [embedding, features.node, *(maps[stage] for stage in MAPPED)]
    return ov.Model(outputs, [pixels], backbone.architecture)


def _blocks(variant: Variant) -> Iterator[tuple[int, int, int]]:
    """Yield stage, block in the stage, and output channels of each block."""
    for stage, (count, out) in enumerate(zip(variant.blocks, variant.widths, strict=True)):
        for block in range(count):
            yield stage, block, out


@dataclass(frozen=True)
class _Map:
    """A node of the graph, and what its channels hold; None for pixels, which may be anything."""

    node: Any
    statistics: Statistics | None = None


class _Layers:
    """Makes layers of the network's weights, and keeps track of the sides of their input.

    The network pads as TensorFlow does: so that the output has a side for every stride of the
    input's. For inputs of any size, all of which are multiples of 32, that is the same padding
    everywhere; for an input of a fixed size it is calculated.
    """

    def __init__(
        self, opset: Any, weights: dict[str, np.ndarray], sides: tuple[int | None, ...]
    ) -> None:
        self._opset, self._weights, self._sides = opset, weights, sides

    def scaled(self, pixels: Any, preprocessing: Preprocessing) -> _Map:
        """Return pixels (n, h, w, 3) uint8 as the network's input (n, 3, h, w) float32."""
        op = self._opset
        mean, std = (
            np.array(values, np.float32).reshape(1, 3, 1, 1) * np.float32(255)
            for values in (preprocessing.mean, preprocessing.std)
        )
        channels_first = op.transpose(op.convert(pixels, np.float32), np.array([0, 3, 1, 2]))
        return _Map(op.divide(op.subtract(channels_first, mean), std))

    def convolved(
        self,
        x: _Map,
        layer: str,
        norm: str,
        stride: int = 1,
        clipped: bool = True,
        last: bool = False,
    ) -> _Map:
        """Return a convolution of `x` with its batch normalisation merged into it, clipped to 0–6
        unless it ends a block.
        """
        scale, shift, mean, variance = (
            self._weights[f"{norm}.{part}"].astype(np.float64) for part in NORMALISATION[:4]
        )
        factor = scale / np.sqrt(variance + EPSILON)
        kernel = (self._weights[f"{layer}.weight"] * factor[:, None, None, None]).astype(np.float32)
        weights, bias = self._weights_of(layer, kernel, shift - mean * factor, x.statistics)
        totals = [_padding(kernel.shape[-1], stride, length) for length in self._sides]
        before, after = [n // 2 for n in totals], [n - n // 2 for n in totals]
        self._sides = tuple(None if n is None else -(-n // stride) for n in self._sides)
        op = self._opset
        apply = op.group_convolution if layer.endswith(DEPTHWISE) else op.convolution
        y = apply(x.node, weights, [stride] * 2, before, after, [1, 1])
        y = op.add(y, bias.astype(np.float32).reshape(1, -1, 1, 1))
        known = Statistics(shift, scale**2)
        if clipped:
            y, known = op.clamp(y, *CLIPPED), known.clipped()
        return _Map(y if last or not clipped else self._stored(y, CLIPPED), known)

    def ended(self, y: _Map, x: _Map | None) -> _Map:
        """Return the output of a block, added to its input where it has the same shape."""
        node, known = y.node, y.statistics
        assert known is not None
        if x is not None:
            assert x.statistics is not None
            node, known = self._opset.add(x.node, node), x.statistics + known
        return _Map(self._stored(node, known.range()), known)

    def _weights_of(
        self, layer: str, kernel: np.ndarray, bias: np.ndarray, known: Statistics | None
    ) -> tuple[Any, np.ndarray]:
        """Return the weights of a layer as the graph takes them, and its bias."""
        return _grouped(layer, kernel), bias

    def _stored(self, node: Any, ends: tuple[float, float]) -> Any:
        """Return a map as it is kept between layers, with values between these ends."""
        return node


class _Int8Layers(_Layers):
    """Layers whose weights are bytes and that keep bytes between them."""

    def scaled(self, pixels: Any, preprocessing: Preprocessing) -> _Map:
        """See `_Layers.scaled`; a byte stays what it was where all channels are scaled alike."""
        x = super().scaled(pixels, preprocessing)
        ends = [
            (level - mean) / std
            for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
            for level in (0, 1)
        ]
        return _Map(self._stored(x.node, (min(ends), max(ends))))

    def _weights_of(
        self, layer: str, kernel: np.ndarray, bias: np.ndarray, known: Statistics | None
    ) -> tuple[Any, np.ndarray]:
        op = self._opset
        values, step = round_weights(kernel, keep_sums=kernel[0, 0].size > 1)
        if known is not None:
            bias = bias - mean_error(kernel, values, step, known.mean)
        converted = op.convert(op.constant(_grouped(layer, values)), np.float32)
        return op.multiply(converted, _grouped(layer, step)), bias

    def _stored(self, node: Any, ends: tuple[float, float]) -> Any:
        low, high = (np.full((1, 1, 1, 1), end, np.float32) for end in ends)
        return self._opset.fake_quantize(node, low, high, low, high, STEPS)


def _grouped(layer: str, kernel: np.ndarray) -> np.ndarray:
    """Return a kernel with a dimension for the groups where each channel is one."""
    return kernel[:, None] if layer.endswith(DEPTHWISE) else kernel


def _padding(kernel: int, stride: int, side: int | None) -> int:
    """Return how many cells are added to a side of so many, or of any multiple of the stride."""
    if side is None:
        return max(kernel - stride, 0)
    return max((-(-side // stride) - 1) * stride + kernel - side, 0)
