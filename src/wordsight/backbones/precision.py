"""The type a network computes in: int8 where this machine is faster with it, else f32.

Whether int8 pays depends on the processor, so it is measured: once for a network, a machine and a
version of OpenVINO; the choice is kept in the cache. `numerics` in `devices` names embeddings by
type, so those of different types never meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core.home import keep, places, write_atomic
from ..core.regular import read_text
from .backbone import Backbone
from .openvino_engine import OpenVinoRuntime, network_folder
from .preprocessing import STRIDE
from .runtime import check_dtype, has_int8

FASTER = 1.15  # times as fast as f32, for int8 to be chosen
ALIKE = 0.98  # cosine of the embeddings of both; a processor whose sums overflow has less
ROUNDS = 5


@dataclass(frozen=True)
class Choice:
    """What was measured on this machine.

    Attributes:
        dtype: "int8" or "f32".
        speed: how many times as fast int8 was.
        cosine: of the embeddings of a made-up image in int8 and in f32.
    """

    dtype: str
    speed: float
    cosine: float


def choose_dtype(backbone: Backbone, engine: str) -> str:
    """Return the type a backbone computes in here: "int8", "bf16" or "f32".

    Args:
        backbone: with the wish in its `dtype`.
        engine: "openvino" or "torch".

    Raises:
        InvalidArgument: if it can't compute in the type wished for.
        OutputError: if there is no place for the network.
    """
    if backbone.dtype != "auto":
        check_dtype(backbone, engine, backbone.dtype)
        return backbone.dtype
    return measured(backbone).dtype if has_int8(backbone, engine) else "f32"


def measured(backbone: Backbone) -> Choice:
    """Return what suits a backbone on this machine, measured the first time.

    Raises:
        OutputError: if there is no place for the network.
    """
    path = network_folder(backbone, "int8").with_name(f"dtype-{_machine(backbone)}.json")
    for place in places(path):
        with contextlib.suppress(OSError, ValueError, TypeError):
            choice = Choice(**json.loads(read_text(place)))
            if choice.dtype in ("int8", "f32"):
                return choice
    choice = _measure(backbone)
    data = json.dumps(asdict(choice)).encode()
    keep(path, lambda place: write_atomic(place, data, sync=False))
    return choice


def _measure(backbone: Backbone) -> Choice:
    """Run both in turn on a made-up image."""
    runtimes = [OpenVinoRuntime(backbone, dtype) for dtype in ("int8", "f32")]
    pixels = _made_up(backbone)
    embeddings = [runtime.encode(pixels).embedding for runtime in runtimes]
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for runtime, taken in zip(runtimes, seconds, strict=True):
            began = time.perf_counter()
            runtime.encode(pixels)
            taken.append(time.perf_counter() - began)
    int8, f32 = map(float, map(min, seconds))
    cosine = float(np.dot(*embeddings) / np.prod([np.linalg.norm(e) for e in embeddings]))
    better = f32 > FASTER * int8 and cosine > ALIKE
    return Choice("int8" if better else "f32", round(f32 / int8, 2), round(cosine, 4))


def _made_up(backbone: Backbone) -> np.ndarray:
    """Return an image of the size the backbone takes, with soft waves of several lengths."""
    height, width = (-(-side // STRIDE) * STRIDE for side in backbone.preprocessing.image_size)
    if backbone.preprocessing.fit == "squash":
        height, width = backbone.preprocessing.image_size
    y, x = np.mgrid[:height, :width] / 40.0
    waves = [np.sin(x * (k + 1)) * np.cos(y / (k + 1)) for k in range(3)]
    return np.round(127.5 + 127.5 * np.stack(waves, axis=2)).astype(np.uint8)


def _machine(backbone: Backbone) -> str:
    """Return a hash of all that the choice depends on."""
    about = [backbone.key, platform.machine(), _processor(), importlib.metadata.version("openvino")]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return what the system tells of its processor."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        told = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
        return "\n".join(sorted(set(told)))
    return platform.processor()
