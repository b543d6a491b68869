"""A promised precision instead of a threshold: the probability from which labels are right often
enough, and how sure that is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidArgument

CONFIDENCE = 0.95
START = 1 / 3  # share of the held-out images at which the search begins


@dataclass(frozen=True)
class HeldOut:
    """A model's predictions for labelled images that it had not learned from.

    Attributes:
        file_names: (n,) names of the images.
        labels: (n,) their true classes.
        top_labels: (n,) the likeliest class of each.
        probabilities: (n,) float32, calibrated probability of that class.
        strangers: (n,) bool, whether the model took it for a stranger, which gets no label.
        events: (n,) int, images of one number show one scene; None: each its own.
    """

    file_names: list[str]
    labels: list[str]
    top_labels: list[str]
    probabilities: np.ndarray
    strangers: np.ndarray
    events: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Whether the likeliest class is the true one, (n,) bool."""
        return np.array(
            [said == truth for said, truth in zip(self.top_labels, self.labels, strict=True)],
            dtype=bool,
        )

    def one_an_event(self) -> HeldOut:
        """Return one image of each event, drawn at random, but always the same one: images of an
        event are right or wrong together, so each event is one observation.
        """
        if self.events is None or len(np.unique(self.events)) == len(self.events):
            return self
        drawn = np.random.default_rng(0).permutation(len(self.events))
        rows = np.sort(drawn[np.unique(self.events[drawn], return_index=True)[1]])
        names, labels, said = (
            [column[row] for row in rows]
            for column in (self.file_names, self.labels, self.top_labels)
        )
        return HeldOut(names, labels, said, self.probabilities[rows], self.strangers[rows])


@dataclass(frozen=True)
class PrecisionGuarantee:
    """A threshold at which labels are right at least as often as promised.

    Attributes:
        precision: promised selective accuracy, 0–1.
        confidence: how sure the promise is, over draws of the held-out images, 0–1.
        threshold: probability from which a label is given, or None if the images can't support
            the promise.
        held_out: number of images it rests on.
        accepted: how many of them reach the threshold.
        wrong: how many of the accepted are wrong.
        needed: without a threshold, about how many labelled images in all would do, more than
            `held_out`; None if more would not help.
        events: whether photos of one event counted as one: one of them, drawn at random.
    """

    precision: float
    confidence: float
    threshold: float | None
    held_out: int
    accepted: int
    wrong: int
    needed: int | None
    events: bool = False

    def sentence(self) -> str:
        """Return in words what is promised and on what it rests, or why nothing can be promised."""
        aim = f"{self.precision:g} at {self.confidence:.0%} confidence"
        if self.threshold is not None:
            return (
                f"At least {100 * self.precision:.4g}% of labels from a probability of "
                f"{self.threshold:.4f} on will be right ({self.confidence:.0%} confidence). "
                f"Checked on {self.held_out} held-out {self._unit}: {self.accepted} labelled, "
                f"{self.wrong} wrong."
            )
        least = critical_sizes(1 - self.precision, 1, self.confidence)[0]
        why = (
            f"The {self.held_out} held-out {self._unit} cannot support a precision of {aim} (it "
            f"takes {least} accepted without an error), so no label is given."
        )
        if self.needed is None or self.needed <= self.held_out:  # as wordsight 0.1 noted some
            return (
                f"{why} More pictures of this kind would not help: even the surest are too "
                "often wrong. Promise less, look for wrong labels with 'wordsight clean', or try "
                "--recipe finetune."
            )
        return (
            f"{why} About {self.needed - self.held_out} more labelled {self._unit} of this kind "
            "would do; or promise less."
        )

    @property
    def _unit(self) -> str:
        return "events, of each of which one picture counts," if self.events else "pictures"


def check_precision(precision: float) -> float:
    """Return the precision if it can be promised.

    Raises:
        InvalidArgument: if it is not inside 0.5–0.9999.
    """
    if not 0.5 <= precision <= 0.9999:
        raise InvalidArgument(
            f"The precision must lie between 0.5 and 0.9999, got {precision:g}. 0.99 means: of "
            "100 labels, 99 are right."
        )
    return float(precision)


def keep_promise(
    held_out: HeldOut, precision: float, confidence: float = CONFIDENCE
) -> PrecisionGuarantee:
    """Choose the lowest threshold at which labels are right in at least `precision` of cases, at
    `confidence`.

    The search starts with the surest third of the images and accepts more and more. It tests each
    number at which one more error becomes allowed, and after the last of these every number, by the
    exact binomial bound (Clopper and Pearson 1934). It stops at the first failure; the last number
    that held counts. Tests in an order fixed beforehand that stop at the first failure keep the
    level of a single test (Angelopoulos et al. 2021, "Learn then test", fixed-sequence testing), so
    many tests cost nothing. Of images of one event, one counts.

    Args:
        held_out: images the model had not learned from, drawn like the ones to come.
        precision: wanted selective accuracy, 0.5–0.9999.
        confidence: of the promise, 0–1.
    """
    every, held_out = len(held_out.labels), held_out.one_an_event()
    grouped = len(held_out.labels) < every
    score = np.where(held_out.strangers, -1.0, held_out.probabilities.astype(np.float64))
    order = np.argsort(-score, kind="stable")
    score, errors = score[order], np.cumsum(~held_out.right[order])
    able = int((score >= 0).sum())  # strangers get no label
    risk = 1 - check_precision(precision)
    sizes = critical_sizes(risk, able, confidence)
    first = max((i for i, size in enumerate(sizes) if size <= START * len(score)), default=0)
    kept = None
    for size in [*sizes[first:], *range(sizes[-1] + 1, able + 1)] if sizes[0] <= able else []:
        # images of the same probability go together
        size = int(np.searchsorted(-score, -score[size - 1], side="right"))
        if binomial_tail(int(errors[size - 1]), size, risk) > 1 - confidence:
            break
        kept = size
    if kept is None:
        return PrecisionGuarantee(
            precision,
            confidence,
            None,
            len(score),
            0,
            0,
            _needed(score[:able], errors[:able], len(score), risk, confidence),
            grouped,
        )
    wrong, threshold = int(errors[kept - 1]), float(score[kept - 1])
    return PrecisionGuarantee(
        precision, confidence, threshold, len(score), kept, wrong, None, grouped
    )


def critical_sizes(risk: float, at_most: int, confidence: float = CONFIDENCE) -> list[int]:
    """Return the least number of images that shows a risk below `risk`, for 0, 1, 2, … errors. The
    list ends before the first number beyond `at_most`, but is never empty.
    """
    sizes: list[int] = []
    size = 0
    while not sizes or sizes[-1] <= at_most:
        errors, low = len(sizes), size + 1
        high = 2 * low
        while binomial_tail(errors, high, risk) > 1 - confidence:
            high *= 2
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle)
                if binomial_tail(errors, middle, risk) <= 1 - confidence
                else (middle + 1, high)
            )
        size = low
        sizes.append(size)
    return sizes if len(sizes) == 1 else sizes[:-1]


def binomial_tail(errors: int, n: int, risk: float) -> float:
    """Return the probability of at most `errors` errors among `n` images, each wrong with
    probability `risk`.
    """
    if errors >= n:
        return 1.0
    k = np.arange(errors + 1)
    choose = math.lgamma(n + 1) - np.array([math.lgamma(i + 1) + math.lgamma(n - i + 1) for i in k])
    logs = choose + k * math.log(risk) + (n - k) * math.log1p(-risk)
    return float(np.exp(logs - logs.max()).sum() * np.exp(logs.max()))


def _needed(
    score: np.ndarray, errors: np.ndarray, held_out: int, risk: float, confidence: float
) -> int | None:
    """Return about how many images would support the promise if more of them fared as these did,
    or None if no number would.

    The search begins with the surest third of the images, or with as many as it takes without an
    error. What a smaller share of them would support does not count. Images of the same
    probability go together.

    Args:
        score: (n,) probabilities of the images that are no strangers, falling.
        errors: (n,) how many of the surest 1 … n are wrong.
        held_out: number of images, strangers included.
        risk: share of errors allowed, 0–1.
        confidence: of the promise, 0–1.
    """
    if not len(errors):
        return None
    least = critical_sizes(risk, 1, confidence)[0]
    first = min(max(10, math.ceil(START * held_out)), len(errors))
    last = min(max(first, least), len(errors))
    best = None
    for size in sorted({int(size) for size in np.geomspace(first, last, 60)}):
        accepted = int(np.searchsorted(-score, -score[size - 1], side="right"))
        wrong = int(errors[accepted - 1])
        if wrong and wrong / accepted >= 0.8 * risk:
            continue
        size = least
        while binomial_tail(math.ceil(wrong * size / accepted), size, risk) > 1 - confidence:
            size = math.ceil(size * 1.1)
        total = math.ceil(size * held_out / accepted)
        if total > held_out:
            best = total if best is None or total < best else best
    return best
