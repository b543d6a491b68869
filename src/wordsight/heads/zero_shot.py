"""Make a head from words alone: from rows of the backbone's ImageNet head, then by self-training on
the user's own images.

No labelled image is needed. First the backbone's own 1,000 classes classify every image. The surest
of them train a new head, whose surest images train the next, for a few rounds. The settings below
were measured on images that no reported figure uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .linear import LinearHead, fit_head, fit_temperature, softmax
from .novelty import Neighbourhood, fit_neighbourhood

# temperature of the ImageNet logits: the embedded backbones are far too unsure of themselves
SHARPNESS = 0.5
MEMBER = 0.25  # share of probability that the words must hold if an image shows one of them
NOT_MEMBER = 0.05  # share below which an image may show something other than the one word
# and its mean-row logit must be below this, or a folder of only cats would be split into cats and
# odd cats
ROW_OTHER = 0.25
# part of each class's images, the surest first, that trains in each round
ROUNDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MIN_PHOTOS = 3  # a class with fewer sure images than this, or than 1 % of all, is not learned from
ROW_TEMPERATURE = 0.16  # of the mean of a word's ImageNet rows, measured on labelled images
# mean-row logit at which one word alone is as likely as not, and its temperature
ROW_LIMIT, ROW_SLOPE = 0.6, 0.08
# ROW_OTHER, ROW_LIMIT and ROW_SLOPE are in units of the mean row's squared length. In these, images
# of a word lie around 2 and strangers below 0.5.


@dataclass(frozen=True)
class Gate:
    """Recognises strangers by the share of the backbone's own probability that the words hold.

    Attributes:
        weight: (1000, C) float32, the ImageNet head.
        bias: (1000,) float32.
        groups: for each word, the indices of its ImageNet classes.
        limit: share below which an image is a stranger, 0–1.
    """

    weight: np.ndarray
    bias: np.ndarray
    groups: tuple[tuple[int, ...], ...]
    limit: float = MEMBER

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (n, words + 1) sharpened log scores of embeddings (n, C). The last column is that
        of all other ImageNet classes.
        """
        logits = (embeddings @ self.weight.T + self.bias) / SHARPNESS  # (n, 1000)
        catch_all = np.ones(len(self.bias), dtype=bool)
        catch_all[[index for group in self.groups for index in group]] = False
        parts = [logits[:, list(group)] for group in self.groups] + [logits[:, catch_all]]
        return np.stack([_log_sum_exp(part) for part in parts], axis=1)

    def is_stranger(self, embeddings: np.ndarray) -> np.ndarray:
        """Whether each image is a stranger, (n,) bool: the words hold too small a share or, for one
        word alone, another class leads.

        Several words compete with each other. One word competes only with the other classes.
        """
        stranger = self.share(embeddings) < self.limit
        return stranger | ~self.leads(embeddings) if len(self.groups) == 1 else stranger

    def share(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the share of probability (n,), 0–1, that the words hold."""
        return 1.0 - softmax(self.scores(embeddings))[:, -1]

    def leads(self, embeddings: np.ndarray) -> np.ndarray:
        """Whether the likeliest of the 1,000 classes belongs to one of the words, (n,) bool."""
        members = [index for group in self.groups for index in group]
        return np.isin((embeddings @ self.weight.T + self.bias).argmax(axis=1), members)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (words, C) and bias (words,): the mean ImageNet row of each word, minus the
        mean of all rows.
        """
        weight = np.stack(
            [self.weight[list(group)].mean(axis=0) for group in self.groups]
        ) - self.weight.mean(axis=0)
        bias = np.array([self.bias[list(group)].mean() for group in self.groups]) - self.bias.mean()
        return weight.astype(np.float32), bias.astype(np.float32)


@dataclass(frozen=True)
class WordsHead:
    """The result of self-training.

    Attributes:
        head: linear head; for one word its classes are (the word, the catch-all).
        neighbourhood: where the learned images lie, or None if there were too few to learn from.
        gate: the test for strangers.
        learned_from: how many images of each class the head was learned from; zeros if it is made
            of ImageNet rows alone.
    """

    head: LinearHead
    neighbourhood: Neighbourhood | None
    gate: Gate
    learned_from: tuple[int, ...]


def fit_words_head(embeddings: np.ndarray, gate: Gate, seed: int = 0) -> WordsHead:
    """Make a head for the gate's words, and adapt it to unlabelled images.

    If one class has too few sure images, nothing is learned, and the head made of ImageNet rows
    stays. So a folder with only dogs is not split into dogs and "cats", and eight cats among 150
    dogs are neither lost nor multiplied.

    Args:
        embeddings: (n, C) float32 of the user's images; n may be 0.
        gate: the words.
        seed: chooses the folds of the final fit.
    """
    one_word = len(gate.groups) == 1
    rows = (
        _one_word_rows(gate) if one_word else LinearHead(*gate.rows(), temperature=ROW_TEMPERATURE)
    )
    unlearned = WordsHead(rows, None, gate, (0,) * len(rows.bias))
    if not len(embeddings):
        return unlearned
    share = gate.share(embeddings)
    readings = gate.scores(embeddings)
    classes = len(rows.bias)
    witness = rows.logits(embeddings).argmax(axis=1)  # the rows' own answer, before any learning
    if one_word:
        shown = ~gate.is_stranger(embeddings)
        usable = agreed = shown | ((share <= NOT_MEMBER) & _row_far_below(gate, embeddings))
        witness = np.where(shown, 0, 1)
        # 0 where the share is MEMBER
        odds = readings[:, 0] - readings[:, 1] - np.log(MEMBER / (1 - MEMBER))
        logits = np.stack([odds, np.zeros_like(odds)], axis=1)
    else:
        usable = share >= MEMBER
        # the gate and the rows must agree
        agreed = usable & (readings[:, :-1].argmax(axis=1) == witness)
        logits = rows.logits(embeddings)
    needed = max(MIN_PHOTOS, int(np.ceil(0.01 * usable.sum())))
    for part in ROUNDS:
        predicted = logits.argmax(axis=1)
        sure = _surest(logits, predicted, agreed, part, needed, classes)
        if sure is None:
            return unlearned
        head, _ = fit_head(embeddings[sure], predicted[sure], classes, seed, fast=True)
        logits = head.logits(embeddings)
        agreed = usable
    labels = logits.argmax(axis=1)
    counts = np.bincount(labels[usable], minlength=classes)
    if counts.min() < needed:
        return unlearned
    head, report = fit_head(embeddings[usable], labels[usable], classes, seed)
    head = _soften(head, report, witness[usable])
    near = usable & (labels == 0) if one_word else usable
    neighbourhood = fit_neighbourhood(embeddings[near], labels[near], seed)
    return WordsHead(head, neighbourhood, gate, tuple(int(count) for count in counts))


def _soften(head: LinearHead, report, witness: np.ndarray) -> LinearHead:
    """Return the head with a fair temperature, although it was fitted to labels it made itself.

    Measured against its own labels, it looks surer than it is. Measured against the rows' first
    answer, which errs more often, it looks less sure. The result is the geometric mean of the two
    temperatures.
    """
    logits = np.log(np.maximum(report.probabilities, 1e-30)) * head.temperature
    doubting = fit_temperature(logits, witness[report.rows])
    return LinearHead(
        head.weight, head.bias, float(np.sqrt(head.temperature * max(doubting, head.temperature)))
    )


def _surest(
    logits, predicted, eligible, part: float, needed: int, classes: int
) -> np.ndarray | None:
    """Return a mask (n,) of the surest `part` of each class's eligible images, or None if a class
    has too few.
    """
    ordered = np.sort(logits, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    chosen = np.zeros(len(logits), dtype=bool)
    for label in range(classes):
        members = np.flatnonzero(eligible & (predicted == label))
        if len(members) < needed:
            return None
        count = max(needed, int(np.ceil(part * len(members))))
        chosen[members[np.argsort(-margin[members], kind="stable")[:count]]] = True
    return chosen


def _one_word_rows(gate: Gate) -> LinearHead:
    """Return a head of two classes (the word, the catch-all) made of the word's mean row."""
    weight, bias = gate.rows()
    zero = np.zeros_like(weight)
    unit = float((weight**2).sum())
    half = np.array([bias[0] - ROW_LIMIT * unit, 0.0], dtype=np.float32)
    return LinearHead(np.concatenate([weight, zero]), half, ROW_SLOPE * unit)


def _row_far_below(gate: Gate, embeddings: np.ndarray) -> np.ndarray:
    """Whether the mean row of the one word finds next to nothing, (n,) bool."""
    weight, bias = gate.rows()
    return embeddings @ weight[0] + bias[0] <= ROW_OTHER * float((weight**2).sum())


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    peak = values.max(axis=1)
    return peak + np.log(np.exp(values - peak[:, None]).sum(axis=1))
