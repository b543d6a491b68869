"""Metrics with their 95 % intervals, from arrays only. Reads no files, loads no models, draws
nothing.

Proportions get the interval of Clopper and Pearson (1934, "The use of confidence or fiducial limits
illustrated in the case of the binomial"); everything else the percentile bootstrap (Efron 1979,
"Bootstrap methods: another look at the jackknife"), 2,000 resamples, the same ones every time.
Resampling can't invent mistakes: without any, its interval has no width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
SEED = 0
BINS = 15
RISKS = (0.01, 0.05)
TAIL = 0.025  # of the chance on either side of a 95 % interval
CELLS = 1 << 17  # draws held at once: what fits the processor's cache
CURVE_POINTS = 500
# of a curve, in each resample: enough for an interval, whatever the number of images
RESAMPLED_POINTS = 4096
PRECISION = 1e-13  # relative, of the ends of exact intervals
ROUNDING = 1e-9  # so that 5 mistakes in 100 are a risk of 5 %, whatever 0.05 is in binary


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval.

    Attributes:
        value: the figure, or None where there is nothing to measure it on.
        low: lower end, None likewise.
        high: upper end, None likewise.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None

    def in_percent(self) -> list[str]:
        """Return a share and its interval as cells of a table: a dash and "" if there is none."""
        if self.value is None:
            return ["–", ""]
        return [f"{self.value:.2%}", f"({self.low:.2%}–{self.high:.2%})"]

    def to_dict(self) -> dict[str, float | None]:
        """Return the three numbers, to six digits."""
        return {
            name: None if number is None else round(number, 6)
            for name, number in vars(self).items()
        }


@dataclass(frozen=True)
class Reliability:
    """How often the model is right at each probability, in bins of equal width.

    Attributes:
        edges: (bins + 1,) probabilities, 0–1; a bin holds its upper edge, the first its lower one,
            too.
        counts: (bins,) int, images in each.
        probability: (bins,) mean probability of those; 0 where there are none.
        accuracy: for each bin, the share of them that is right.
        ece: expected calibration error, 0–1.
    """

    edges: np.ndarray
    counts: np.ndarray
    probability: np.ndarray
    accuracy: list[Estimate]
    ece: Estimate

    def to_dict(self) -> dict:
        """Return the error and every bin, ready for JSON."""
        rows = zip(
            self.edges[:-1].tolist(),
            self.edges[1:].tolist(),
            self.counts.tolist(),
            self.probability.tolist(),
            self.accuracy,
            strict=True,
        )
        bins = [
            {
                "low": round(low, 6),
                "high": round(high, 6),
                "pictures": count,
                "probability": round(mean, 6),
                "accuracy": accuracy.to_dict(),
            }
            for low, high, count, mean, accuracy in rows
        ]
        return {"ece": self.ece.to_dict(), "bins": bins}


@dataclass(frozen=True)
class RiskCoverage:
    """The share of wrong answers when only the surest are given.

    Attributes:
        confidence: (m,) distinct confidences, falling; each is a place where one could draw the
            line.
        coverage: (m,) share of images at least so sure, 0–1, rising.
        risk: (m,) share of those that is wrong, 0–1.
        aurc: area under the curve, 0–1; lower is better.
        coverage_at: risk -> the largest coverage whose risk is no higher.
    """

    confidence: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray
    aurc: Estimate
    coverage_at: dict[float, Estimate]

    def to_dict(self) -> dict:
        """Return the area, the coverages and at most 500 points of the curve, ready for JSON."""
        at = {f"{risk:g}": estimate.to_dict() for risk, estimate in self.coverage_at.items()}
        curve = _points(confidence=self.confidence, coverage=self.coverage, risk=self.risk)
        return {"aurc": self.aurc.to_dict(), "coverage_at_risk": at, "curve": curve}


@dataclass(frozen=True)
class Ranking:
    """How well a score ranks wanted images before unwanted ones.

    Attributes:
        wanted: number of images that should score high.
        unwanted: number of those that should score low.
        auroc: chance that one of the first outscores one of the second, 0–1.
        average_precision: precision averaged over the recalls reached, 0–1.
        fpr_at_95_tpr: share of the unwanted that come along when 95 % of the wanted are let in,
            0–1.
        fpr: (m,) share of the unwanted let in, rising from 0 to 1; empty where there is no curve.
        tpr: (m,) share of the wanted let in with them.
    """

    wanted: int
    unwanted: int
    auroc: Estimate
    average_precision: Estimate
    fpr_at_95_tpr: Estimate
    fpr: np.ndarray
    tpr: np.ndarray

    def to_dict(self) -> dict:
        """Return the figures and at most 500 points of the curve, ready for JSON."""
        figures = {
            name: getattr(self, name).to_dict()
            for name in ("auroc", "average_precision", "fpr_at_95_tpr")
        }
        return {
            "wanted": self.wanted,
            "unwanted": self.unwanted,
            **figures,
            "curve": _points(fpr=self.fpr, tpr=self.tpr),
        }


def clopper_pearson(successes: int, total: int, tail: float = TAIL) -> tuple[float, float]:
    """Return the exact interval of a proportion, (low, high), 0–1 (Clopper and Pearson 1934).

    Args:
        successes: 0 … total.
        total: trials; of none, nothing is known: (0, 1).
        tail: chance left out at either end. 0.025 gives the 95 % interval; 0.05 makes each end a 95
            % bound of its own.

    Example:
        >>> from wordsight.metrics import clopper_pearson
        >>> round(clopper_pearson(0, 299, tail=0.05)[1], 3)  # 299 without a mistake: at most 1 %
        wrong 0.01
    """
    low = 0.0 if successes == 0 else _beta_quantile(successes, total - successes + 1, tail)
    high = 1.0 if successes == total else _beta_quantile(successes + 1, total - successes, 1 - tail)
    return low, high


def _beta_quantile(a: float, b: float, share: float) -> float:
    """Return the value below which a beta distribution has a share of its mass, by bisection."""
    low, high = 0.0, 1.0
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if _beta_below(a, b, middle) < share else (low, middle)
    return (low + high) / 2


def _beta_below(a: float, b: float, x: float) -> float:
    """Return the mass of a beta distribution below `x`: the regularised incomplete beta function,
    by its continued fraction (DLMF 8.17.22), summed by Lentz's method.
    """
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below the mean only
        return 1 - _beta_below(b, a, 1 - x)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(logarithm + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction, m = d, 0
    while True:
        m += 1
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            fraction *= c * d
        if abs(c * d - 1) < PRECISION:
            return front * fraction


def proportion(successes: int, total: int) -> Estimate:
    """Return a share and its Clopper–Pearson interval; empty where the total is 0."""
    if total == 0:
        return Estimate()
    return Estimate(successes / total, *clopper_pearson(int(successes), int(total)))


def mean(values: np.ndarray) -> Estimate:
    """Return the mean of values (n,)."""
    if not len(values):
        return Estimate()
    return _estimate(
        float(values.mean()),
        np.concatenate(
            [(counts * values).sum(axis=1) / len(values) for (counts,) in _resamples(len(values))]
        ),
    )


def confusion(truth: np.ndarray, top: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each class (row) were taken for each (column), (classes, classes)
    int.

    Args:
        truth: (n,) int, the true class.
        top: (n,) int, the likeliest class.
        classes: number of classes.
    """
    return np.bincount(truth * classes + top, minlength=classes * classes).reshape(classes, classes)


def calibration(probability: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Compare the model's probabilities with how often it is right.

    The expected calibration error is the gap between the two, averaged over bins of equal width
    weighed by their images (Naeini et al. 2015, "Obtaining well calibrated probabilities using
    Bayesian binning"; Guo et al. 2017, "On calibration of modern neural networks"). Resampling adds
    noise, which adds to the error; the average amount is subtracted from the interval.

    Args:
        probability: (n,) of the top class, 0–1; n at least 1.
        right: (n,) bool, whether that class is the true one.
        bins: number of bins.
    """
    probability = probability.astype(np.float64)
    bin_of = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    order = np.argsort(bin_of, kind="stable")
    _, starts = np.unique(bin_of[order], return_index=True)
    gap = (right.astype(np.float64) - probability)[order]
    draws = [
        np.abs(np.add.reduceat(drawn * gap, starts, axis=1)).sum(axis=1)
        for (drawn,) in _resamples(len(gap))
    ]
    value, drawn_errors = (
        np.abs(np.add.reduceat(gap, starts)).sum() / len(gap),
        np.concatenate(draws) / len(gap),
    )
    ece = _estimate(value, np.clip(drawn_errors - (drawn_errors.mean() - value), 0, 1))
    counts = np.bincount(bin_of, minlength=bins)
    hits = np.bincount(bin_of, weights=right, minlength=bins).astype(int)
    mean = np.bincount(bin_of, weights=probability, minlength=bins) / np.maximum(counts, 1)
    return Reliability(
        np.linspace(0, 1, bins + 1),
        counts,
        mean,
        [proportion(int(h), int(c)) for h, c in zip(hits, counts, strict=True)],
        ece,
    )


def risk_coverage(
    confidence: np.ndarray, wrong: np.ndarray, risks: Sequence[float] = RISKS
) -> RiskCoverage:
    """Compute the share of wrong answers as the threshold falls.

    Images of equal confidence are let in together. The area is the mean risk over the images'
    own confidences as thresholds (Geifman et al. 2019, "Bias-reduced uncertainty estimation for
    deep neural classifiers"); coverage at a risk after El-Yaniv and Wiener 2010, "On the
    foundations of noise-free selective classification".

    Args:
        confidence: (n,) larger is surer; n at least 1.
        wrong: (n,) bool, whether the answer is wrong.
        risks: for which the largest coverage is sought.
    """
    order, ends = _by_score(confidence)
    mistaken = wrong[order].astype(np.int32)
    accepted, errors = ends[None] + 1, np.cumsum(mistaken)[None, ends]
    fewer = ends[thin(len(ends), RESAMPLED_POINTS)]
    areas, coverages = [], []
    for (drawn,) in _resamples(len(order)):
        let_in, missed = _let_in(drawn, fewer + 1), _let_in(drawn * mistaken, fewer + 1)
        areas.append(_area(let_in, missed))
        coverages.append(_coverages(let_in, missed, risks))
    values = _coverages(accepted, errors, risks)[0]
    spread = np.concatenate(coverages)
    return RiskCoverage(
        confidence[order][ends],
        accepted[0] / len(order),
        errors[0] / accepted[0],
        _estimate(_area(accepted, errors)[0], np.concatenate(areas)),
        {risk: _estimate(values[i], spread[:, i]) for i, risk in enumerate(risks)},
    )


def ranking(wanted: np.ndarray, unwanted: np.ndarray) -> Ranking:
    """Measure how well scores tell two sets of images apart.

    Area under the ROC curve (Hanley and McNeil 1982), average precision and curve equal
    scikit-learn's; the false positive rate at 95 % true positives follows Liang et al. 2018,
    "Enhancing the reliability of out-of-distribution image detection". Each set is resampled by
    itself, so that neither ever runs empty. The interval of that rate is never narrower than the
    one of Clopper and Pearson for the unwanted at the line as it lies.

    Args:
        wanted: (n,) scores of what should score high.
        unwanted: (m,) scores of what should score low.
    """
    if not (len(wanted) and len(unwanted)):
        return Ranking(
            len(wanted), len(unwanted), Estimate(), Estimate(), Estimate(), np.zeros(0), np.zeros(0)
        )
    scores = np.concatenate([wanted, unwanted])
    lines = -np.unique(-scores)  # falling: where one could draw the line
    fewer = lines[thin(len(lines), RESAMPLED_POINTS)]
    counts = [_at_least(part, fewer) for part in (wanted, unwanted)]
    draws = [
        _separation(_let_in(first, counts[0]), _let_in(second, counts[1]))
        for first, second in _resamples(len(wanted), len(unwanted))
    ]
    areas, precisions, rates = np.concatenate(draws, axis=1)
    reached = [_at_least(part, lines) for part in (wanted, unwanted)]
    area, precision, rate = _separation(reached[0][None], reached[1][None])[:, 0]
    tp, fp = reached
    # points within a straight line say nothing
    bent = (np.diff(tp, 2) != 0) | (np.diff(fp, 2) != 0)
    bends = np.flatnonzero(np.r_[True, bent, True][: len(tp)])
    low, high = clopper_pearson(round(rate * len(unwanted)), len(unwanted))
    resampled = _estimate(rate, rates)
    return Ranking(
        len(wanted),
        len(unwanted),
        _estimate(area, areas),
        _estimate(precision, precisions),
        Estimate(resampled.value, min(low, resampled.low or 0.0), max(high, resampled.high or 0.0)),
        np.append(0, fp[bends]) / len(unwanted),
        np.append(0, tp[bends]) / len(wanted),
    )


def separation(wanted: np.ndarray, unwanted: np.ndarray) -> tuple[float, float]:
    """Return AUROC and average precision of scores, without their intervals.

    Args:
        wanted: (n,) scores of what should score high.
        unwanted: (m,) scores of what should not.
    """
    lines = -np.unique(-np.concatenate([wanted, unwanted]))
    area, precision, _ = _separation(
        _at_least(wanted, lines)[None], _at_least(unwanted, lines)[None]
    )[:, 0]
    return float(area), float(precision)


def thin(length: int, points: int = CURVE_POINTS) -> np.ndarray:
    """Return at most `points` indices spread evenly over 0 … length-1, both ends among them."""
    if not length:
        return np.zeros(0, dtype=int)
    return np.unique(np.linspace(0, length - 1, min(length, points)).round().astype(int))


def _points(**columns: np.ndarray) -> dict[str, list[float]]:
    """Return curves of equal length, thinned and rounded."""
    index = thin(len(next(iter(columns.values()))))
    return {
        name: np.round(column[index].astype(np.float64), 6).tolist()
        for name, column in columns.items()
    }


def _resamples(*sizes: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield, for each set of that size, how often each of its images is drawn, (rows, size)
    int32; 2,000 rows in all.
    """
    rng = np.random.default_rng(SEED)
    rows = max(1, CELLS // sum(sizes))
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        parts = []
        for size in sizes:
            # every row counts in cells of its own
            drawn = rng.integers(0, size, (count, size)) + size * np.arange(count)[:, None]
            parts.append(
                np.bincount(drawn.ravel(), minlength=count * size)
                .reshape(count, size)
                .astype(np.int32)
            )
        yield tuple(parts)


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [TAIL, 1 - TAIL])
    return Estimate(float(value), float(low), float(high))


def _by_score(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of falling scores (n,) and where in it each run of equal ones ends (m,)."""
    order = np.argsort(-scores, kind="stable")
    return order, np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)


def _at_least(scores: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Return how many scores (n,) reach each line (m,)."""
    return len(scores) - np.searchsorted(np.sort(scores), lines, side="left")


def _let_in(drawn: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return how many draws fall on each number of the best images: (rows, n), (m,)
    -> (rows, m).
    """
    return np.where(counts > 0, np.cumsum(drawn, axis=1)[:, counts - 1], 0)


def _area(accepted: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the area under each risk–coverage curve, (rows, m) -> (rows,)."""
    share = np.diff(accepted, axis=1, prepend=0) / accepted[:, -1:]
    return (share * (errors / np.maximum(accepted, 1))).sum(axis=1)


def _coverages(accepted: np.ndarray, errors: np.ndarray, risks: Sequence[float]) -> np.ndarray:
    """Return the largest coverage at each risk, (rows, m) -> (rows, risks)."""
    within = [
        np.where(errors <= risk * accepted + ROUNDING, accepted, 0).max(axis=1) for risk in risks
    ]
    return np.stack(within, axis=1) / accepted[:, -1:]


def _separation(tp: np.ndarray, fp: np.ndarray) -> np.ndarray:
    """Return AUROC, average precision and false positive rate at 95 % true positives, (rows, m)
    twice -> (3, rows).
    """
    wanted, unwanted = tp[:, -1:], fp[:, -1:]
    tp_step, fp_step = np.diff(tp, axis=1, prepend=0), np.diff(fp, axis=1, prepend=0)
    area = (fp_step * (tp - tp_step / 2)).sum(axis=1) / (wanted * unwanted)[:, 0]
    precision = (tp_step * (tp / np.maximum(tp + fp, 1))).sum(axis=1) / wanted[:, 0]
    line = (tp >= 0.95 * wanted - ROUNDING).argmax(axis=1)
    return np.stack([area, precision, fp[np.arange(len(fp)), line] / unwanted[:, 0]])
