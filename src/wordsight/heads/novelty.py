"""Recognise strangers, images unlike what the model learned from, by how near an embedding lies to
the training embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .linear import nearest_mean, normalize, softmax

MAX_REFERENCES = 512  # more changed nothing in measurements
NEIGHBOURS = 10
# share of the images learned from that lie below the limit
STRANGER_QUANTILE = 0.02
# sharpens the probabilities of the backbone's ImageNet head; 0.2 to 0.4 do equally well
CONCEPT_TEMPERATURE = 0.3
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class Neighbourhood:
    """The training embeddings, and how near another embedding is to the nearest of them.

    An image has one or two views: its embedding and, if the backbone has an ImageNet head, the
    probabilities of that head. In each view, the mean cosine to the `k` nearest references counts
    (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors"), measured from
    the middle of the training images' own cosines, in units of their spread. This separates images
    of other things from images of the classes far better than probability does.

    Attributes:
        references: (n, C) float32 training embeddings of unit length.
        k: how many neighbours are averaged.
        limit: familiarity below which an image is a stranger.
        scales: for each view, the middle and spread of the training images' own similarity.
        concepts: (n, 1000) float32, the references in the second view, or None.
        concept_head: weight (1000, C) and bias (1000,) of the backbone's ImageNet head, or None.
    """

    references: np.ndarray
    k: int
    limit: float
    scales: tuple[tuple[float, float], ...]
    concepts: np.ndarray | None = None
    concept_head: tuple[np.ndarray, np.ndarray] | None = None

    def familiarity(self, embeddings: np.ndarray) -> np.ndarray:
        """Return how near each of the embeddings (n, C) lies, (n,); larger is nearer, and strangers
        lie below `limit`.
        """
        # (n, C) @ (C, references)
        similarities = [nearest_mean(normalize(embeddings) @ self.references.T, self.k)]
        if self.concepts is not None and self.concept_head is not None:
            similarities.append(
                nearest_mean(_concepts(embeddings, *self.concept_head) @ self.concepts.T, self.k)
            )
        return _combine(similarities, self.scales)


def fit_neighbourhood(
    embeddings: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    concept_head: tuple[np.ndarray, np.ndarray] | None = None,
    held_out: np.ndarray | None = None,
) -> Neighbourhood:
    """Learn where the training embeddings lie, and below which familiarity an image is a stranger.

    The limit is the `STRANGER_QUANTILE` of the familiarity of the held-out images. Without any, it
    is that of the training images, each measured without itself.

    Args:
        embeddings: (n, C) float32, n at least 2.
        labels: (n,) int; half the smallest class is how many neighbours are averaged, at most 10.
        seed: chooses the references to keep if there are more than 512.
        concept_head: weight and bias of the backbone's ImageNet head.
        held_out: (m, C) embeddings of images that the backbone has not learned from, if it has
            learned from the others.
    """
    chosen = np.arange(len(embeddings))
    if len(chosen) > MAX_REFERENCES:
        chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:MAX_REFERENCES])
    counts = np.bincount(labels)
    k = int(np.clip(counts[counts > 0].min() // 2, 1, min(NEIGHBOURS, len(chosen) - 1)))
    views = [normalize(embeddings[chosen])]
    if concept_head is not None:
        concept_head = (_stored(concept_head[0]), concept_head[1].astype(np.float32))
        views.append(_concepts(embeddings[chosen], *concept_head))
    views = [_stored(view) for view in views]
    if held_out is None or not len(held_out):
        own = [view @ view.T for view in views]
        for cosines in own:
            np.fill_diagonal(cosines, -1.0)
    else:
        looked = [normalize(held_out)] + (
            [_concepts(held_out, *concept_head)] if concept_head is not None else []
        )
        own = [new @ view.T for new, view in zip(looked, views, strict=True)]
    similarities = [nearest_mean(cosines, k) for cosines in own]
    scales = tuple(
        (
            float(np.median(s)),
            max(1.4826 * float(np.median(np.abs(s - np.median(s)))), LEAST_SPREAD),
        )
        for s in similarities
    )
    limit = float(np.quantile(_combine(similarities, scales), STRANGER_QUANTILE))
    return Neighbourhood(
        views[0], k, limit, scales, views[1] if len(views) == 2 else None, concept_head
    )


def _concepts(embeddings: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the square roots of the ImageNet head's sharpened probabilities, (n, 1000), which have
    unit length.
    """
    return np.sqrt(softmax((embeddings @ weight.T + bias) / CONCEPT_TEMPERATURE))


def _combine(similarities: list[np.ndarray], scales: tuple[tuple[float, float], ...]) -> np.ndarray:
    return np.sum(
        [(s - middle) / spread for s, (middle, spread) in zip(similarities, scales, strict=True)],
        axis=0,
    )


def _stored(values: np.ndarray) -> np.ndarray:
    """Return values in half precision, as they are stored, so that a loaded model agrees."""
    return values.astype(np.float16).astype(np.float32)
