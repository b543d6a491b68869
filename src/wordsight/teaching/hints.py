"""How near photos are to a word's neighbours in meaning. Serves the order of questions only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backbones.backbone import Backbone
from ..heads.linear import softmax
from ..heads.zero_shot import SHARPNESS
from ..words.verdicts import judge
from ..words.vocabulary import imagenet_synsets

NEIGHBOUR = 0.5  # what a neighbour's probability counts beside that of a word's own classes


def nearness(embeddings: np.ndarray, backbone: Backbone, words: Sequence[str]) -> np.ndarray:
    """Return how near photos are to each word by what the backbone knows, (n, words), 0–1; zeros
    for a word of which it knows neither kinds nor neighbours.

    Args:
        embeddings: (n, C) float32 of the photos.
        backbone: the network; one without an ImageNet head gives zeros.
        words: what is looked for.
    """
    near = np.zeros((len(embeddings), len(words)))
    head = backbone.concept_head()
    if head is None:
        return near
    weight, bias = head
    shares = softmax((embeddings @ weight.T + bias) / SHARPNESS)
    named: dict[str, list[int]] = {}
    for index, synset in enumerate(imagenet_synsets()):
        for name in synset.words:
            named.setdefault(name, []).append(index)
    for place, word in enumerate(words):
        verdict = judge(word)
        own = [] if verdict.sense is None else list(verdict.sense.classes)
        beside = {index for name in verdict.neighbours for index in named.get(name, ())} - {*own}
        near[:, place] = shares[:, own].sum(axis=1)
        near[:, place] += NEIGHBOUR * shares[:, sorted(beside)].sum(axis=1)
    return near
