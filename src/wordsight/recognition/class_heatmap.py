"""Show where a network looks for a class: a model's, or any word that the backbone itself knows."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder, open_photo
from ..backbones.registry import load_backbone
from ..classification.classifier import Classifier, load
from ..heatmaps.heatmap import Heatmap, HeatmapSettings, extent_of, look, one_pass
from ..heatmaps.one_pass import MASK_THRESHOLD
from .imagenet_classes import known_classes


def heatmap(
    image: str | os.PathLike | Image.Image | np.ndarray,
    class_name: str | None = None,
    *,
    model: str | os.PathLike | Classifier | None = None,
    heatmap_settings: HeatmapSettings | None = None,
    backbone: str | Backbone = DEFAULT_BACKBONE,
) -> Heatmap:
    """Return where a network looks for a class, likely or not.

    Args:
        image: path, PIL image, or (height, width, 3) uint8 RGB.
        class_name: a class of the model; without a model any word that WordNet ties to ImageNet
            classes, whose weights are averaged by how likely each is here. By default the likeliest
            class.
        model: model folder or classifier; None: the backbone's own ImageNet classes.
        heatmap_settings: method, layer, scales; by default one pass where the head allows.
        backbone: without a model, the network.

    Raises:
        InvalidArgument, UnknownWord: if there is no such class or word, method, layer or scale.
        UnreadableImage, NotFound: if the image or the model can't be read.
    """
    if model is not None:
        classifier = model if isinstance(model, Classifier) else load(model)
        return classifier.heatmap(image, class_name, heatmap_settings=heatmap_settings)
    network, heatmap_settings = load_backbone(backbone), heatmap_settings or HeatmapSettings()
    heatmap_settings.check(network)
    known = known_classes(network)
    photo = open_photo(image)
    embedder = Embedder(network)
    encoding = embedder.encode(photo, feature_map=True)
    probabilities = known.probabilities(encoding.embedding[None])[0]
    indices = (int(probabilities.argmax()),) if class_name is None else known.named(class_name)
    grid = look(
        photo,
        embedder,
        known.direction(probabilities, indices),
        heatmap_settings,
        encoding.feature_map,
    )
    class_name = known.words[indices[0]][0] if class_name is None else class_name
    reach = extent_of(grid, encoding) if one_pass(network, heatmap_settings) else None
    return Heatmap(class_name, grid, photo.size, MASK_THRESHOLD, photo.image, reach)
