"""Small networks to train from scratch: two that tutorials made classic, and a modern one.
Torch modules with timm's methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn import functional


class _Network(nn.Module, ABC):
    """What timm expects of a network."""

    num_features: int
    num_classes: int
    head: nn.Linear

    @abstractmethod
    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature map (n, C, h, w) of (n, 3, height, width)."""

    @abstractmethod
    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return logits (n, classes), or the embedding (n, num_features), of a feature map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, classes)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network a new last layer."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes)


class ClassicCnn(_Network):
    """Convolutions 3 × 3 without padding, max pooling, ReLU; then one hidden dense layer, whose
    output is the embedding.

    Args:
        widths: channels of each convolution.
        pools: whether a 2 × 2 max pooling follows each.
        hidden: width of the dense layer.
        image_size: side of the square input, in pixels.
        num_classes: outputs; 1 for a sigmoid.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        pools: tuple[bool, ...],
        hidden: int,
        image_size: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        side, channels = image_size, 3
        for width, pool in zip(widths, pools, strict=True):
            layers.append(nn.Conv2d(channels, width, 3))
            side, channels = side - 2, width
            if pool:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            # after pooling it gives the same values with a quarter of the work
            layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers)
        self.dense = nn.Linear(channels * side * side, hidden)
        self.num_features, self.num_classes = hidden, num_classes
        self.head = nn.Linear(hidden, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _keras_init(module)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """See `_Network`."""
        return self.features(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """See `_Network`."""
        x = functional.relu(self.dense(x.flatten(1)))
        return x if pre_logits else self.head(x)

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network a new last layer."""
        super().reset_classifier(num_classes)
        _keras_init(self.head)


class SmallResnet(_Network):
    """A small residual network with batch normalisation; the mean of its feature map, an eighth as
    wide and high, is the embedding.

    Args:
        widths: channels of the stem, of the first and of the second stage.
        num_classes: outputs.
    """

    def __init__(self, widths: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        stem, first, second = widths
        self.stem = _convolution(3, stem, 4, 2)
        self.stages = nn.Sequential(
            *(_convolution(stem, first), nn.MaxPool2d(2), _Residual(first)),
            *(_convolution(first, second), nn.MaxPool2d(2), _Residual(second)),
        )
        self.num_features, self.num_classes = second, num_classes
        self.head = nn.Linear(second, num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """See `_Network`."""
        return self.stages(self.stem(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """See `_Network`."""
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.head(x)


class _Residual(nn.Module):
    """A convolution whose input is added to its output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = _convolution(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convolution(x)


def _convolution(before: int, after: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def brick_cnn(num_classes: int = 1) -> nn.Module:
    """Five convolutions on 200 × 200 pixels, 512 dense, one sigmoid: the tutorials' yes/no
    network, 622,753 parameters.
    """
    return ClassicCnn((16, 32, 64, 64, 64), (True,) * 5, 512, 200, num_classes)


def cifar_cnn(num_classes: int = 10) -> nn.Module:
    """Three convolutions on 32 × 32 pixels, 64 dense, ten classes: TensorFlow's CIFAR-10
    tutorial, 122,570 parameters.
    """
    return ClassicCnn((32, 64, 64), (True, True, False), 64, 32, num_classes)


def small_resnet(num_classes: int = 10) -> nn.Module:
    """A residual network small enough to be trained from scratch on a laptop, for images of
    any size.
    """
    return SmallResnet((16, 32, 96), num_classes)  # of many widths the best after 80 s on CIFAR-10


NETWORKS = {
    "brick_cnn": (brick_cnn, 200, "squash"),
    "cifar_cnn": (cifar_cnn, 32, "squash"),
    "small_resnet": (small_resnet, 128, "area"),
}  # name -> how it is made, side of its input in pixels, fit


def _keras_init(module: nn.Conv2d | nn.Linear) -> None:
    """Initialise as Keras does, which is where these networks come from: Glorot and Bengio
    2010, biases zero.
    """
    nn.init.xavier_uniform_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
