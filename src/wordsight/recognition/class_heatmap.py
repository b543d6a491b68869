"""Show where a network looks for a class: a model's, or any word that the backbone itself knows."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image

from ..backbones.embedder import Embedder, open_photo
from ..backbones.registry import DEFAULT_BACKBONE, load_backbone
from ..classification.classifier import Classifier, load
from ..heatmaps.heatmap import Heatmap, HeatmapSettings, look
from ..heatmaps.one_pass import MASK_THRESHOLD
from .imagenet_classes import known_classes


def heatmap(
    image: str | os.PathLike | Image.Image | np.ndarray,
    class_name: str | None = None,
    model: str | os.PathLike | Classifier | None = None,
    looking: HeatmapSettings | None = None,
    backbone: str = DEFAULT_BACKBONE,
    engine: str = "auto",
    dtype: str = "f32",
) -> Heatmap:
    """Return where a network looks for a class, likely or not.

    Args:
        image: path, PIL image, or (height, width, 3) uint8 RGB.
        class_name: a class of the model; without a model any word that WordNet ties to ImageNet
            classes, whose weights are averaged by how likely each is here. By default the likeliest
            class.
        model: model folder or classifier; None: the backbone's own ImageNet classes.
        looking: method, layer, scales; by default one pass where the head allows.
        backbone: without a model, the network.
        engine: "auto", "openvino" or "torch".
        dtype: "f32" or "bf16".

    Raises:
        InvalidArgument, UnknownWord: no such class or word, method, layer or scale.
        UnreadableImage, NotFound: the image or the model can't be read.
    """
    if model is not None:
        classifier = model if isinstance(model, Classifier) else load(model)
        return classifier.heatmap(image, class_name, looking, engine, dtype)
    network, looking = load_backbone(backbone), looking or HeatmapSettings()
    looking.check(network)
    known = known_classes(network)
    photo = open_photo(image)
    embedder = Embedder(network, engine, dtype)
    encoding = embedder.encode(photo, feature_map=True)
    probabilities = known.probabilities(encoding.embedding[None])[0]
    indices = (int(probabilities.argmax()),) if class_name is None else known.named(class_name)
    grid = look(
        photo, embedder, known.direction(probabilities, indices), looking, encoding.feature_map
    )
    class_name = known.words[indices[0]][0] if class_name is None else class_name
    return Heatmap(class_name, grid, photo.size, MASK_THRESHOLD, photo.image)
