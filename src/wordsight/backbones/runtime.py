"""Open a backbone in an engine: pixels in, embedding and feature map out, from one pass.

Two engines behind one interface: OpenVINO on a CPU, torch on a GPU (or by choice). Both may be
called from many threads at once. Nothing here knows of classes.
"""

from __future__ import annotations

import threading
from typing import Any

from ..core.threads import cores
from ..errors import InvalidArgument
from .backbone import DTYPES, ENGINES, MAP_STRIDES, Backbone
from .devices import gpu_likely, has_torch, need_torch, torch_device
from .encoding import MultiscaleRuntime, Runtime
from .networks.efficientnet_lite import VARIANTS
from .openvino_engine import OpenVinoRuntime
from .torch_engine import GPU_CALLERS, TorchRuntime, multiscale_module

_open: dict[tuple[str, str, str, bool], Any] = {}
_opening = threading.Lock()


def open_runtime(backbone: Backbone, engine: str = "auto", dtype: str = "f32") -> Runtime:
    """Load a backbone into an engine; it stays open for later calls in this process.

    Args:
        backbone: what to run.
        engine: "openvino", "torch", or "auto": torch where a GPU is found, else OpenVINO.
        dtype: "f32", "bf16" or "int8"; see `wordsight.backbones.precision`.

    Raises:
        InvalidArgument: if there is no such engine or dtype, or the network or the engine has no
            int8.
    """
    return _opened(backbone, engine, dtype, multiscale=False)


def open_multiscale(
    backbone: Backbone, engine: str = "auto", dtype: str = "f32"
) -> MultiscaleRuntime:
    """Load a backbone into an engine for its feature maps at `MAP_STRIDES`; it stays open, too.

    Raises:
        InvalidArgument: as `open_runtime`, or if the network has no such maps.
    """
    return _opened(backbone, engine, dtype, multiscale=True)


def check_multiscale(backbone: Backbone) -> None:
    """Refuse a backbone without feature maps at `MAP_STRIDES`.

    Raises:
        InvalidArgument: if it has none, or its input has a fixed size whose cells don't line up.
    """
    preprocessing = backbone.preprocessing
    coarsest = MAP_STRIDES[-1]
    if preprocessing.fit == "squash" and any(side % coarsest for side in preprocessing.image_size):
        height, width = preprocessing.image_size
        raise InvalidArgument(
            f"'{backbone.name}' takes {height} × {width} pixels only; many objects a picture are "
            f"learned from sides in multiples of {coarsest}. Use the default backbone."
        )
    if backbone.architecture not in VARIANTS or not backbone.pooled:
        multiscale_module(backbone)


def _opened(backbone: Backbone, engine: str, dtype: str, multiscale: bool) -> Any:
    chosen = choose_engine(engine)
    check_dtype(backbone, chosen, dtype)
    key = (backbone.key, chosen, dtype, multiscale)
    with _opening:
        if key not in _open:
            kind = TorchRuntime if chosen == "torch" else OpenVinoRuntime
            _open[key] = kind(backbone, dtype, multiscale=multiscale)
        return _open[key]


def choose_engine(engine: str = "auto") -> str:
    """Return "openvino" or "torch": what was asked for, or what suits this machine.

    Raises:
        InvalidArgument: if there is no such engine, or torch is not installed.
    """
    if engine not in ENGINES:
        raise InvalidArgument(f"Unknown engine '{engine}'. Choose one of: {', '.join(ENGINES)}.")
    if engine == "auto":
        gpu = gpu_likely() and has_torch() and torch_device() != "cpu"
        return "torch" if gpu else "openvino"
    if engine == "torch":
        need_torch("The engine torch")
    return engine


def has_int8(backbone: Backbone, engine: str) -> bool:
    """Whether a backbone can run in int8 in an engine, "openvino" or "torch"."""
    return engine == "openvino" and backbone.architecture in VARIANTS


def check_dtype(backbone: Backbone, engine: str, dtype: str) -> None:
    """Refuse a type that a backbone can't compute in, in an engine, "openvino" or "torch".

    Raises:
        InvalidArgument: if there is no such type, or neither the network nor the engine has int8.
    """
    types = [name for name in DTYPES if name != "auto"]
    if dtype not in types:
        raise InvalidArgument(f"Unknown dtype '{dtype}'. Choose one of: {', '.join(types)}.")
    if dtype == "int8" and not has_int8(backbone, engine):
        raise InvalidArgument(
            f"int8 is for {', '.join(VARIANTS)} in OpenVINO, not for '{backbone.architecture}' in "
            f"{engine}. Choose --dtype f32 or bf16, or leave the option out."
        )


def callers(engine: str) -> int:
    """Return how many threads should call `encode` at once to keep an engine ("openvino" or
    "torch") busy.
    """
    return GPU_CALLERS if engine == "torch" and torch_device() != "cpu" else cores() + 1
