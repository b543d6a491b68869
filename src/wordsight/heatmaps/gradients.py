"""Heat maps by gradients: for networks whose embedding is not the plain mean of their feature map,
for any layer, by any method.

A method is one function of a layer's activations and of the gradients that a class's logit has
there; see `register_heatmap_method`.
"""

from __future__ import annotations

import difflib
import math
import threading
from collections.abc import Callable

import numpy as np

from ..backbones.backbone import Backbone
from ..backbones.devices import need_torch, torch_device
from ..backbones.networks.timm_models import build_module
from ..backbones.torch_engine import pixels_to_input
from ..core.plugins import load_extensions
from ..errors import InvalidArgument

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
_methods: dict[str, Method] = {}


def register_heatmap_method(name: str) -> Callable[[Method], Method]:
    """Register a way to make a heat map, under a name (a decorator).

    The function gets activations (C, h, w) and gradients (C, h, w), both float32, and returns the
    evidence (h, w); what is below zero counts as none, and the peak becomes 1.
    """

    def register(method: Method) -> Method:
        _methods[name] = method
        return method

    return register


def list_heatmap_methods() -> dict[str, str]:
    """Return the methods by gradients, each with what it does."""
    load_extensions("heatmaps")
    return {
        name: (method.__doc__ or "").strip().partition("\n")[0]
        for name, method in sorted(_methods.items())
    }


def check_method(name: str) -> None:
    """Check the name of a method.

    Raises:
        InvalidArgument: if there is no such method.
    """
    if name not in _methods and name not in list_heatmap_methods():
        raise InvalidArgument(
            f"Unknown heat map method '{name}'. Choose one of: auto, {', '.join(sorted(_methods))}."
        )


@register_heatmap_method("gradcam")
def _gradcam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Weigh each channel by its mean gradient (Selvaraju et al. 2017)."""
    # (C,) . (C, h, w) -> (h, w)
    return np.tensordot(gradients.mean(axis=(1, 2)), activations, axes=1)


@register_heatmap_method("gradcam++")
def _gradcam_plus(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Weigh all objects of a class alike, whatever their size (Chattopadhay et al. 2018)."""
    squared, cubed = gradients**2, gradients**3
    below = 2 * squared + activations.sum(axis=(1, 2), keepdims=True) * cubed
    alpha = np.divide(squared, below, out=np.zeros_like(squared), where=np.abs(below) > 1e-12)
    return np.tensordot((alpha * np.maximum(gradients, 0)).sum(axis=(1, 2)), activations, axes=1)


@register_heatmap_method("layercam")
def _layercam(activations: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Weigh each place by its own gradient, which suits early, fine layers (Jiang et al. 2021)."""
    return (np.maximum(gradients, 0) * activations).sum(axis=0)


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

    That layer is found by one pass backwards: the last whose output is a grid of places, or a row
    of tokens that stand for places, with a gradient at more than the class token. Of VGG16 it is
    the last pooling, of a vision transformer that reads its class token the first normalisation of
    the last block.

    Attributes:
        layer: name of the layer in the torch module.
    """

    def __init__(self, backbone: Backbone) -> None:
        need_torch("A heat map by gradients")
        import torch

        self._torch, self._backbone, self._using = torch, backbone, threading.Lock()
        self._device = torch_device()
        self._module = build_module(backbone).to(self._device).requires_grad_(False)
        self._prefix = int(getattr(self._module, "num_prefix_tokens", 0))
        self.layer = self._find_layer()

    def heatmap(
        self,
        pixels: np.ndarray,
        class_weight: np.ndarray,
        method: str = "gradcam",
        layer: str | None = None,
    ) -> np.ndarray:
        """Return the heat map (h, w) of one class, 0–1, all zero where nothing speaks for it.

        Args:
            pixels: (height, width, 3) uint8, of the preprocessing's input size.
            class_weight: (C,) the class's row of the head's weight.
            method: one of `list_heatmap_methods`.
            layer: name of a layer of the torch module; by default `self.layer`.

        Raises:
            InvalidArgument: if there is no such method or layer, or the layer does not tell places
                apart.
        """
        check_method(method)
        name = self.layer if layer is None else self._check(layer)
        with self._using:
            outputs, gradients = self._pass(pixels, class_weight, [name])
        grid, slope = (
            None if not values or values[0] is None else self._grid(values[0], pixels.shape[:2])
            for values in (outputs, gradients)
        )
        if grid is None or slope is None or grid.shape[1] * grid.shape[2] <= 1:
            raise InvalidArgument(
                f"Layer '{layer}' of '{self._backbone.name}' does not tell places apart. Leave "
                "it out, or choose an earlier one."
            )
        evidence = np.maximum(_methods[method](grid, slope), 0.0)
        peak = float(evidence.max())
        return (evidence / peak if peak > 0 else evidence).astype(np.float32)

    def check(self, layer: str) -> None:
        """Check a layer.

        Raises:
            InvalidArgument: if there is no such layer, or it does not tell places apart.
        """
        pixels = np.random.default_rng(0).integers(
            0, 256, (*self._backbone.preprocessing.image_size, 3), dtype=np.uint8
        )
        self.heatmap(pixels, np.ones(self._backbone.num_features, dtype=np.float32), layer=layer)

    def _check(self, layer: str) -> str:
        names = [name for name, _ in self._module.named_modules() if name]
        if layer not in names:
            close = difflib.get_close_matches(layer, names, n=3, cutoff=0.3) or names[-3:]
            raise InvalidArgument(
                f"'{self._backbone.name}' has no layer '{layer}'. Some that it has: "
                f"{', '.join(close)}."
            )
        return layer

    def _find_layer(self) -> str:
        size = self._backbone.preprocessing.image_size
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        names = [name for name, _ in self._module.named_modules() if name]
        outputs, gradients = self._pass(
            pixels, rng.standard_normal(self._backbone.num_features).astype(np.float32), names
        )
        for name, _output, gradient in reversed(
            list(zip(self._called, outputs, gradients, strict=True))
        ):
            grid = None if gradient is None else self._grid(gradient, size)
            if (
                grid is not None
                and grid.shape[1] * grid.shape[2] > 1
                and (np.abs(grid).sum(axis=0) > 0).mean() > 0.5
            ):
                return name
        raise RuntimeError(f"no layer of '{self._backbone.name}' tells places apart")

    def _pass(self, pixels: np.ndarray, class_weight: np.ndarray, names: list[str]):
        """Return the outputs of the named layers, in the order of the calls, and the gradients of
        the class's logit with respect to them.
        """
        torch = self._torch
        kept: list = []
        self._called: list[str] = []

        def keep(name):
            def hook(module, inputs, output):
                if (
                    isinstance(output, torch.Tensor)
                    and output.requires_grad
                    and output.ndim in (3, 4)
                ):
                    kept.append(output)
                    self._called.append(name)

            return hook

        hooks = [
            self._module.get_submodule(name).register_forward_hook(keep(name)) for name in names
        ]
        try:
            with torch.enable_grad():
                x = pixels_to_input(
                    torch.from_numpy(pixels[None].copy()).to(self._device), self._backbone
                ).requires_grad_()
                embedding = self._module.forward_head(
                    self._module.forward_features(x), pre_logits=True
                )
                score = embedding[0] @ torch.from_numpy(class_weight).to(self._device)
                gradients = torch.autograd.grad(score, kept, allow_unused=True) if kept else []
        finally:
            for hook in hooks:
                hook.remove()
        return [output.detach().cpu().numpy()[0] for output in kept], [
            None if g is None else g.cpu().numpy()[0] for g in gradients
        ]

    def _grid(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Return a layer's output as (C, h, w) where its places can be told apart, else None."""
        aspect = size[0] / size[1]
        if values.ndim == 3:  # (C, h, w) of convolutions, or (h, w, C)
            fits = {
                (0, 1, 2): values.shape[1] / values.shape[2],
                (2, 0, 1): values.shape[0] / values.shape[1],
            }
            order, ratio = min(fits.items(), key=lambda item: abs(math.log(item[1] / aspect)))
            return values.transpose(order) if 2 / 3 < ratio / aspect < 3 / 2 else None
        tokens = values[self._prefix :]  # (tokens, C)
        height = round(math.sqrt(len(tokens) * aspect)) or 1
        if len(tokens) < 4 or len(tokens) % height or values.shape[1] != self._module.num_features:
            return None
        return tokens.T.reshape(values.shape[1], height, -1)  # (tokens, C) -> (C, h, w)
