"""When an answer becomes a label: the one rule that every room asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Decisions:
    """What a model decides on n images.

    Attributes:
        probabilities: (n, classes) calibrated probabilities, 0–1.
        top: (n,) int, index of the likeliest class.
        probability: (n,) calibrated probability of that class.
        stranger: (n,) bool, whether the image is unlike what the model learned from.
        accepted: (n,) bool, whether the likeliest class becomes the label.
    """

    probabilities: np.ndarray
    top: np.ndarray
    probability: np.ndarray
    stranger: np.ndarray
    accepted: np.ndarray


def accepts(
    probability: np.ndarray | float, stranger: np.ndarray | bool, threshold: float | None
) -> np.ndarray:
    """Whether each answer becomes a label: it is probable enough, and its image is no stranger.

    Args:
        probability: (n,) calibrated probability of the likeliest class, 0–1.
        stranger: (n,) bool, whether the image is unlike what the model learned from.
        threshold: probability from which a label is given, 0–1; None gives none.

    Returns:
        (n,) bool.
    """
    if threshold is None:
        return np.zeros(np.shape(probability), dtype=bool)
    return (np.asarray(probability) >= threshold) & ~np.asarray(stranger, dtype=bool)


def decide(
    probabilities: np.ndarray,
    unlike: np.ndarray,
    threshold: float | None,
    catch_all: int | None = None,
    nothing: int | None = None,
) -> Decisions:
    """Decide on n images.

    Args:
        probabilities: (n, classes) calibrated probabilities, 0–1.
        unlike: (n,) bool, whether each image lies outside what the model learned from.
        threshold: probability from which a label is given, 0–1; None gives none.
        catch_all: index of the class that means "anything else", or None. Nothing is a stranger
            to it.
        nothing: index of the class that means "none of these", or None. Images of it count as
            strangers: it is never a label.
    """
    top = probabilities.argmax(axis=1)
    probability = probabilities.max(axis=1)
    stranger = unlike & (top != (-1 if catch_all is None else catch_all))
    if nothing is not None:
        stranger |= top == nothing
    accepted = accepts(probability, stranger, threshold)
    return Decisions(probabilities, top, probability, stranger, accepted)
