"""Run a backbone: pixels in, embedding and feature map out, from one pass.

Two engines behind one interface: OpenVINO on a CPU, torch on a GPU (or by choice). Both may be
called from many threads at once. Nothing here knows of classes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import shutil
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..core.home import keep, places, replace_file, sweep
from ..core.threads import cores, cores_are_shared
from ..errors import InvalidArgument
from .backbone import DTYPES, ENGINES, MAP_STRIDES, Backbone
from .devices import gpu_likely, has_torch, need_torch, out_of_memory, torch_device
from .networks.efficientnet_lite import VARIANTS, openvino_network
from .networks.timm_models import build_module, maps_of
from .seals import is_whole, seal

log = logging.getLogger("wordsight")

GPU_CALLERS = 64
# counted up whenever what a network gives changes; those of 0.1.0 have no number
NETWORK = ("network-3.xml", "network-3.bin")
NETWORK_SUMS = "network-3.sha256"
COMPILED_SUMS = "compiled.sha256"
_open: dict[tuple[str, str, str, bool], Any] = {}
_opening = threading.Lock()


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


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """Block OpenVINO's telemetry during imports; it would look up an analytics host."""
    blocked = "openvino_telemetry" not in sys.modules
    if blocked:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it now fails, and a stub is used
    try:
        yield
    finally:
        if blocked:
            del sys.modules["openvino_telemetry"]


def import_openvino():
    """Import OpenVINO without its telemetry."""
    with without_telemetry():
        import openvino
        import openvino.tools.ovc

        return openvino


class OpenVinoRuntime:
    """OpenVINO on the CPU: one stream per core, so that images of any size run in parallel."""

    engine = "openvino"

    def __init__(self, backbone: Backbone, dtype: str = "f32", multiscale: bool = False) -> None:
        network = convert(backbone, dtype, multiscale)
        ov = import_openvino()
        self.dtype = dtype
        streams = cores()
        options = {
            # layers that are no integers stay exact
            "INFERENCE_PRECISION_HINT": "f32" if dtype == "int8" else dtype,
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams),
        }
        if cores_are_shared():  # else every process would hold its threads to the first cores
            options["ENABLE_CPU_PINNING"] = "NO"
        model = _compile(ov, network, options)
        self._outputs = len(model.outputs)
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(streams):
            self._requests.put(model.create_infer_request())
        # The first touch of a tensor's data initialises something in OpenVINO's bindings that two
        # threads must not
        # enter at once: they would wait for each other for ever. So it happens here, before any
        # other thread calls.
        height, width = (
            backbone.preprocessing.image_size
            if backbone.preprocessing.fit == "squash"
            else (64, 64)
        )
        self._infer(np.zeros((height, width, 3), dtype=np.uint8), self._outputs)

    def encode(self, pixels: np.ndarray, feature_map: bool = False) -> Encoding:
        """See `Runtime.encode`."""
        return Encoding(*self._infer(pixels, self._outputs if feature_map else 1))

    def feature_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `MultiscaleRuntime.feature_maps`."""
        return tuple(self._infer(pixels, self._outputs))

    def _infer(self, pixels: np.ndarray, outputs: int) -> list[np.ndarray]:
        """Return the first `outputs` of the network for one image."""
        request = self._requests.get()
        try:
            request.infer({0: pixels[None]})
            return [
                request.get_output_tensor(index).data[0].astype(np.float32)
                for index in range(outputs)
            ]
        finally:
            self._requests.put(request)


class TorchRuntime:
    """torch on CUDA, MPS or the CPU: callers' images of one size are gathered into batches."""

    engine = "torch"

    def __init__(
        self,
        backbone: Backbone,
        dtype: str = "f32",
        device: str | None = None,
        multiscale: bool = False,
    ) -> None:
        import torch

        self.dtype = dtype
        self.device = device or torch_device()
        self._batch = GPU_CALLERS
        self._torch = torch
        module = (multiscale_module if multiscale else one_pass_module)(backbone)
        self._module = module.to(self.device, memory_format=torch.channels_last)
        self._name = backbone.name
        self._waiting: queue.SimpleQueue = queue.SimpleQueue()
        self._ended: BaseException | None = None
        threading.Thread(target=self._work, daemon=True, name="wordsight-torch").start()

    def encode(self, pixels: np.ndarray, feature_map: bool = False) -> Encoding:
        """See `Runtime.encode`."""
        return Encoding(*self._wait_for(pixels, feature_map))

    def feature_maps(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """See `MultiscaleRuntime.feature_maps`."""
        return tuple(self._wait_for(pixels, True))

    def _wait_for(self, pixels: np.ndarray, maps: bool) -> list[np.ndarray]:
        """Return the first output for one image, or all of them, once its batch is done."""
        answer: Future[list[np.ndarray]] = Future()
        self._waiting.put((pixels, maps, answer))
        if self._ended is not None:
            self._refuse_waiting()
        return answer.result()

    def _work(self) -> None:
        held: list = []
        try:
            self._answer(held)
        except BaseException as error:
            # whatever ends this thread must not leave the callers waiting for ever
            self._ended = error
            _fail(held, error)
            self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        assert self._ended is not None
        with contextlib.suppress(queue.Empty):
            while True:
                _fail([self._waiting.get_nowait()], self._ended)

    def _answer(self, held: list) -> None:
        """Answer callers until the engine ends; `held` wait for a batch of their own."""
        while True:
            if not held:
                held.append(self._waiting.get())
            with contextlib.suppress(queue.Empty):
                while len(held) < self._batch:
                    held.append(self._waiting.get_nowait())
            shape = held[0][0].shape
            batch = [item for item in held if item[0].shape == shape]
            self._run_or_halve(batch)
            held[:] = [item for item in held if item[0].shape != shape]

    def _run_or_halve(self, batch: list) -> None:
        """Answer the callers of one batch, in smaller ones where memory is short."""
        try:
            self._run(batch)
        except Exception as error:  # handed to the callers, who are waiting
            if not out_of_memory(error):
                _fail(batch, error)
            elif len(batch) > 1:
                self._batch = half = len(batch) // 2
                for part in (batch[:half], batch[half:]):
                    self._run_or_halve(part)
            else:
                height, width = batch[0][0].shape[:2]
                _fail(
                    batch,
                    InvalidArgument(
                        f"'{self.device}' has too little free memory for one picture of {height} "
                        f"× {width} pixels through '{self._name}'. End what else uses it, or "
                        "choose another network or --engine openvino."
                    ),
                )

    def _run(self, batch: list) -> None:
        torch = self._torch
        pixels = torch.from_numpy(np.stack([item[0] for item in batch])).to(self.device)
        with (
            torch.inference_mode(),
            torch.autocast(
                self.device.partition(":")[0], torch.bfloat16, enabled=self.dtype == "bf16"
            ),
        ):
            outputs = self._module(pixels)
        if not any(item[1] for item in batch):
            outputs = outputs[:1]
        arrays = [output.float().cpu().numpy() for output in outputs]
        for i, (_, wants_maps, answer) in enumerate(batch):
            answer.set_result([array[i].copy() for array in arrays[: None if wants_maps else 1]])


def _fail(batch: list, error: BaseException) -> None:
    """Pass an error to the callers of a batch that still wait."""
    for _, _, answer in batch:
        if not answer.done():
            answer.set_exception(error)


def pixels_to_input(pixels, backbone: Backbone):
    """Return pixels (n, height, width, 3) uint8 as the network's input (n, 3, height, width),
    scaled as it was trained with.
    """
    import torch

    mean, std = (
        torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) * 255.0
        for values in (backbone.preprocessing.mean, backbone.preprocessing.std)
    )
    return (pixels.permute(0, 3, 1, 2).float() - mean) / std  # (n, h, w, 3) -> (n, 3, h, w)


def one_pass_module(backbone: Backbone):
    """Return a torch module: (n, height, width, 3) uint8 -> embedding (n, C) [, feature map (n, C,
    h, w) [, fine map (n, c, 4 h, 4 w), middle map (n, d, 2 h, 2 w)]].

    The feature map is there where the embedding is its spatial mean, the other two where the
    network is EfficientNet-Lite.
    """
    import torch

    from .networks.fixed_padding import with_fixed_padding

    network = with_fixed_padding(build_module(backbone), backbone.preprocessing)
    lite = backbone.pooled and backbone.architecture in VARIANTS
    maps = maps_of(network, backbone.architecture) if lite else None

    class OnePass(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels):
            inputs = pixels_to_input(pixels, backbone)
            if maps is not None:
                fine, middle, _, features = maps(inputs)
            else:
                features = self.network.forward_features(inputs)  # type: ignore[operator]  # timm's networks have it
            embedding = self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]
            if maps is not None:
                return embedding, features, fine, middle
            return (embedding, features) if backbone.pooled else (embedding,)

    return OnePass().eval()


def multiscale_module(backbone: Backbone):
    """Return a torch module: (n, height, width, 3) uint8 -> feature maps (n, C, height / stride,
    width / stride), one or more at each of `MAP_STRIDES`. The last is the one that the embedding is
    the mean of.

    Raises:
        InvalidArgument: if the network has no such maps.
    """
    import torch

    from .networks.fixed_padding import with_fixed_padding

    network = with_fixed_padding(build_module(backbone), backbone.preprocessing)
    told = maps_of(network, backbone.architecture)
    if not backbone.pooled or told is None:
        raise InvalidArgument(
            f"'{backbone.name}' gives no feature maps at strides "
            f"{', '.join(map(str, MAP_STRIDES))}, from which many objects a picture could be "
            "learned. Use the default backbone, or another convolutional network."
        )
    maps = told

    class Multiscale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels):
            return maps(pixels_to_input(pixels, backbone))

    return Multiscale().eval()


def _compile(ov, network: Path, options: dict[str, str]):
    """Return a network compiled for this machine, from its cache if that is whole."""
    core = ov.Core()
    wanted = json.dumps([ov.__version__, options], sort_keys=True)
    folder = network.parent / "compiled" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    kept = _blobs(folder)
    whole = is_whole(folder, COMPILED_SUMS, kept)
    if kept and not whole:
        if whole is False:  # else it is of a run that was killed before it was done
            log.warning("The compiled network in '%s' is damaged, so it is made anew.", folder)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():  # it can't be written
            return core.compile_model(network, "CPU", options)
    try:
        model = core.compile_model(network, "CPU", {**options, "CACHE_DIR": str(folder)})
    except RuntimeError:  # a cache that can't be read or written
        return core.compile_model(network, "CPU", options)
    if _blobs(folder) and not (kept and whole):
        with contextlib.suppress(OSError):  # without hashes it is made anew next time
            seal(folder, COMPILED_SUMS, _blobs(folder))
    return model


def _blobs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.blob"))


def convert(backbone: Backbone, dtype: str = "f32", multiscale: bool = False) -> Path:
    """Return the network as OpenVINO's file, made unless it is there and whole. Call it before
    starting threads.

    Args:
        backbone: the network.
        dtype: the type it is to compute in; int8 has a file of its own.
        multiscale: whether it is to give the feature maps of `MultiscaleRuntime`, and nothing else.

    Raises:
        OutputError: if there is no place for it.
    """
    kept = network_folder(backbone, dtype, multiscale)
    for folder in places(kept):
        whole = is_whole(folder, NETWORK_SUMS, NETWORK)
        if whole:
            return folder / NETWORK[0]
        if whole is False:
            log.warning("The converted network in '%s' is damaged, so it is made anew.", folder)
        elif (folder / NETWORK[0]).is_file():
            log.info("The converted network in '%s' has no hash yet; it is made anew.", folder)
    ov = import_openvino()
    network = (
        openvino_network(ov, backbone, "int8" if dtype == "int8" else "f32", multiscale)
        if backbone.architecture in VARIANTS
        else _converted_from_torch(ov, backbone, multiscale)
    )
    return keep(kept, lambda place: _save_network(ov, network, place)) / NETWORK[0]


def network_folder(backbone: Backbone, dtype: str, multiscale: bool = False) -> Path:
    """Return the folder in the cache where OpenVINO's file of a network belongs."""
    kinds = ["int8-"] * (dtype == "int8") + ["maps-"] * multiscale
    return backbone.folder.with_name("".join(kinds) + backbone.folder.name)


def _converted_from_torch(ov, backbone: Backbone, multiscale: bool):
    """Return a network that torch builds, as an OpenVINO model."""
    need_torch(f"The network '{backbone.architecture}'")
    import warnings

    import torch

    height, width = backbone.preprocessing.image_size
    sides = (height, width) if backbone.preprocessing.fit == "squash" else (-1, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of constants that are constant on purpose
        example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        return ov.convert_model(
            (multiscale_module if multiscale else one_pass_module)(backbone),
            example_input=example,
            input=[ov.PartialShape([-1, *sides, 3])],
        )


def _save_network(ov, converted, folder: Path) -> None:
    """Write OpenVINO's files and their hashes into a folder, and drop what was compiled of others.

    Raises:
        OSError: if they can't be written.
    """
    building = folder / f".converting-{os.getpid()}"
    building.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    try:
        try:
            ov.save_model(converted, building / NETWORK[0], compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(" ".join(str(error).split())[:160]) from error
        seal(building, NETWORK_SUMS, NETWORK)
        shutil.rmtree(folder / "compiled", ignore_errors=True)
        for name in (*NETWORK, NETWORK_SUMS):  # the hashes last
            replace_file(building / name, folder / name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
