"""What an exported model answers, whatever format it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..classification.classifier import Classifier

TINY = 1e-12  # divided by instead of zero


def answers_of(model: Classifier) -> tuple[str, ...]:
    """Return the names of a model's outputs, in order."""
    there = {
        "probabilities": True,
        "heatmap": model.backbone.pooled,
        "stranger": model.neighbourhood is not None or model.words is not None,
        "box": model.box_head is not None,
    }
    return tuple(name for name, is_there in there.items() if is_there)
