"""Heat maps of one class: in one pass if the head allows it, else by gradients; and masks and boxes
from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..backbones.backbone import Backbone
from ..backbones.devices import need_torch
from ..backbones.embedder import Embedder
from ..backbones.encoding import Encoding
from ..errors import InvalidArgument
from ..images.decoding import Photo, resize
from .drawing import full_mask, superimpose
from .extent import extent
from .gradients import check_method, open_gradcam
from .one_pass import class_heatmap, heatmap_boxes, upsample

SMALLEST, LARGEST = 0.25, 4.0  # of the network's input side


@dataclass(frozen=True)
class Heatmap:
    """Where a network looked for one class.

    Attributes:
        class_name: the class.
        grid: (h, w) float32, 0–1, as coarse as the network sees it; all zero where nothing speaks
            for the class.
        size: (height, width) in pixels of the upright image.
        threshold: of the peak, from which masks and boxes are cut where no other is given.
        image: the upright image, RGB, possibly smaller than `size`.
        extent: (rows, columns) float32, 0–1: how far the class reaches, from which masks and boxes
            are cut; None: they are cut from the grid.
    """

    class_name: str
    grid: np.ndarray
    size: tuple[int, int]
    threshold: float
    image: Image.Image
    extent: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """The heat map at the image's size: (height, width) float32, 0–1."""
        return upsample(self.grid, self.size)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.values.astype(dtype or np.float32, copy=False)

    def overlay(self) -> Image.Image:
        """Return the image with the heat map laid over it."""
        return Image.fromarray(superimpose(self.image, self.grid))

    def mask(self, threshold: float | None = None) -> np.ndarray:
        """Return where the extent or heat map reaches a threshold (0–1, of the peak), (height,
        width) bool.
        """
        return (
            full_mask(self._reach, self.size, self._checked(threshold)) > 0
            if self._reach.max() > 0
            else np.zeros(self.size, dtype=bool)
        )

    def boxes(self, threshold: float | None = None) -> list[list[float]]:
        """Return the `xyxy` boxes, in pixels, of all regions that reach a threshold (0–1, of
        the peak), the strongest first.
        """
        return heatmap_boxes(self._reach, self.size, self._checked(threshold))

    @property
    def _reach(self) -> np.ndarray:
        return self.grid if self.extent is None else self.extent

    def _repr_png_(self) -> bytes | None:
        return self.overlay()._repr_png_()

    def _checked(self, threshold: float | None) -> float:
        chosen = self.threshold if threshold is None else threshold
        if not 0 < chosen <= 1:
            raise InvalidArgument(
                f"The threshold of a heat map must lie above 0 and at most at 1, got {chosen:g}."
            )
        return chosen


@dataclass(frozen=True)
class HeatmapSettings:
    """How heat maps are made.

    Attributes:
        method: "auto": one pass where the head allows, else "gradcam"; or one of
            `list_heatmap_methods`.
        layer: the layer for methods by gradients; None: found by itself.
        scales: of the network's input side; the maps of several are averaged.
        mirror: average with the map of the mirrored image, too.
    """

    method: str = "auto"
    layer: str | None = None
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False

    def check(self, backbone: Backbone) -> None:
        """Check the settings.

        Raises:
            InvalidArgument: if there is no such method or layer, or torch, which it needs, is not
                installed; if there is no scale, or one is out of range or impossible for the
                network.
        """
        if self.method != "auto":
            check_method(self.method)
        if self.method != "auto" or self.layer is not None:
            need_torch("A heat map by gradients")
        if not self.scales or not all(SMALLEST <= scale <= LARGEST for scale in self.scales):
            raise InvalidArgument(
                f"Scales must lie between {SMALLEST:g} and {LARGEST:g}, got "
                f"{', '.join(map(str, self.scales)) or 'none'}."
            )
        if backbone.preprocessing.fit == "squash" and self.scales != (1.0,):
            height, width = backbone.preprocessing.image_size
            raise InvalidArgument(
                f"This network takes {height} × {width} pixels only, so its heat maps have one "
                "scale."
            )
        if self.layer is not None:
            open_gradcam(backbone).check(self.layer)

    @property
    def plain(self) -> bool:
        """Whether the feature map of the ordinary pass is enough."""
        return self == HeatmapSettings()


def look(
    photo: Photo,
    embedder: Embedder,
    class_weight: np.ndarray,
    how: HeatmapSettings,
    feature_map: np.ndarray | None = None,
) -> np.ndarray:
    """Return the heat map (h, w) float32 of one class, 0–1.

    Args:
        photo: the image.
        embedder: the network.
        class_weight: (C,) the class's row of the head's weight.
        how: method, layer, scales.
        feature_map: (C, h, w) of the ordinary pass, if it was kept.

    Raises:
        InvalidArgument: if the method, layer or scale is impossible.
    """
    backbone = embedder.backbone
    if how.plain and backbone.pooled and feature_map is not None:
        return class_heatmap(feature_map, class_weight)
    maps = []
    for scale in how.scales:
        preprocessing = (
            backbone.preprocessing if scale == 1 else backbone.preprocessing.scaled(scale)
        )
        pixels = resize(
            photo.image, preprocessing.input_size(photo.size), preprocessing.interpolation
        )
        maps.append(_one(pixels, embedder, class_weight, how))
        if how.mirror:
            maps.append(
                _one(np.ascontiguousarray(pixels[:, ::-1]), embedder, class_weight, how)[:, ::-1]
            )
    if len(maps) == 1:
        return maps[0]
    finest = (max(m.shape[0] for m in maps), max(m.shape[1] for m in maps))
    mean = np.stack([upsample(np.ascontiguousarray(m), finest) for m in maps]).mean(axis=0)
    peak = float(mean.max())
    return mean / peak if peak > 0 else mean


def one_pass(backbone: Backbone, how: HeatmapSettings) -> bool:
    """Whether a heat map needs no backward pass: for a head on a mean, Grad-CAM *is* the weighted
    sum of the feature map.
    """
    return backbone.pooled and how.layer is None and how.method == "auto"


def extent_of(heatmap: np.ndarray, encoding: Encoding | None) -> np.ndarray | None:
    """Return how far a class reaches whose heat map that is, or None where the pass says nothing
    of it.
    """
    if encoding is None or encoding.fine_map is None or min(encoding.fine_map.shape[1:]) < 2:
        return None
    return extent(heatmap, encoding.fine_map)


def _one(
    pixels: np.ndarray, embedder: Embedder, class_weight: np.ndarray, how: HeatmapSettings
) -> np.ndarray:
    if one_pass(embedder.backbone, how):
        feature_map = embedder.runtime.encode(pixels, feature_map=True).feature_map
        assert feature_map is not None
        return class_heatmap(feature_map, class_weight)
    method = "gradcam" if how.method == "auto" else how.method
    return open_gradcam(embedder.backbone).heatmap(pixels, class_weight, method, how.layer)
