"""What a text–image model's cosines say of a folder's photos, as calibrated probabilities, and what
the embedded network learns from the sure ones. No labelled image is needed.

A cosine has no zero: that of a phrase with photos that don't show it depends on the phrase and on
the photo. Both are taken off by what is beside them: rivals, a few hundred other phrases, and the
folder's own photos, few of which show any one phrase. What is left is normal, around 0 where the
phrase isn't shown and around one distance where it is; the distance and the frequency of each
phrase are estimated by expectation–maximisation, as `zero_shot` estimates frequencies. Then each
word gets a head on the embedded network's embeddings, which learns from the surely right and surely
wrong photos. Both views see different things, so that their evidence adds up (Blum and Mitchell
1998, "Combining labeled and unlabeled data with co-training"): the head's logits are calibrated,
held out, by the likelihood of the cosines. Such models also miss a share of what is shown, which is
estimated with them; of these photos the head alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..heads.linear import softmax
from ..heads.logistic import Directions, logit, sigmoid
from ..heads.zero_shot import FEWEST, LOOSE, MOST_OTHERS, SURE, SURELY_NOT, frequencies

ROUNDS = 15  # of expectation and maximisation
NEAREST, FARTHEST = 1.5, 8.0  # distances that a shown phrase may have, in deviations
SETTLED = 1e-3
LIKE = 0.5  # of that distance, at which lie photos of what no rival names and is like a word
USUAL = 2.0  # deviations of rivals' medians within which a phrase's own is taken for its zero
LOW = 0.16  # quantile that lies one deviation below the middle of a normal distribution
MAD = 1.4826  # times the median absolute deviation: a normal distribution's deviation
LEARNINGS = 2  # the second learns from what both views made sure
FOLDS = 4
SMOOTH = 0.5  # photos added to those that show a word, and to those that don't, for its scale
SCALE, STIFF = 1.0, 1.0  # of a head's logits before photos say otherwise, and how firmly
STEEPEST = 3.0
MISSED, FIRM = 0.1, 10.0  # share of shown photos that such a model misses, and how firmly
TRUSTED = 8.0  # log likelihood ratio of a cosine at most: such models err, too


@dataclass(frozen=True)
class Evidence:
    """What cosines say of n photos and some words.

    Attributes:
        ratios: (n, words) log likelihood ratios that the photo shows the word.
        logits: (n, words) calibrated log odds of the same, frequencies and rivals taken in.
        distance: of shown phrases from others, in deviations; how telling the model is here.
    """

    ratios: np.ndarray
    logits: np.ndarray
    distance: float

    def of(self, words: list[int]) -> Evidence:
        """Return what is said of some of the words."""
        return Evidence(self.ratios[:, words], self.logits[:, words], self.distance)


@dataclass(frozen=True)
class LearnedWords:
    """What both views say.

    Attributes:
        weight: (words, C) float32, of heads for photos that the text–image model did not see; zeros
            for a word of which nothing is sure.
        bias: (words,) float32; a word's probability is `sigmoid(weight @ embedding + bias)`.
        probabilities: (n, words) of the photos it did see, from both views.
        counts: (words,) int, photos that each word was learned from.
    """

    weight: np.ndarray
    bias: np.ndarray
    probabilities: np.ndarray
    counts: np.ndarray


def weigh(words: np.ndarray, rivals: np.ndarray) -> Evidence:
    """Return what cosines say.

    Args:
        words: (n, words) cosines of photos with the words.
        rivals: (n, rivals) cosines with what stands beside them.
    """
    count = words.shape[1]
    places = _standard(np.concatenate([words, rivals], axis=1).astype(np.float64), count)
    distance = 3.0
    for _ in range(ROUNDS):
        shown = _shares(places, distance)
        found = float(np.clip((shown * places).sum() / shown.sum(), NEAREST, FARTHEST))
        settled, distance = abs(found - distance) < SETTLED, found
        if settled:
            break
    shown = _shares(places, distance, count)
    logits = logit(shown[:, :count])
    frequency = logit(shown[:, :count].mean(axis=0))
    return Evidence(np.clip(logits - frequency, -TRUSTED, TRUSTED), logits, distance)


def _shares(places: np.ndarray, distance: float, alike: int = 0) -> np.ndarray:
    """Return the probability that each photo shows each phrase, (n, phrases), as frequent as each
    is in the folder; the rest shows none of them, or what is like one of the first `alike`.
    """
    part = LIKE * distance
    ratios = [
        distance * places - distance**2 / 2,
        part * places[:, :alike] - part**2 / 2,
        np.zeros((len(places), 1)),
    ]
    shares = softmax(np.concatenate(ratios, axis=1))
    shares *= frequencies(shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares[:, : places.shape[1]]


def _standard(cosines: np.ndarray, count: int) -> np.ndarray:
    """Return cosines in deviations from where they lie for photos that don't show the phrase.

    Args:
        cosines: (n, words + rivals).
        count: how many of the columns are words.
    """
    rest = cosines - np.median(cosines[:, count:], axis=1, keepdims=True)
    # photos that show a phrase lie above its zero, so that zero and spread come from below
    middle, low = np.median(rest, axis=0), np.quantile(rest, LOW, axis=0)
    spread = np.minimum(middle - low, MAD * np.median(np.abs(rest - middle), axis=0))
    spread = np.minimum(spread, np.median(spread[count:]))
    usual = np.median(middle[count:])
    around = MAD * np.median(np.abs(middle[count:] - usual))
    # a phrase that most photos of a folder show must not become its own zero
    zero = np.minimum(np.minimum(middle, low + spread), usual + USUAL * around)
    return (rest - zero) / np.maximum(spread, 1e-6)


def learn_words(
    embeddings: np.ndarray, evidence: Evidence, weights: np.ndarray | None = None
) -> LearnedWords:
    """Teach the embedded network what cosines make sure, and combine both.

    Args:
        embeddings: (n, C) float32 of the photos that the text–image model saw.
        evidence: what it says of them.
        weights: (n,) how many photos of the folder each stands for, on average 1.
    """
    n, words = evidence.ratios.shape
    weights = np.ones(n) if weights is None else weights
    space = Directions(embeddings)
    fold = np.random.default_rng(0).permutation(n) % FOLDS
    weight = np.zeros((words, embeddings.shape[1]), np.float32)
    bias = np.full(words, -50, np.float32)
    probabilities = sigmoid(evidence.logits)
    counts = np.zeros(words, int)
    for word in range(words):
        for _ in range(LEARNINGS):
            rows, shown = _sure(probabilities[:, word])
            if shown.sum() < FEWEST or shown.all():
                break
            logits = np.full(n, np.nan)
            for one in range(FOLDS):
                rest = fold[rows] != one
                if 0 < shown[rest].sum() < rest.sum():
                    fitted, offset = space.fit(rows[rest], shown[rest], LOOSE)
                    logits[fold == one] = embeddings[fold == one] @ fitted + offset
            if np.isnan(logits).any():  # too few to hold some out
                break
            ratios = evidence.ratios[:, word]
            scale, shift, missed = _calibrated(logits, ratios, weights)
            told = _unless_missed(ratios, missed)
            probabilities[:, word] = sigmoid(told + scale * logits + shift)
            rows, shown = _sure(probabilities[:, word])
            if shown.sum() < FEWEST or shown.all():
                weight[word], bias[word], counts[word] = 0, -50, 0
                break
            fitted, offset = space.fit(rows, shown, LOOSE)
            weight[word], bias[word] = scale * fitted, scale * offset + shift
            counts[word] = int(shown.sum())
    return LearnedWords(weight, bias, probabilities, counts)


def _sure(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that are surely right or wrong, and which of them are right."""
    sure = np.flatnonzero(probabilities >= SURE)
    others = np.flatnonzero(probabilities <= SURELY_NOT)
    others = others[:: max(1, -(-len(others) // MOST_OTHERS))]
    return np.concatenate([sure, others]), np.arange(len(sure) + len(others)) < len(sure)


def _calibrated(
    logits: np.ndarray, ratios: np.ndarray, weights: np.ndarray
) -> tuple[float, float, float]:
    """Return scale and shift that make a head's held-out logits log odds, and the share of photos
    that show the word but whose cosine doesn't tell.

    By the likelihood of the other view's ratios: expectation of who shows the word, and
    maximisation of Platt's scaling and of that share.
    """
    scale, shift, missed = SCALE, 0.0, MISSED
    for _ in range(ROUNDS):
        told = _unless_missed(ratios, missed)
        chance = sigmoid(told + scale * logits + shift)
        shown = float((weights * chance).sum())
        hidden = float(weights.sum()) - shown
        targets = chance * (shown + SMOOTH) / (shown + 2 * SMOOTH)
        targets += (1 - chance) * SMOOTH / (hidden + 2 * SMOOTH)
        untold = float((weights * chance * missed * np.exp(-told)).sum())
        lost = (untold + MISSED * FIRM) / (shown + FIRM)
        found = _platt(logits, targets, weights, scale, shift)
        found = float(np.clip(found[0], 0.05, STEEPEST)), found[1]
        settled = abs(found[0] - scale) + abs(found[1] - shift) + abs(lost - missed) < SETTLED
        (scale, shift), missed = found, lost
        if settled:
            break
    return scale, shift, missed


def _unless_missed(ratios: np.ndarray, missed: float) -> np.ndarray:
    """Return log likelihood ratios where a share of what is shown has the cosines of what isn't."""
    return np.logaddexp(np.log1p(-missed) + ratios, np.log(missed))


def _platt(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, scale: float, shift: float
) -> tuple[float, float]:
    """Return scale and shift of logistic regression on soft targets, by Newton's method with step
    halving, from where it stands.
    """

    def loss(a: float, b: float) -> float:
        z = a * logits + b
        fit = float((weights * (np.logaddexp(0, z) - targets * z)).sum())
        return fit + STIFF * (a - SCALE) ** 2 / 2 + 1e-3 * b * b / 2

    found, least = np.array([scale, shift]), loss(scale, shift)
    for _ in range(20):
        chance = sigmoid(found[0] * logits + found[1])
        off, steep = weights * (chance - targets), weights * chance * (1 - chance)
        gradient = np.array(
            [(off * logits).sum() + STIFF * (found[0] - SCALE), off.sum() + 1e-3 * found[1]]
        )
        mixed = (steep * logits).sum()
        curvature = np.array(
            [[(steep * logits**2).sum() + STIFF, mixed], [mixed, steep.sum() + 1e-3]]
        )
        step = np.linalg.solve(curvature, gradient)
        for length in (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 0):
            tried = loss(*(found - length * step))
            if tried <= least:
                break
        gained, found, least = least - tried, found - length * step, tried
        if gained < 1e-4:
            break
    return float(found[0]), float(found[1])
