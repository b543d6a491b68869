"""The OpenVINO engine: a backbone on the CPU, and its converted and compiled files in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import queue
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core.home import keep, places, replace_file, sweep
from ..core.threads import cores, cores_are_shared
from .backbone import Backbone
from .devices import need_torch
from .encoding import Encoding
from .networks.efficientnet_lite import VARIANTS, openvino_network
from .seals import is_whole, seal
from .torch_engine import multiscale_module, one_pass_module

log = logging.getLogger("wordsight")

# counted up whenever what a network gives changes; those of 0.1.0 have no number
NETWORK = ("network-3.xml", "network-3.bin")
NETWORK_SUMS = "network-3.sha256"
COMPILED_SUMS = "compiled.sha256"


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
