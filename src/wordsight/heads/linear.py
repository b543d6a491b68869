"""Fit a linear head to embeddings: choose its method and regularisation, and calibrate it.

Everything here is linear algebra on embeddings; no image and no network is involved.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidArgument
from .rows import FEW, parts, read

SHRINKAGES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
INVERSE_PENALTIES = (0.3,)
FOLDS = 5
MAX_CV_ROWS = 6000  # regularisation is chosen on at most this many images


@dataclass(frozen=True)
class LinearHead:
    """Class logits from an embedding: `logits = embedding @ weight.T + bias`.

    Attributes:
        weight: (classes, C) float32.
        bias: (classes,) float32.
        temperature: > 0; probabilities are `softmax(logits / temperature)`.
    """

    weight: np.ndarray
    bias: np.ndarray
    temperature: float = 1.0

    def logits(self, embeddings: np.ndarray) -> np.ndarray:
        """Return logits (n, classes) for embeddings (n, C)."""
        return embeddings @ self.weight.T + self.bias  # (n, C) @ (C, classes) -> (n, classes)

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, classes), each row summing to 1, for embeddings
        (n, C).
        """
        return self.from_logits(self.logits(embeddings))

    def from_logits(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities (n, classes) for logits (n, classes)."""
        return softmax(logits / self.temperature)


@dataclass(frozen=True)
class FitReport:
    """How a head was chosen, and how good it was on images it had not seen (out of fold).

    Attributes:
        method: "lda" or "logistic".
        regularisation: shrinkage (lda) or inverse penalty (logistic).
        accuracy: out-of-fold accuracy of the class with the highest probability, 0–1.
        log_loss: out-of-fold log loss after temperature scaling, in nats.
        probabilities: (n, classes) out-of-fold calibrated probabilities of the rows used.
        rows: (n,) indices of those rows.
        candidates: (method, regularisation, accuracy, log loss) of each one tried.
    """

    method: str
    regularisation: float
    accuracy: float
    log_loss: float
    probabilities: np.ndarray
    rows: np.ndarray
    candidates: list[tuple[str, float, float, float]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return softmax over the last axis, stable for large logits."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def normalize(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, C) scaled to unit length; a zero row stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def power_normalize(rows: np.ndarray) -> np.ndarray:
    """Return the signed square roots of rows (n, C), scaled to unit length, so that a few strong
    channels don't decide alone how alike two embeddings are (Perronnin et al. 2010, "Improving the
    Fisher kernel for large-scale image classification").
    """
    size = np.abs(rows)
    length = np.sqrt(size.sum(axis=1, keepdims=True))
    np.sqrt(size, out=size)
    size /= np.maximum(length, 1e-12)
    return np.copysign(size, rows, out=size)


def nearest_mean(similarities: np.ndarray, k: int) -> np.ndarray:
    """Return the mean (n,) of the k largest entries of each row of (n, m)."""
    k = min(k, similarities.shape[1])
    return np.partition(similarities, -k, axis=1)[:, -k:].mean(axis=1)


def fit_head(
    embeddings: np.ndarray,
    labels: np.ndarray,
    classes: int,
    seed: int = 0,
    fast: bool = False,
    together: np.ndarray | None = None,
) -> tuple[LinearHead, FitReport | None]:
    """Fit a linear head whose method and regularisation are chosen by cross-validation.

    Candidates are linear discriminant analysis with a shrunk covariance (strongest with few images)
    and multinomial logistic regression (strongest with many, or if the classes are far apart). The
    lowest out-of-fold log loss after temperature scaling wins. All classes weigh the same, however
    many images they have. Heads are fitted in the basis of the embeddings' singular vectors, which
    gives the same head at less cost.

    Args:
        embeddings: (n, C) float32.
        labels: (n,) int, in 0 … classes-1, each occurring at least twice.
        classes: number of classes, at least 2.
        seed: decides the folds.
        fast: whether to use discriminant analysis at a medium shrinkage, neither cross-validated
            nor calibrated.
        together: (n,) int: images of one number are held out together, and every class is the
            commonest label of two numbers or more; None: each image by itself.

    Returns:
        The head and its report; no report if `fast`.

    Raises:
        InvalidArgument: if there are fewer than two classes, or a class has fewer than two images.
    """
    counts = np.bincount(labels, minlength=classes)
    if classes < 2 or counts.min() < 2:
        raise InvalidArgument(
            "A head needs at least 2 classes of at least 2 pictures each, got counts "
            f"{counts.tolist()}."
        )
    basis, reduced = _reduce(embeddings)
    width = embeddings.shape[1]
    if fast:
        weight, bias = _fit_lda(_within_scatter(reduced, labels, classes), 0.8, width)
        return basis.head(weight, bias), None
    rows = _cv_rows(labels, classes, seed, together)
    space = _Space(width, (reduced**2).sum(axis=0))
    out_of_fold = _cross_validate(
        reduced[rows],
        labels[rows],
        classes,
        space,
        _folds(labels[rows], seed, None if together is None else together[rows]),
    )
    scored = {}
    for candidate, logits in out_of_fold.items():
        temperature = fit_temperature(logits, labels[rows])
        accuracy = float((logits.argmax(axis=1) == labels[rows]).mean())
        scored[candidate] = (log_loss(logits / temperature, labels[rows]), temperature, accuracy)
    best = min(scored, key=lambda candidate: scored[candidate][0])
    loss, temperature, accuracy = scored[best]
    weight, bias = _fit(best, reduced, labels, classes, space)
    head = basis.head(weight, bias, temperature)
    probabilities = softmax(out_of_fold[best] / temperature)
    tried = [
        (*candidate, round(score[2], 6), round(score[0], 6)) for candidate, score in scored.items()
    ]
    return head, FitReport(*best, accuracy, loss, probabilities.astype(np.float32), rows, tried)


def _reduce(embeddings: np.ndarray) -> tuple[_Basis, np.ndarray]:
    """Return a basis for embeddings (n, C), and the embeddings in it, (n, r) float32."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    columns = _spanning_columns(embeddings - mean)  # (C, r)
    reduced = (embeddings - mean) @ columns  # (n, r)
    scale = float(np.sqrt(reduced.var(axis=0).sum() / embeddings.shape[1])) or 1.0
    return _Basis(mean, columns, scale), (reduced / scale).astype(np.float32)


def _cv_rows(
    labels: np.ndarray, classes: int, seed: int, together: np.ndarray | None
) -> np.ndarray:
    """Return the rows to choose regularisation on: about `MAX_CV_ROWS` at random, those of one
    number `together` all or none, or all rows if a class would own fewer than two numbers.
    """
    every = np.arange(len(labels))
    if len(every) <= MAX_CV_ROWS:
        return every
    numbers, unit = (every, every) if together is None else np.unique(together, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(numbers))
    sizes = np.bincount(unit, minlength=len(numbers))[drawn]
    kept = drawn[: int(np.searchsorted(np.cumsum(sizes), MAX_CV_ROWS, side="left")) + 1]
    rows = np.flatnonzero(np.isin(unit, kept))
    owned = np.bincount([*owners(labels[rows], unit[rows]).values()], minlength=classes)
    return rows if owned.min() >= 2 else every


def second_opinion(
    embeddings: np.ndarray, labels: np.ndarray, classes: int, seed: int = 0
) -> np.ndarray:
    """Return out-of-fold probabilities (n, classes) of heads that were fitted without doubtful
    labels.

    Two rounds of discriminant analysis in folds: images that the first round would label otherwise
    are left out when the second is fitted (after Northcutt et al. 2021, "Confident learning", but
    leaving out all that are doubtful).

    Args:
        embeddings: (n, C) float32.
        labels: (n,) int, in 0 … classes-1, some of them wrong.
        classes: number of classes.
        seed: decides the folds.
    """
    doubtful = np.zeros(len(labels), dtype=bool)
    for _ in range(2):
        logits = np.zeros((len(labels), classes))
        for train, held_out in _folds(labels, seed):
            taught = train[~doubtful[train]]
            if np.bincount(labels[taught], minlength=classes).min() < 2:
                taught = train  # nearly all of a class is doubtful
            taught = _some_of_each(taught, labels, classes, seed)
            head, _ = fit_head(read(embeddings, taught), labels[taught], classes, seed, fast=True)
            for part in parts(held_out):
                logits[part] = head.logits(read(embeddings, part))
        sure = ~doubtful if (~doubtful).any() else np.ones(len(labels), dtype=bool)
        probabilities = softmax(logits / fit_temperature(logits[sure], labels[sure]))
        doubtful = logits.argmax(axis=1) != labels
    return probabilities


def _some_of_each(rows: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Return the rows to learn from: all, or of more than `FEW` equally many of each class."""
    if len(rows) <= FEW:
        return rows
    drawn = np.random.default_rng(seed).permutation(rows)
    most = max(2, FEW // classes)
    return np.sort(
        np.concatenate([drawn[labels[drawn] == label][:most] for label in range(classes)])
    )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that minimises the log loss of held-out logits (Guo et al. 2017).

    A weak prior towards 1, worth one image, keeps the head from becoming infinitely sure if a
    handful of images has no mistake.
    """
    # bounds of log(temperature); golden-section search on a unimodal function
    low, high = -6.0, 6.0
    ratio = (np.sqrt(5) - 1) / 2

    def objective(log_temperature: float) -> float:
        return log_loss(logits / np.exp(log_temperature), labels) + log_temperature**2 / len(labels)

    for _ in range(40):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if objective(a) < objective(b):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean log loss in nats, in which every class weighs the same."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    counts = np.bincount(labels)
    return float((losses / counts[labels]).sum() / (counts > 0).sum())


def _spanning_columns(centered: np.ndarray) -> np.ndarray:
    """Return orthonormal columns (C, r) that span the rows of (n, C)."""
    n, width = centered.shape
    gram = centered @ centered.T if n < width else centered.T @ centered  # the smaller of the two
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(values[-1], 0.0) * 1e-10
    if not keep.any():
        return np.eye(width)[:, :1]
    return (
        centered.T @ (vectors[:, keep] / np.sqrt(values[keep])) if n < width else vectors[:, keep]
    )


def owners(labels: np.ndarray, together: np.ndarray) -> dict[int, int]:
    """Return the commonest of the labels (n,) of each number `together`, (n,) int."""
    pairs, counts = np.unique(np.stack([together, labels], axis=1), axis=0, return_counts=True)
    commonest_last = pairs[np.lexsort((-pairs[:, 1], counts))]
    return dict(sorted(dict(commonest_last.tolist()).items()))


def _folds(
    labels: np.ndarray, seed: int, together: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, held-out) indices of stratified folds. Images of one number `together`, (n,)
    int, are in one fold. Every class is in the training part, if it owns two numbers.
    """
    rng = np.random.default_rng(seed)
    together = np.arange(len(labels)) if together is None else together
    owned: dict[int, list[int]] = {}
    for number, label in owners(labels, together).items():
        owned.setdefault(label, []).append(number)
    place: dict[int, int] = {}
    for _, numbers in sorted(owned.items()):
        drawn = rng.permutation(numbers)
        offset = len(place)
        place |= {number: (offset + i) % FOLDS for i, number in enumerate(drawn.tolist())}
    fold = np.array([place[number] for number in together.tolist()])
    for index in np.unique(fold):
        yield np.flatnonzero(fold != index), np.flatnonzero(fold == index)


@dataclass(frozen=True)
class _Basis:
    """The basis in which a head is fitted: centred, rotated and scaled.

    The rotation is an isometry, so penalties mean the same as for embeddings.

    Attributes:
        mean: (C,) mean embedding.
        columns: (C, r) orthonormal columns that span the centred embeddings.
        scale: root mean square of their entries.
    """

    mean: np.ndarray
    columns: np.ndarray
    scale: float

    def head(self, weight: np.ndarray, bias: np.ndarray, temperature: float = 1.0) -> LinearHead:
        """Return a head fitted in this basis, weight (classes, r) and bias (classes,), as one that
        applies to plain embeddings.
        """
        weight = weight @ self.columns.T / self.scale  # (classes, r) @ (r, C)
        bias = bias - weight @ self.mean
        return LinearHead(weight.astype(np.float32), bias.astype(np.float32), float(temperature))


Candidate = tuple[str, float]


@dataclass(frozen=True)
class _Space:
    """What a fit must know of the basis of its rows.

    Attributes:
        width: C, the length of an embedding.
        power: (r,) sum of squares of each column over all rows; the columns are orthogonal.
    """

    width: int
    power: np.ndarray


def _cross_validate(
    x: np.ndarray,
    y: np.ndarray,
    classes: int,
    space: _Space,
    folds: Iterator[tuple[np.ndarray, np.ndarray]],
) -> dict[Candidate, np.ndarray]:
    """Return out-of-fold logits (n, classes) of every candidate."""
    candidates = [("lda", s) for s in SHRINKAGES] + [("logistic", c) for c in INVERSE_PENALTIES]
    out = {candidate: np.zeros((len(y), classes)) for candidate in candidates}
    for train, held_out in folds:
        within = _within_scatter(x[train], y[train], classes)
        for candidate in candidates:
            weight, bias = _fit(candidate, x[train], y[train], classes, space, within)
            out[candidate][held_out] = x[held_out] @ weight.T + bias
    return out


def _fit(
    candidate: Candidate, x: np.ndarray, y: np.ndarray, classes: int, space: _Space, within=None
):
    method, strength = candidate
    if method == "logistic":
        return _fit_logistic(x, y, classes, strength, space.power)
    within = within or _within_scatter(x, y, classes)
    return _fit_lda(within, strength, space.width)


def _within_scatter(x: np.ndarray, y: np.ndarray, classes: int):
    """Return class means (classes, r) and the eigenvalues and vectors of the pooled covariance
    (r, r).
    """
    means = np.stack([x[y == c].mean(axis=0) for c in range(classes)])
    # every class weighs the same
    weights = 1.0 / np.sqrt(np.bincount(y, minlength=classes)[y] * classes)
    residuals = (x - means[y]) * weights[:, None].astype(x.dtype)
    values, vectors = np.linalg.eigh(residuals.T @ residuals)
    return means, np.maximum(values, 0.0), vectors


def _fit_lda(within, shrinkage: float, width: int):
    """Return weight and bias of linear discriminants, with the covariance shrunk towards the
    identity (Friedman 1989).
    """
    means, values, vectors = within
    spread = (1 - shrinkage) * values + shrinkage * values.sum() / width + 1e-9  # (r,)
    rotated = means @ vectors
    weight = (rotated / spread) @ vectors.T
    bias = -0.5 * (rotated**2 / spread).sum(axis=1)
    return weight - weight.mean(axis=0), bias - bias.mean()


def _fit_logistic(
    x: np.ndarray, y: np.ndarray, classes: int, inverse_penalty: float, power: np.ndarray
):
    """Return weight and bias of multinomial logistic regression.

    They minimise the summed log loss, each class weighing the same, plus ||W||^2 / (2 C).

    Accelerated gradient descent with restarts (O'Donoghue and Candès 2015), each direction scaled
    by Böhning's bound on the curvature (1992), which is diagonal because `x` is a part of rows in
    their own singular basis.
    """
    n, width = x.shape
    # (n, 1)
    row_weight = (n / (classes * np.bincount(y, minlength=classes)[y])[:, None]).astype(x.dtype)
    one_hot = np.eye(classes, dtype=x.dtype)[y]
    x1 = np.concatenate([x, np.ones((n, 1), x.dtype)], axis=1)  # the last column carries the bias
    penalty = np.append(np.full(width, 1.0 / inverse_penalty), 0.0)
    step = (1.0 / (0.5 * row_weight.max() * np.append(power, n) + penalty)).astype(x.dtype)
    penalty = penalty.astype(x.dtype)
    theta = previous = np.zeros((classes, width + 1), x.dtype)
    momentum = 1.0
    for _ in range(300):
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = theta + (momentum - 1) / following * (theta - previous)
        residual = (softmax(x1 @ ahead.T) - one_hot) * row_weight  # (n, classes)
        gradient = residual.T @ x1 + ahead * penalty
        previous, theta = theta, ahead - gradient * step
        change = theta - previous
        momentum = 1.0 if (gradient * change).sum() > 0 else following
        if np.abs(change @ x1.T).max() < 1e-3:  # logits of the training images no longer change
            break
    return theta[:, :-1], theta[:, -1] - theta[:, -1].mean()
