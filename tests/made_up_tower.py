"""A text–image tower made up for tests and benchmarks, since real ones can't be had where this is
developed: its vectors carry planted truth, with noise that gives it a chosen zero-shot accuracy.

It takes the place of `wordsight.towers.Tower` wherever a `TextImageTower` is asked for. What makes
real towers hard is in it: texts and photos lie in cones of their own, so that no cosine has a
natural zero; texts of one family of things are alike; a photo errs towards what photos that look
alike err towards; and some photos err much more than others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from wordsight.towers.prompts import plain

WIDTH = 256
KIN = 0.7  # of a text's vector that it shares with its family
LOOK = 0.5  # of the noise that photos which look alike share
CLUSTERS = 40  # of photos that show none of the words; each shows a thing of its own
FAMILIES = (("cat", "dog", "bear"), ("banana", "orange", "cucumber", "mushroom"), ("shoe", "hat"))


class MadeUpTower:
    """A tower of planted truth; its `name` says how good it is.

    Args:
        names: file names of all photos it will ever see.
        truth: photo by photo, the words it shows.
        looks: (n, C) float32, what the photos look like: the embedded network's embeddings.
        accuracy: zero-shot accuracy among the words and 300 other nouns, 0–1, that the noise is
            made to give.
        seed: of everything random.
    """

    def __init__(
        self,
        names: Sequence[str],
        truth: Sequence[Sequence[str]],
        looks: np.ndarray,
        accuracy: float,
        seed: int = 0,
    ) -> None:
        self.name, self._seed = f"made-up-{accuracy}", seed
        rng = np.random.default_rng(seed)
        self._cones = [_unit(rng.normal(size=WIDTH)) for _ in range(2)]
        scaled = (looks - looks.mean(axis=0)) / (looks.std(axis=0) + 1e-6)
        spread = rng.normal(size=(looks.shape[1], CLUSTERS)) / np.sqrt(looks.shape[1])
        others = [f"thing {number}" for number in (scaled @ spread).argmax(axis=1)]
        shown = [list(words) or [other] for words, other in zip(truth, others, strict=True)]
        meant = np.stack([sum(self._meaning(word) for word in words) for words in shown])
        alike = scaled @ rng.normal(size=(looks.shape[1], WIDTH))
        alike /= np.linalg.norm(alike, axis=1).mean()
        alone = rng.normal(size=meant.shape) / np.sqrt(WIDTH)
        alone *= np.sqrt(4 / rng.chisquare(4, size=(len(meant), 1)))  # Student's t, heavy tails
        noise = LOOK * alike + np.sqrt(1 - LOOK**2) * alone
        words = sorted({word for some in truth for word in some})
        texts = self.embed_phrases([*words, *(f"noun {number}" for number in range(300))])
        single = np.array([len(some) == 1 for some in truth])
        right = np.array([words.index(some[0]) if len(some) == 1 else -1 for some in truth])
        low, high = 0.01, 100.0
        for _ in range(40):
            level = np.sqrt(low * high)
            vectors = _unit(self._cones[0] + _unit(meant + level * noise))
            found = ((vectors @ texts.T).argmax(axis=1) == right)[single].mean()
            low, high = (level, high) if found > accuracy else (low, level)
        self._vectors = dict(zip(names, vectors.astype(np.float32), strict=True))
        self.seen = 0  # photos it was shown

    def embed_photos(self, files, progress=None) -> np.ndarray:
        """See `TextImageTower`."""
        self.seen += len(files)
        return np.stack([self._vectors[file.name] for file in files])

    def embed_phrases(self, phrases, several: bool = True) -> np.ndarray:
        """See `TextImageTower`."""
        meanings = np.stack([self._meaning(plain(phrase)) for phrase in phrases])
        return _unit(self._cones[1] + meanings).astype(np.float32)

    def _meaning(self, word: str) -> np.ndarray:
        family = next(
            (str(some) for some in FAMILIES if word in some), f"family {_number(word) % 20}"
        )
        own = [_unit(np.random.default_rng(_number(f"{self._seed} {text}")).normal(size=WIDTH))
               for text in (family, word)]  # fmt: skip
        return KIN * own[0] + np.sqrt(1 - KIN**2) * own[1]


def _number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
