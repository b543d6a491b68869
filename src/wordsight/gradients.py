"""Heat maps by gradients, for networks whose embedding is not the plain mean of their feature map."""

from __future__ import annotations

import math
import threading

import numpy as np

from .backbones import Backbone, build_module
from .runtime import pixels_to_input, torch_device

_open: dict[str, GradCam] = {}
_opening = threading.Lock()


def open_gradcam(backbone: Backbone) -> GradCam:
    """Return the backbone's `GradCam`; it stays open for further calls of this process."""
    with _opening:
        if backbone.key not in _open:
            _open[backbone.key] = GradCam(backbone)
        return _open[backbone.key]


class GradCam:
    """Grad-CAM (Selvaraju et al. 2017) at the last layer that still tells places apart.

    That layer is found by one pass backwards: the last whose output is a grid of places, or a row of tokens that stand for
    places, with a gradient at more than the class token. Of VGG16 it is the last pooling, of a vision transformer that reads
    its class token the first normalisation of the last block.

    Attributes:
        layer: name of the layer in the torch module.
    """

    def __init__(self, backbone: Backbone) -> None:
        import torch

        self._torch, self._backbone, self._using = torch, backbone, threading.Lock()
        self._device = torch_device()
        self._module = build_module(backbone).to(self._device).requires_grad_(False)
        self._prefix = int(getattr(self._module, "num_prefix_tokens", 0))
        self.layer = self._find_layer()

    def heatmap(self, pixels: np.ndarray, class_weight: np.ndarray) -> np.ndarray:
        """Return the heat map (h, w) of one class, 0–1, all zero where nothing speaks for it.

        Args:
            pixels: (height, width, 3) uint8, of the preprocessing's input size.
            class_weight: (C,) the class's row of the head's weight.
        """
        with self._using:
            outputs, gradients = self._pass(pixels, class_weight, [self.layer])
        grid = self._grid(outputs[0], pixels.shape[:2])
        slope = self._grid(gradients[0], pixels.shape[:2])
        assert grid is not None and slope is not None
        evidence = np.maximum(np.tensordot(slope.mean(axis=(1, 2)), grid, axes=1), 0.0)  # (C,) . (C, h, w) -> (h, w)
        peak = float(evidence.max())
        return (evidence / peak if peak > 0 else evidence).astype(np.float32)

    def _find_layer(self) -> str:
        size = self._backbone.preprocessing.image_size
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        names = [name for name, _ in self._module.named_modules() if name]
        outputs, gradients = self._pass(pixels, rng.standard_normal(self._backbone.num_features).astype(np.float32), names)
        for name, _output, gradient in reversed(list(zip(self._called, outputs, gradients, strict=True))):
            grid = None if gradient is None else self._grid(gradient, size)
            if grid is not None and grid.shape[1] * grid.shape[2] > 1 and (np.abs(grid).sum(axis=0) > 0).mean() > 0.5:
                return name
        raise RuntimeError(f"no layer of '{self._backbone.name}' tells places apart")

    def _pass(self, pixels: np.ndarray, class_weight: np.ndarray, names: list[str]):
        """Return what the named layers gave, in the order they were called, and the gradient of the class's logit by each."""
        torch = self._torch
        kept: list = []
        self._called: list[str] = []

        def keep(name):
            def hook(module, inputs, output):
                if isinstance(output, torch.Tensor) and output.requires_grad and output.ndim in (3, 4):
                    kept.append(output)
                    self._called.append(name)

            return hook

        hooks = [self._module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
        try:
            with torch.enable_grad():
                x = pixels_to_input(torch.from_numpy(pixels[None].copy()).to(self._device), self._backbone).requires_grad_()
                embedding = self._module.forward_head(self._module.forward_features(x), pre_logits=True)
                score = embedding[0] @ torch.from_numpy(class_weight).to(self._device)
                gradients = torch.autograd.grad(score, kept, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        return [output.detach().cpu().numpy()[0] for output in kept], [None if g is None else g.cpu().numpy()[0] for g in gradients]

    def _grid(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Return a layer's output as (C, h, w) where its places can be told apart, else None."""
        aspect = size[0] / size[1]
        if values.ndim == 3:  # (C, h, w) of convolutions, or (h, w, C)
            fits = {(0, 1, 2): values.shape[1] / values.shape[2], (2, 0, 1): values.shape[0] / values.shape[1]}
            order, ratio = min(fits.items(), key=lambda item: abs(math.log(item[1] / aspect)))
            return values.transpose(order) if 2 / 3 < ratio / aspect < 3 / 2 else None
        tokens = values[self._prefix :]  # (tokens, C)
        height = round(math.sqrt(len(tokens) * aspect)) or 1
        if len(tokens) < 4 or len(tokens) % height or values.shape[1] != self._module.num_features:
            return None
        return tokens.T.reshape(values.shape[1], height, -1)  # (tokens, C) -> (C, h, w)
