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

from dataclasses import dataclass, replace

import numpy as np

from .linear import LinearHead, softmax

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
DIRECTIONS = 128  # of the embeddings, that a learned head knows
LOOSE = 1000.0  # inverse penalty of its weights
MOST_OTHERS = 4000  # photos of something else that it learns from
UNDECIDED = 0.05  # a photo whose words are all less probable than this shows none of them
ROW_TEMPERATURE = 0.16  # of the mean of a word's ImageNet rows, measured on labelled images
TINY_SHARE = 1e-6  # of probability; less is not told from none
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
        own = _logit(_grouped(shares, self.groups))
        learned = embeddings @ self.learned_weight.T + self.learned_bias
        return _sigmoid(FINAL * ((1 - self.trust) * own + self.trust * learned))

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the probability of each class (n, classes): of each word or, for one word alone,
        of the word and of its absence.
        """
        words = self.words(embeddings)
        return np.concatenate([words, 1 - words], axis=1) if len(self.groups) == 1 else words

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
        """Return a head made of each word's mean ImageNet row, minus the mean of all rows: what
        heat maps and windows go by.
        """
        weight = np.stack(
            [self.weight[list(group)].mean(axis=0) for group in self.groups]
        ) - self.weight.mean(axis=0)
        bias = np.array([self.bias[list(group)].mean() for group in self.groups]) - self.bias.mean()
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
    prior = _frequencies(sharp)
    head = replace(head, prior=prior)
    own = _logit(_grouped(sharp * prior, groups) / (sharp @ prior)[:, None])
    probabilities = _sigmoid(own)
    space: _Space | None = None
    for _ in range(LEARNINGS):
        learned_weight, learned_bias = np.zeros_like(head.learned_weight), head.learned_bias * 0
        trust = np.zeros(len(groups), np.float32)
        for word in range(len(groups)):
            sure = np.flatnonzero(probabilities[:, word] >= SURE)
            others = np.flatnonzero(probabilities[:, word] <= SURELY_NOT)
            counts[word] = len(sure)
            if len(sure) < FEWEST or not len(others):
                continue
            space = space or _Space(embeddings)
            others = others[:: -(-len(others) // MOST_OTHERS)]  # evenly spaced
            rows = np.concatenate([sure, others])
            learned_weight[word], learned_bias[word] = space.learn(rows, len(sure))
            trust[word] = MOST * len(sure) / (len(sure) + HALF)
        learned = embeddings @ learned_weight.T + learned_bias
        probabilities = _sigmoid((1 - trust) * own + trust * learned)
        head = replace(
            head,
            learned_weight=learned_weight,
            learned_bias=learned_bias.astype(np.float32),
            trust=trust,
        )
    counts[head.trust == 0] = 0
    return head, counts


def _frequencies(shares: np.ndarray) -> np.ndarray:
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


class _Space:
    """The directions in which the photos of a folder differ most, each dimension scaled alike."""

    def __init__(self, embeddings: np.ndarray) -> None:
        width = embeddings.shape[1]
        self._mean = embeddings.mean(axis=0)
        self._scale = (embeddings.std(axis=0) + 1e-3) * np.sqrt(width)
        scaled = (embeddings - self._mean) / self._scale
        n = len(scaled)
        gram = scaled @ scaled.T if n < width else scaled.T @ scaled  # the smaller of the two
        values, vectors = np.linalg.eigh(gram)
        kept = np.flatnonzero(values > max(values[-1], 0) * 1e-9)[-DIRECTIONS:]
        self._columns = (
            scaled.T @ (vectors[:, kept] / np.sqrt(values[kept])) if n < width else vectors[:, kept]
        ).astype(np.float32)  # (C, r)
        self._places = (scaled @ self._columns).astype(np.float64)  # (n, r)

    def learn(self, rows: np.ndarray, sure: int) -> tuple[np.ndarray, float]:
        """Return weight (C,) and bias of a logistic regression, for plain embeddings.

        Args:
            rows: indices of photos: those that show a word, then those that don't.
            sure: how many show it.
        """
        found = _logistic(self._places[rows], sure)
        weight = self._columns @ found[:-1] / self._scale
        return weight.astype(np.float32), float(found[-1] - weight @ self._mean)


def _logistic(x: np.ndarray, positives: int) -> np.ndarray:
    """Return weights (r,) and, last, the bias of logistic regression by Newton's method with step
    halving. The first rows of x (n, r) are positive.

    The targets are Platt's, a little inside 0 and 1, so that they stay finite where both sides are
    far apart (Platt 1999, "Probabilistic outputs for support vector machines").
    """
    n = len(x)
    targets = np.full(n, 1 / (n - positives + 2))
    targets[:positives] = (positives + 1) / (positives + 2)
    inputs = np.concatenate([x, np.ones((n, 1))], axis=1)
    penalty = np.append(np.full(x.shape[1], 1 / LOOSE), 1e-6)

    def loss(found: np.ndarray) -> float:
        z = inputs @ found
        return float((np.logaddexp(0, z) - targets * z).sum() + (penalty * found**2).sum() / 2)

    found = np.zeros(inputs.shape[1])
    found[-1] = _logit(targets.mean())
    least = loss(found)
    for _ in range(30):
        chance = _sigmoid(inputs @ found)
        gradient = inputs.T @ (chance - targets) + penalty * found
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs
        curvature[np.diag_indices(len(found))] += penalty
        step = np.linalg.solve(curvature, gradient)
        for length in (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 0):
            tried = loss(found - length * step)
            if tried <= least:
                break
        found, gained, least = found - length * step, least - tried, tried
        if gained < 1e-3:
            break
    return found


def _grouped(shares: np.ndarray, groups: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Return the sum over each word's classes, (n, words)."""
    return np.stack([shares[:, list(group)].sum(axis=1) for group in groups], axis=1)


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, TINY_SHARE, 1 - TINY_SHARE)
    return np.log(p / (1 - p))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(z, -60, 60)))
