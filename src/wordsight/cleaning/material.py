"""The first step of cleaning: read, hash, measure and embed every image. It decides nothing."""

from __future__ import annotations

import tempfile
import threading
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from ..backbones.backbone import Backbone
from ..backbones.embedder import Embedder
from ..backbones.runtime import callers
from ..core.home import cache_folder, writing
from ..core.progress import Progress
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..datasets.labelled import LabelledSet
from ..errors import UnreadableImage
from ..heads.rows import FEW, STEP, gather
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
) -> Iterator[LookedAt]:
    """Yield what is seen of every image, in order, and write the embedder's cache at the end.

    Args:
        images: the files.
        embedder: what embeds them.
        progress: called with (done, total, "pictures").
    """
    try:
        seen = parallel_map(lambda file: look_at(file, embedder), images, callers(embedder.engine))
        for done, one in enumerate(seen, start=1):
            yield one
            if progress:
                progress(done, len(images), "pictures")
    finally:
        embedder.cache.flush()


def gather_material(
    labelled: LabelledSet, min_size: int, embedder: Embedder, progress: Progress | None
) -> Material:
    """Look at every image in this process; return what checks need."""
    seen = look(labelled.images, embedder, progress)
    return material_of(labelled, seen, min_size, embedder.backbone)


def material_of(
    labelled: LabelledSet, seen: Iterable[LookedAt], min_size: int, backbone: Backbone
) -> Material:
    """Return what checks need, from what was seen of each image. Of more than 20,000 images,
    embeddings and measures lie in files, 13 KB an image.

    Args:
        labelled: the images and their classes.
        seen: what was seen of each, in the same order; read once.
        min_size: shortest side wanted, pixels.
        backbone: the network that embedded them.
    """
    shas: list[str | None] = []
    errors: list[str | None] = []
    measured = MeasuresKept()

    def embeddings() -> Iterator[np.ndarray]:
        blank: np.ndarray | None = None
        held: list[np.ndarray] = []
        for one in seen:
            shas.append(one.sha256)
            errors.append(one.error)
            measured.append(one.measures)
            if blank is None and one.embedding is not None:
                blank = np.zeros_like(one.embedding)
                held = [blank] * (len(shas) - 1)
            if blank is not None:
                held.append(blank if one.embedding is None else one.embedding)
            if len(held) >= STEP:
                yield np.stack(held)
                held = []
        if held:
            yield np.stack(held)

    rows = gather(embeddings())
    if not len(rows):
        rows = np.zeros((len(shas), 0), dtype=np.float32)
    place = {name: number for number, name in enumerate(labelled.class_names)}
    return Material(
        images=labelled.images,
        class_names=labelled.class_names,
        labels=np.array([place[str(image.label)] for image in labelled.images], dtype=int),
        shas=shas,
        errors=errors,
        measures=measured,
        embeddings=rows,
        imagenet=backbone.concept_head(),
        others=labelled.skipped,
        min_size=min_size,
    )


class MeasuresKept(Sequence[Measures | None]):
    """Measures of images, one after the other: in memory while they are few, in a file in the
    cache folder when they are many.

    Raises:
        OutputError: if there is no space for the file.
    """

    def __init__(self) -> None:
        self._few: list[Measures | None] = []
        self._ends = array("q", [0])  # of each entry in the file
        self._file: IO[bytes] | None = None
        self._reading = threading.Lock()

    def append(self, measures: Measures | None) -> None:
        """Keep the measures of the next image, None if it could not be decoded."""
        self._few.append(measures)
        if self._file is None and len(self._few) <= FEW:
            return
        folder = cache_folder()
        with writing(folder):
            if self._file is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # see finalize
                weakref.finalize(self, self._file.close)
            for one in self._few:
                packed = b"" if one is None else one.pack()
                self._file.write(packed)
                self._ends.append(self._ends[-1] + len(packed))
        self._few = []

    def __len__(self) -> int:
        return len(self._few) if self._file is None else len(self._ends) - 1

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        if self._file is None:
            return self._few[place]
        place = range(len(self))[place]
        begin, end = self._ends[place], self._ends[place + 1]
        with self._reading:
            self._file.seek(begin)
            packed = self._file.read(end - begin)
        return Measures.unpack(packed) if packed else None
