"""Photos in the order in which a phrase fits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.progress import Progress
from ..datasets.files import ImageFile
from .tower import TextImageTower


@dataclass(frozen=True)
class Ranking:
    """Photos, the fittest first.

    Attributes:
        files: the photos, without those that can't be read.
        scores: (n,) float32, the cosine of each with the phrase. It orders photos and has no zero:
            no cosine says by itself that a photo shows the phrase.
        unreadable: photos that can't be read.
    """

    files: list[ImageFile]
    scores: np.ndarray
    unreadable: list[ImageFile]


def rank(
    files: Sequence[ImageFile],
    phrase: str,
    tower: TextImageTower,
    progress: Progress | None = None,
) -> Ranking:
    """Return photos in the order in which a phrase fits them.

    Args:
        files: the photos; each goes through the image tower once, then comes from the cache.
        phrase: in words, such as "red bicycle at the lake".
        tower: a prepared one, see `open_tower`.
        progress: called with (done, total, what).
    """
    text = tower.embed_phrases([phrase])[0]
    scores = tower.embed_photos(files, progress) @ text
    read = np.flatnonzero(~np.isnan(scores))
    order = read[np.argsort(-scores[read], kind="stable")]
    unread = np.flatnonzero(np.isnan(scores))
    return Ranking(
        [files[int(at)] for at in order], scores[order], [files[int(at)] for at in unread]
    )
