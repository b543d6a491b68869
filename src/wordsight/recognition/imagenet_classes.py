"""What a backbone knows before it is taught anything: the classes of its own ImageNet head, and
groups of them by WordNet's words.
"""

from __future__ import annotations

import functools
import gzip
import re
from dataclasses import dataclass
from importlib import resources

import numpy as np

from ..backbones.backbone import Backbone
from ..backbones.networks.timm_models import imagenet_classes
from ..backbones.registry import EMBEDDED
from ..errors import InvalidArgument, UnknownWord
from ..heads.linear import softmax
from ..words.class_names import fold
from ..words.verdicts import judge
from ..words.vocabulary import Sense, imagenet_synsets, senses

# of the embedded backbones, which are far too unsure of themselves: on 200 ImageNet photos the mean
# log loss is 0.44
TEMPERATURE = 0.5
# with it and 1.60 without (0.41 at 0.4; but they may have learned from those very photos). Other
# networks are taken at their word.


@dataclass(frozen=True)
class KnownClasses:
    """The classes of a backbone's own head.

    Attributes:
        wnids: WordNet id of each, in the head's order.
        words: names of each, the most usual first.
        weight: (classes, C) float32.
        bias: (classes,) float32.
        temperature: that its logits are divided by.
    """

    wnids: list[str]
    words: list[tuple[str, ...]]
    weight: np.ndarray
    bias: np.ndarray
    temperature: float

    def __len__(self) -> int:
        return len(self.wnids)

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the probabilities (n, classes) of embeddings (n, C)."""
        return softmax((embeddings @ self.weight.T + self.bias) / self.temperature)

    def direction(self, probabilities: np.ndarray, indices: tuple[int, ...]) -> np.ndarray:
        """Return the weight (C,) of which a heat map of several classes together is made: theirs,
        each by its share of their probability.

        It is the gradient of the logarithm of their summed probability, apart from what all classes
        have in common.

        Args:
            probabilities: (classes,) of the image.
            indices: the classes.
        """
        chosen = list(indices)
        shares = np.maximum(probabilities[chosen], 1e-30)
        return ((shares / shares.sum()) @ self.weight[chosen]).astype(np.float32)

    def group(self, word: str) -> tuple[int, ...]:
        """Return the classes under a WordNet word, such as "vehicle" or "crane#bird", or under a
        WordNet id.

        Raises:
            UnknownWord: if there is none, or the word has several meanings.
        """
        if re.fullmatch(r"n\d{8}", word):
            return self._under(word) or _sense(word).classes
        if len(self) == 1000:
            return _sense(word).classes
        try:
            return self._under(_sense(word).synset.wnid)
        except UnknownWord:
            # the vocabulary is that of ImageNet-1k; larger sets have words of their own
            found = self._with_name(word)
            if len(found) > 1:
                raise UnknownWord(
                    f"'{word}' has several meanings. Choose one by its id: {self._listed(found)}."
                ) from None
            if not found:
                raise
            return self._under(self.wnids[found[0]])

    def named(self, word: str) -> tuple[int, ...]:
        """Return the class of a name or WordNet id, or else the classes under the word.

        Raises:
            UnknownWord: if there is none, or there are several of the name.
        """
        found = self._with_id(word) or self._with_name(word)
        if len(found) > 1:
            raise UnknownWord(
                f"Several classes are called '{word}'. Choose one by its id: {self._listed(found)}."
            )
        return found or self.group(word)

    def _under(self, wnid: str) -> tuple[int, ...]:
        return tuple(
            index for index, own in enumerate(self.wnids) if own == wnid or wnid in _ancestors(own)
        )

    def _with_id(self, word: str) -> tuple[int, ...]:
        return tuple(index for index, wnid in enumerate(self.wnids) if wnid == word.strip())

    def _with_name(self, word: str) -> tuple[int, ...]:
        wanted = fold(word.replace("_", " "))
        return tuple(
            index
            for index, words in enumerate(self.words)
            if any(fold(name) == wanted for name in words)
        )

    def _listed(self, indices: tuple[int, ...]) -> str:
        return ", ".join(
            f"{self.wnids[index]} ({', '.join(self.words[index][:2])})" for index in indices
        )


def known_classes(backbone: Backbone) -> KnownClasses:
    """Return what a backbone's own head knows.

    Raises:
        InvalidArgument: if it has no head of one of ImageNet's sets of classes.
    """
    weight, bias = backbone.head()
    if len(weight) == 1000:  # timm's table of these is ours, too, and importing timm takes seconds
        wnids, words = [s.wnid for s in imagenet_synsets()], [s.words for s in imagenet_synsets()]
    else:
        classes = imagenet_classes(len(weight))
        if classes is None:
            raise InvalidArgument(
                f"Backbone '{backbone.name}' has {len(weight)} classes, which are none of "
                "ImageNet's sets. "
                f"Use '{backbone.pretrained_cfg.get('architecture', 'resnet50')}' as it "
                "came, or 'wordsight predict -m' for a model of your own."
            )
        wnids, words = (
            [wnid for wnid, _ in classes],
            [tuple(names.split(", ")) for _, names in classes],
        )
    return KnownClasses(
        wnids, words, weight, bias, TEMPERATURE if backbone.name in EMBEDDED else 1.0
    )


def _sense(word: str) -> Sense:
    """Return the meaning of a word: where the network knows one of several only, that one."""
    known = [sense for sense in senses(word) if sense.classes]
    if len(known) == 1:
        return known[0]
    verdict = judge(word)
    if verdict.sense is None:
        raise UnknownWord(verdict.reason)
    return verdict.sense


@functools.cache
def _parents() -> dict[str, tuple[str, ...]]:
    """Return WordNet's hypernyms for every class of every ImageNet set, and for what is above
    them.
    """
    text = gzip.decompress(
        resources.files("wordsight.words").joinpath("hypernyms.txt.gz").read_bytes()
    ).decode()
    return {
        wnid: tuple(above.split(","))
        for wnid, _, above in (line.partition(" ") for line in text.splitlines())
        if above
    }


@functools.cache
def _ancestors(wnid: str) -> frozenset[str]:
    above = _parents().get(wnid, ())
    return frozenset(above).union(*(_ancestors(parent) for parent in above))
