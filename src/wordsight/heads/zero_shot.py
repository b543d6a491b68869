"""Make a head from words alone, and adapt it to a folder of photos. No labelled image is needed.

The backbone's own classes classify every photo. How frequent each class is in this folder is
estimated by expectation–maximisation (Saerens, Latinne and Decaestecker 2002, "Adjusting the
outputs of a classifier to new a priori probabilities"), and a word holds the share of its classes.
Then each word that enough photos surely show gets a head of its own, which learns from these and
from the photos that surely show something else. Both answers are blended, word by word: the more
sure photos, the more the learned head counts. The settings below were measured on images that no
reported figure uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .linear import LinearHead, softmax
from .logistic import TINY_SHARE, Directions, logit, sigmoid

# temperature of the ImageNet logits: the embedded backbones are far too unsure of themselves
SHARPNESS = 0.4
ROUNDS = 30  # of expectation and maximisation
SETTLED = 1e-4  # change of all frequencies at which the rounds end
SURE, SURELY_NOT = 0.9, 0.02  # probability of a word from which, and up to which, a head learns
LEARNINGS = 2  # the second learns from what the first made sure
FEWEST = 2  # sure photos of a word, to learn from
MOST = 0.8  # weight of a learned head at most
HALF = 10.0  # sure photos at which it has half of that
FINAL = 2.0  # factor of the blended logits, which are unsure since both answers are cautious
LOOSE = 1000.0  # inverse penalty of its weights
MOST_OTHERS = 4000  # photos of something else that it learns from
UNDECIDED = 0.05  # a photo whose words are all less probable than this shows none of them
ROW_TEMPERATURE = 0.16  # of the mean of a word's ImageNet rows, measured on labelled images
NEVER = -50.0  # logit of a class that stands for nothing the network sees
# a photo may show several words if two have at least these shares of it, not sharpened: of composed
# pairs nearly all have, of mixed photos four in ten
FIRST, SECOND = 0.1, 0.01


@dataclass(frozen=True)
class WordsHead:
    """Calibrated probabilities of words in the photos of a folder. Several words may be in one
    photo, and what they lack to 1 is "none of them".

    Attributes:
        weight: (1000, C) float32, the ImageNet head.
        bias: (1000,) float32.
        groups: for each word, the indices of its ImageNet classes.
        prior: (1000,) float32, how frequent each class is in the folder; sums to 1.
        learned_weight: (words, C) float32, of the head learned from the folder; zeros where none
            was.
        learned_bias: (words,) float32.
        trust: (words,) float32, 0–1, how much the learned head counts beside the network's classes.
    """

    weight: np.ndarray
    bias: np.ndarray
    groups: tuple[tuple[int, ...], ...]
    prior: np.ndarray
    learned_weight: np.ndarray
    learned_bias: np.ndarray
    trust: np.ndarray

    def words(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the probability of each word (n, words), 0–1, for embeddings (n, C)."""
        logits = (embeddings @ self.weight.T + self.bias) / SHARPNESS
        shares = softmax(logits + np.log(np.maximum(self.prior, TINY_SHARE)))
        own = logit(_grouped(shares, self.groups))
        learned = embeddings @ self.learned_weight.T + self.learned_bias
        return sigmoid(FINAL * ((1 - self.trust) * own + self.trust * learned))

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the probability of each class (n, classes): of each word or, for one word alone,
        of the word and of its absence.
        """
        words = self.words(embeddings)
        return np.concatenate([words, 1 - words], axis=1) if len(self.groups) == 1 else words

    def split(self, count: int) -> tuple[WordsHead, WordsHead]:
        """Return a head of the first `count` words, and one of the others."""
        parts = []
        for chosen in (slice(None, count), slice(count, None)):
            learned = self.learned_weight[chosen], self.learned_bias[chosen], self.trust[chosen]
            parts.append(
                WordsHead(self.weight, self.bias, self.groups[chosen], self.prior, *learned)
            )
        return parts[0], parts[1]

    def may_hold_several(self, embeddings: np.ndarray) -> np.ndarray:
        """Whether each photo may show more than one of the words, (n,) bool, for embeddings
        (n, C); then it is worth a look at its parts.
        """
        if len(self.groups) == 1:
            return np.zeros(len(embeddings), dtype=bool)
        logits = embeddings @ self.weight.T + self.bias
        shares = softmax(logits + np.log(np.maximum(self.prior, TINY_SHARE)))
        ordered = np.sort(_grouped(shares, self.groups), axis=1)
        return (ordered[:, -1] >= FIRST) & (ordered[:, -2] >= SECOND)

    def members(self) -> np.ndarray:
        """Return which classes belong to which word, (1000, words) float32 of 0 and 1."""
        members = np.zeros((len(self.bias), len(self.groups)), np.float32)
        for word, group in enumerate(self.groups):
            members[list(group), word] = 1
        return members

    def is_stranger(self, embeddings: np.ndarray) -> np.ndarray:
        """Whether each photo shows none of the words, (n,) bool."""
        return self.words(embeddings).max(axis=1) < UNDECIDED

    def rows(self) -> LinearHead:
        """Return a head made of each word's mean ImageNet row, minus the mean of all rows, or of
        the learned row of a word that has no class: what heat maps and windows go by.
        """
        weight = np.stack(
            [self.weight[list(group)].mean(axis=0) for group in self.groups]
        ) - self.weight.mean(axis=0)
        bias = np.array([self.bias[list(group)].mean() for group in self.groups]) - self.bias.mean()
        alone = np.array([self.bias[list(group)].max() <= NEVER for group in self.groups])
        if alone.any():
            scale = FINAL * ROW_TEMPERATURE
            weight[alone] = self.learned_weight[alone] * scale
            bias[alone] = self.learned_bias[alone] * scale
            if len(self.groups) == 1:
                both = np.concatenate([weight, np.zeros_like(weight)]).astype(np.float32)
                return LinearHead(both, np.append(bias, 0).astype(np.float32), ROW_TEMPERATURE)
        if len(self.groups) == 1:
            return _one_word_rows(weight, bias)
        return LinearHead(weight.astype(np.float32), bias.astype(np.float32), ROW_TEMPERATURE)


# mean-row logit at which one word alone is as likely as not, and its temperature, in units of the
# mean row's squared length; in these, images of a word lie around 2 and strangers below 0.5
ROW_LIMIT, ROW_SLOPE = 0.6, 0.08


def _one_word_rows(weight: np.ndarray, bias: np.ndarray) -> LinearHead:
    """Return a head of two classes (the word, the catch-all) made of the word's mean row."""
    unit = float((weight**2).sum())
    half = np.array([bias[0] - ROW_LIMIT * unit, 0.0], dtype=np.float32)
    both = np.concatenate([weight, np.zeros_like(weight)]).astype(np.float32)
    return LinearHead(both, half, ROW_SLOPE * unit)


def untaught(
    weight: np.ndarray, bias: np.ndarray, groups: tuple[tuple[int, ...], ...]
) -> WordsHead:
    """Return a head that knows no folder: all classes are equally frequent.

    Args:
        weight: (1000, C) float32, the ImageNet head.
        bias: (1000,) float32.
        groups: for each word, the indices of its ImageNet classes.
    """
    words, width = len(groups), weight.shape[1]
    return WordsHead(
        weight,
        bias,
        groups,
        np.full(len(bias), 1 / len(bias), np.float32),
        np.zeros((words, width), np.float32),
        np.zeros(words, np.float32),
        np.zeros(words, np.float32),
    )


def of_learned(weight: np.ndarray, bias: np.ndarray) -> WordsHead:
    """Return a head that knows words by what was learned of them alone, whatever the network's own
    classes are; each word's probability is `sigmoid(weight @ embedding + bias)`.

    Args:
        weight: (words, C) float32.
        bias: (words,) float32.
    """
    words, width = weight.shape
    # classes of no weight, of which the words have next to nothing: none is ever likely
    own = np.append(np.full(words, NEVER, np.float32), np.float32(0))
    head = untaught(
        np.zeros((words + 1, width), np.float32), own, tuple((word,) for word in range(words))
    )
    return replace(
        head,
        learned_weight=(weight / FINAL).astype(np.float32),
        learned_bias=(bias / FINAL).astype(np.float32),
        trust=np.ones(words, np.float32),
    )


def joined(known: WordsHead, learned: WordsHead, places: Sequence[int]) -> WordsHead:
    """Return a head of words that the network's classes tell and words that were learned alone.

    Args:
        known: from `fit_words`.
        learned: from `of_learned`.
        places: where the learned words stand among all, in order.
    """
    count = len(learned.groups)
    first = len(known.bias)
    groups, rows = list(known.groups), list(range(len(known.groups)))
    for number, place in enumerate(places):
        groups.insert(place, (first + number,))
        rows.insert(place, len(known.groups) + number)
    # each learned word has a class of its own, of which no photo ever has a share
    return WordsHead(
        np.concatenate([known.weight, np.zeros((count, known.weight.shape[1]), np.float32)]),
        np.append(known.bias, np.full(count, NEVER, np.float32)),
        tuple(groups),
        np.append(known.prior, np.zeros(count, np.float32)),
        np.concatenate([known.learned_weight, learned.learned_weight])[rows],
        np.append(known.learned_bias, learned.learned_bias)[rows],
        np.append(known.trust, learned.trust)[rows],
    )


def fit_words(
    embeddings: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    groups: tuple[tuple[int, ...], ...],
) -> tuple[WordsHead, np.ndarray]:
    """Make a head for words, adapted to unlabelled photos.

    Args:
        embeddings: (n, C) float32 of the photos; n may be 0.
        weight: (1000, C) float32, the ImageNet head.
        bias: (1000,) float32.
        groups: for each word, the indices of its ImageNet classes.

    Returns:
        The head, and how many photos each word was learned from, (words,) int.
    """
    head, counts = untaught(weight, bias, groups), np.zeros(len(groups), dtype=int)
    if not len(embeddings):
        return head, counts
    sharp = softmax((embeddings @ weight.T + bias) / SHARPNESS)
    prior = frequencies(sharp)
    head = replace(head, prior=prior)
    own = logit(_grouped(sharp * prior, groups) / (sharp @ prior)[:, None])
    probabilities = sigmoid(own)
    space: Directions | None = None
    for _ in range(LEARNINGS):
        learned_weight, learned_bias = np.zeros_like(head.learned_weight), head.learned_bias * 0
        trust = np.zeros(len(groups), np.float32)
        for word in range(len(groups)):
            sure = np.flatnonzero(probabilities[:, word] >= SURE)
            others = np.flatnonzero(probabilities[:, word] <= SURELY_NOT)
            counts[word] = len(sure)
            if len(sure) < FEWEST or not len(others):
                continue
            space = space or Directions(embeddings)
            others = others[:: -(-len(others) // MOST_OTHERS)]  # evenly spaced
            rows = np.concatenate([sure, others])
            shown = np.arange(len(rows)) < len(sure)
            learned_weight[word], learned_bias[word] = space.fit(rows, shown, LOOSE)
            trust[word] = MOST * len(sure) / (len(sure) + HALF)
        learned = embeddings @ learned_weight.T + learned_bias
        probabilities = sigmoid((1 - trust) * own + trust * learned)
        head = replace(
            head,
            learned_weight=learned_weight,
            learned_bias=learned_bias.astype(np.float32),
            trust=trust,
        )
    counts[head.trust == 0] = 0
    return head, counts


def frequencies(shares: np.ndarray) -> np.ndarray:
    """Return how frequent each class is in a folder, (classes,) summing to 1, from each photo's
    shares (n, classes) where all are equally frequent. Each class counts one photo more than it
    has, so none is ever ruled out.
    """
    n, classes = shares.shape
    prior = np.full(classes, 1 / classes, np.float32)
    for _ in range(ROUNDS):
        expected = prior * (shares.T @ (1 / (shares @ prior)))
        updated = (expected + 1) / (n + classes)
        change = np.abs(updated - prior).sum()
        prior = updated.astype(np.float32)
        if change < SETTLED:
            break
    return prior


def _grouped(shares: np.ndarray, groups: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return the sum over each word's classes, (n, words)."""
    return np.stack([shares[:, list(group)].sum(axis=1) for group in groups], axis=1)
