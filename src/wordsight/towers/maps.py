"""Where in a photo a phrase fits, without gradients."""

from __future__ import annotations

import numpy as np

from ..backbones.embedder import open_photo
from ..images.decoding import Photo
from .prompts import NOTHING
from .tower import Tower


def phrase_map(tower: Tower, photo: Photo | str, phrase: str) -> np.ndarray | None:
    """Return how much better a phrase fits each patch of a photo than "a photo" does, (rows,
    columns) float32, 0–1; or None where the tower gives no patches. It says where, not whether: its
    peak is 1 in any photo that the phrase fits anywhere, and it is 0 where it fits nowhere.

    Args:
        tower: a prepared one, see `open_tower`.
        photo: a decoded photo, or the path of one.
        phrase: in words.

    Raises:
        NotFound, UnreadableImage: if the photo can't be read.
    """
    opened = open_photo(photo) if isinstance(photo, str) else photo
    patches = tower.patches(opened.image)
    if patches is None:
        return None
    texts = tower.embed_phrases([phrase])[0]
    beside = tower.embed_phrases(NOTHING, several=False).mean(axis=0)
    fit = np.maximum(patches @ texts - patches @ beside, 0)  # (rows, columns, d) @ (d,)
    return (fit / max(float(fit.max()), 1e-9)).astype(np.float32)
