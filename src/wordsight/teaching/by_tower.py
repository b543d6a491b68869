"""Teach the embedded network words that only a text–image model knows. The model looks at a sample
of the photos. The embedded network learns from the sure ones and labels the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..backbones.backbone import Backbone
from ..core.progress import Progress
from ..datasets.files import ImageFile
from ..heads.linear import softmax
from ..heads.zero_shot import SHARPNESS
from ..towers.evidence import LearnedWords, learn_words, weigh
from ..towers.prompts import NOTHING, rivals
from ..towers.tower import TextImageTower
from ..words.vocabulary import imagenet_synsets
from .hints import nearness

MOST_SEEN = 2000  # photos that a text–image model looks at
MOST_THINGS, SOME = 150, 2  # kinds of things in a folder that are rivals, in as many photos each
OF_EACH = 200  # photos nearest in meaning to a word, that it surely looks at


@dataclass(frozen=True)
class TaughtWords:
    """What was taught.

    Attributes:
        learned: heads, probabilities and counts, in the order of the words taught.
        files: the photos that the text–image model saw, in the order of `learned.probabilities`.
        seconds: it took.
    """

    learned: LearnedWords
    files: list[ImageFile]
    seconds: float


def teach_by_tower(
    tower: TextImageTower,
    words: Sequence[str],
    taught: Sequence[int],
    files: Sequence[ImageFile],
    embeddings: np.ndarray,
    backbone: Backbone,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> TaughtWords:
    """Teach words by a text–image model.

    Args:
        tower: the model.
        words: all that is asked for; those that are not taught are rivals of the others.
        taught: indices of the words to teach.
        files: readable photos of the folder.
        embeddings: (n, C) float32 of these, by the embedded network.
        backbone: the embedded network.
        say: called with a sentence on what happens.
        progress: called with (done, total, what).
    """
    asked = [words[at] for at in taught]
    rows, weights = spread(embeddings, backbone, asked)
    listed = ", ".join(f"'{word}'" for word in asked)
    say(
        f"Asking the text–image model '{tower.name}' about {listed}: it looks at {len(rows)} of "
        f"{len(files)} photos."
    )
    began = time.perf_counter()
    vectors = tower.embed_photos([files[row] for row in rows], progress)
    read = ~np.isnan(vectors).any(axis=1)
    rows, weights, vectors = rows[read], weights[read], vectors[read]
    phrases = tower.embed_phrases(list(words))
    others = rivals(tuple(words), things(embeddings, backbone))
    beside = tower.embed_phrases([*others, *NOTHING], several=False)
    evidence = weigh(vectors @ phrases.T, vectors @ beside.T).of(list(taught))
    learned = learn_words(embeddings[rows], evidence, weights)
    seconds = time.perf_counter() - began
    found = [f"{count} as {word}" for word, count in zip(asked, learned.counts, strict=True)]
    rest = len(files) - len(rows)
    say(
        f"It took {seconds:.0f} s. Some photos are sure: {', '.join(found)}."
        + (f" These taught the embedded network, which judges the other {rest}." if rest else "")
    )
    return TaughtWords(learned, [files[row] for row in rows], seconds)


def things(embeddings: np.ndarray, backbone: Backbone) -> list[str]:
    """Return names of the ImageNet classes that the embedded network sees in some of the photos,
    (n, C), the most frequent first; none if it knows no such classes.
    """
    head = backbone.concept_head()
    if head is None:
        return []
    seen = np.bincount(_seen(embeddings, head), minlength=len(head[1]))
    named = imagenet_synsets()
    order = np.argsort(-seen, kind="stable")[:MOST_THINGS]
    return [named[index].words[0].lower() for index in order if seen[index] >= SOME]


def _seen(embeddings: np.ndarray, head: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the class that the embedded network gives each photo, (n,) int."""
    weight, bias = head
    return softmax((embeddings @ weight.T + bias) / SHARPNESS).argmax(axis=1)


def spread(
    embeddings: np.ndarray, backbone: Backbone, words: Sequence[str], most: int = MOST_SEEN
) -> tuple[np.ndarray, np.ndarray]:
    """Return which photos a text–image model looks at, and how many of the folder each stands for.

    They are spread over what the embedded network says of the photos: of each thing that it sees
    some, of rare ones all, and those nearest in meaning to the words first.

    Args:
        embeddings: (n, C) float32 of the photos.
        backbone: the embedded network.
        words: what is looked for.
        most: how many photos, at most.

    Returns:
        (m,) int, in order; (m,) float64, on average 1.
    """
    n, head = len(embeddings), backbone.concept_head()
    if n <= most:
        return np.arange(n), np.ones(n)
    if head is None:
        rows = np.arange(0, n, -(-n // most))
        return rows, np.ones(len(rows))
    seen = _seen(embeddings, head)
    share = min(OF_EACH, most // (2 * len(words)))
    near = np.argsort(-nearness(embeddings, backbone, words), axis=0, kind="stable")[:share]
    chosen = np.zeros(n, bool)
    chosen[np.unique(near)] = True
    # the first photo of every thing, then the second of each, and so on
    order = np.random.default_rng(0).permutation(n)
    by_thing = order[np.argsort(seen[order], kind="stable")]
    starts = np.searchsorted(seen[by_thing], seen[by_thing])
    turn = np.arange(n) - starts
    waiting = by_thing[np.lexsort((by_thing, turn))]
    waiting = waiting[~chosen[waiting]]
    chosen[waiting[: most - int(chosen.sum())]] = True
    rows = np.flatnonzero(chosen)
    stands = np.bincount(seen, minlength=len(head[1])) / np.maximum(
        np.bincount(seen[rows], minlength=len(head[1])), 1
    )
    weights = stands[seen[rows]]
    return rows, weights / weights.mean()


def fit(
    tower: TextImageTower,
    words: Sequence[str],
    files: Sequence[ImageFile],
    embeddings: np.ndarray,
    backbone: Backbone,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return how well each word fits photos by a text–image model, (n, words), 0–1: 1 for the
    photo that it fits best, a half for the next, a third for the one after; 0 for photos that the
    model did not look at.

    Args:
        tower: the model.
        words: what is looked for.
        files: the photos.
        embeddings: (n, C) float32 of these, by the embedded network.
        backbone: the embedded network.
        progress: called with (done, total, what).
    """
    rows, _ = spread(embeddings, backbone, words)
    cosines = tower.embed_photos([files[row] for row in rows], progress)
    cosines = cosines @ tower.embed_phrases(list(words)).T
    place = np.argsort(np.argsort(-np.nan_to_num(cosines, nan=-1.0), axis=0), axis=0)
    found = np.zeros((len(files), len(words)))
    found[rows] = 1 / (1 + place)
    return found
