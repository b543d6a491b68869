"""Padding independent of the input size, which compilers can merge into the convolution and
exporters can write.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ..preprocessing import STRIDE, Preprocessing

_VALUES = {"Conv2dSame": 0.0, "MaxPool2dSame": float("-inf")}


def with_fixed_padding(module: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Replace timm's layers that compute their padding for every input, as TensorFlow does. Their
    results don't change.

    Where all sides are multiples of 32, and every layer divides them by its stride and no more, all
    layers' inputs are multiples of their strides, and one padding fits every size. Other networks
    are left as they are. Layers are recognized by name, because only one module may import timm.
    """
    if (
        preprocessing.fit == "area" or not any(side % STRIDE for side in preprocessing.image_size)
    ) and all(map(_divides, module.modules())):
        _replace(module)
    return module


def _divides(layer: nn.Module) -> bool:
    """Whether a layer divides every side by exactly its stride; some layers lose a border."""
    if (
        type(layer).__name__.endswith("Same")
        or not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
        or isinstance(layer.padding, str)
    ):
        return True
    dilation = getattr(layer, "dilation", 1)
    sides = zip(
        *map(_pair, (layer.kernel_size, layer.stride, layer.padding, dilation)), strict=True
    )
    border = [
        (2 * padding - step * (kernel - 1) - 1, stride) for kernel, stride, padding, step in sides
    ]
    return all(
        (-(-left // stride) if getattr(layer, "ceil_mode", False) else left // stride) == -1
        for left, stride in border
    )


def _replace(module: nn.Module) -> None:
    for name, child in module.named_children():
        kind = type(child).__name__
        if kind in _VALUES:
            setattr(module, name, _FixedPadding(child, _VALUES[kind]))  # type: ignore[arg-type]
        else:
            _replace(child)


class _FixedPadding(nn.Module):
    """A layer with the padding it needs when its input is a multiple of its stride."""

    def __init__(self, layer: nn.Conv2d | nn.MaxPool2d, value: float) -> None:
        super().__init__()
        self.layer = layer
        self._value = value
        sides = [_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.dilation)]
        totals = [
            max(dilation * (kernel - 1) + 1 - stride, 0)
            for kernel, stride, dilation in zip(*sides, strict=True)
        ]
        self._padding = [
            part for total in reversed(totals) for part in (total // 2, total - total // 2)
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.pad(x, self._padding, value=self._value)
        layer = self.layer
        if isinstance(layer, nn.Conv2d):
            return functional.conv2d(
                x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups
            )
        return functional.max_pool2d(
            x, layer.kernel_size, layer.stride, 0, layer.dilation, layer.ceil_mode
        )


def _pair(side: int | tuple[int, ...]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else (side[0], side[1])
