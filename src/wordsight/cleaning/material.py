"""The first step of cleaning: read, hash, measure and embed every image. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backbones.backbone import Backbone
from ..backbones.embedder import Embedder
from ..backbones.runtime import callers
from ..core.progress import Progress
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..datasets.labelled import LabelledSet
from ..errors import UnreadableImage
from ..images.decoding import frame_count
from ..images.measures import KEY, Measures, measure
from .checks import Material


@dataclass(frozen=True)
class LookedAt:
    """What was seen of one image.

    Attributes:
        sha256: of the file, 64 hex digits, or None if it could not be read.
        error: why it could not be decoded, or None.
        measures: what was measured, or None.
        embedding: (C,) float32, or None.
    """

    sha256: str | None
    error: str | None
    measures: Measures | None
    embedding: np.ndarray | None


def look_at(file: ImageFile, embedder: Embedder) -> LookedAt:
    """Read, measure and embed one image. It is decoded at most once, and not at all if the cache
    holds both.
    """
    sha = None
    try:
        one = embedder.open(file)
        sha = one.sha256.hex()
        packed = embedder.cache.get_bytes(one.sha256, KEY)
        if packed is None:
            packed = measure(one.photo, frame_count(one.data)).pack()
            embedder.cache.put_bytes(one.sha256, KEY, packed)
        return LookedAt(sha, None, Measures.unpack(packed), one.embedding)
    except UnreadableImage as error:
        return LookedAt(sha, str(error), None, None)


def look(
    images: Sequence[ImageFile], embedder: Embedder, progress: Progress | None
) -> list[LookedAt]:
    """Return what is seen of every image, in order, and close the embedder's cache.

    Args:
        images: the files.
        embedder: what embeds them.
        progress: called with (done, total, "pictures").
    """
    seen = []
    try:
        for one in parallel_map(
            lambda file: look_at(file, embedder), images, callers(embedder.engine)
        ):
            seen.append(one)
            if progress:
                progress(len(seen), len(images), "pictures")
    finally:
        embedder.cache.flush()
    return seen


def gather_material(
    labelled: LabelledSet, min_size: int, embedder: Embedder, progress: Progress | None
) -> Material:
    """Look at every image in this process; return what checks need."""
    seen = look(labelled.images, embedder, progress)
    return material_of(labelled, seen, min_size, embedder.backbone)


def material_of(
    labelled: LabelledSet, seen: list[LookedAt], min_size: int, backbone: Backbone
) -> Material:
    """Return what checks need, from what was seen of each image.

    Args:
        labelled: the images and their classes.
        seen: what was seen of each, in the same order.
        min_size: shortest side wanted, pixels.
        backbone: the network that embedded them.
    """
    width = next((len(one.embedding) for one in seen if one.embedding is not None), 0)
    rows = np.zeros((len(seen), width), dtype=np.float32)
    for row, one in zip(rows, seen, strict=True):
        if one.embedding is not None:
            row[:] = one.embedding
    place = {name: number for number, name in enumerate(labelled.class_names)}
    return Material(
        images=labelled.images,
        class_names=labelled.class_names,
        labels=np.array([place[str(image.label)] for image in labelled.images], dtype=int),
        shas=[one.sha256 for one in seen],
        errors=[one.error for one in seen],
        measures=[one.measures for one in seen],
        embeddings=rows,
        imagenet=backbone.concept_head(),
        others=labelled.skipped,
        min_size=min_size,
    )
