"""The torch engine: a backbone on CUDA, MPS or the CPU, and the torch modules that it runs. Loads
torch only when used.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from concurrent.futures import Future

import numpy as np

from ..errors import InvalidArgument
from .backbone import MAP_STRIDES, Backbone
from .devices import out_of_memory, torch_device
from .encoding import Encoding
from .networks.efficientnet_lite import VARIANTS
from .networks.timm_models import build_module, maps_of

GPU_CALLERS = 64


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
