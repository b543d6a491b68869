"""What an object head learns from: random views of annotated images, each through the network once;
and the whole images that it is judged on.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import weakref
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ...backbones.embedder import Embedder, input_pixels, read
from ...backbones.encoding import MultiscaleRuntime
from ...backbones.runtime import callers
from ...core.home import cache_folder, writing
from ...core.progress import Progress
from ...core.threads import parallel_map
from ...datasets.annotations import Annotated
from ...errors import InvalidArgument, UnreadableImage
from ...heads.objects import STRIDE, ObjectHead
from ...images.decoding import decode
from .augment import view_of_many
from .directions import principal_directions
from .keeping import Arrays, Keeper, OnDisk, Parts

VIEW_SIDE = 384  # pixels
VIEWS = 2000  # random views that are aimed at
FEWEST_VIEWS, MOST_VIEWS = 8, 24  # of one image
MOST_IN_ALL = 4000  # views; each takes half a megabyte, in memory
DIRECTIONS = {8: 40, 16: 160, 32: 128}  # of a feature map at a stride, at most
SAMPLED, CELLS = 240, 25  # images that the directions are learned from, cells of each map
SHOWN = 16  # images of a batch that is shown


@dataclass
class Sample:
    """Random views of one image.

    Attributes:
        image: the annotated image.
        views: their maps as the head takes them, (c, h, w) float16 each.
        objects: of each (m, 5) float32: `xyxy` in pixels of the view, class index.
    """

    image: Annotated
    views: list[ArrayLike]
    objects: list[np.ndarray]

    def arrays(self) -> Arrays:
        """Return views and objects by name."""
        views = {f"{number}.maps": np.asarray(one) for number, one in enumerate(self.views)}
        return views | {f"{number}.objects": one for number, one in enumerate(self.objects)}

    def move(self, path: Path, prefix: str) -> None:
        """Leave the views where they are kept, in a file under names that begin with `prefix`."""
        self.views = [OnDisk(path, f"{prefix}{number}.maps") for number in range(len(self.views))]


@dataclass
class Whole:
    """One whole image.

    Attributes:
        image: the annotated image.
        maps: as the head takes them, (c, h, w) float16.
        size: (height, width) of the network's input in pixels.
    """

    image: Annotated
    maps: np.ndarray
    size: tuple[int, int]


class SampleMaker:
    """Makes samples of annotated images."""

    def __init__(
        self,
        images: list[Annotated],
        class_names: tuple[str, ...],
        runtime: MultiscaleRuntime,
        embedder: Embedder,
        seed: int,
    ) -> None:
        self._images, self._names, self._runtime, self._seed = images, class_names, runtime, seed
        self._preprocessing = embedder.backbone.preprocessing.with_side(VIEW_SIDE)
        self._threads = callers(embedder.engine)
        self.views = max(
            1,
            min(MOST_IN_ALL // len(images), max(FEWEST_VIEWS, VIEWS // len(images)), MOST_VIEWS),
        )

    def projections(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return for each feature map the mean (C,) and the half whitened principal directions
        (c, C) of its cells, of mean square 1.

        Raises:
            InvalidArgument: if not one image can be read.
        """
        chosen = np.random.default_rng(self._seed).permutation(len(self._images))[:SAMPLED]
        strides: list[int] = []

        def cells(number: int) -> list[np.ndarray]:
            try:
                image = decode(read(self._images[number].file)[0]).image
            except UnreadableImage:
                return []
            pixels = self._view(image, number, 0)[0]
            rng = np.random.default_rng([self._seed, number])
            maps = self._runtime.feature_maps(pixels)
            strides[:] = [len(pixels) // m.shape[1] for m in maps]
            return [m.reshape(len(m), -1)[:, rng.integers(0, m[0].size, CELLS)].T for m in maps]

        rows = [some for some in parallel_map(cells, chosen.tolist(), self._threads) if some]
        if not rows:
            raise InvalidArgument("None of the annotated pictures can be read.")
        return tuple(
            principal_directions(np.concatenate(level), DIRECTIONS[stride])
            for level, stride in zip(zip(*rows, strict=True), strides, strict=True)
        )

    def samples(
        self, head: ObjectHead, keeper: Keeper, progress: Progress | None
    ) -> tuple[list[Sample], list[tuple[str, str]]]:
        """Return samples of all images, and (name, reason) of those that can't be read.

        Raises:
            OutputError: if what doesn't fit into memory doesn't fit on the disk.
        """
        count = len(self._images) * self.views
        height, width = self._preprocessing.image_size
        channels = sum(len(directions) for _, directions in head.projections)
        parts = Parts(
            keeper,
            len(self._images),
            count * channels * (height // STRIDE) * (width // STRIDE) * 2,
            lambda number, arrays: Sample(
                self._images[number],
                [arrays[f"{view}.maps"] for view in range(self.views)],
                [arrays[f"{view}.objects"] for view in range(self.views)],
            ),
        )
        shelf = None
        if count > MOST_IN_ALL:  # they don't fit into memory
            if parts.has_room:
                parts.moved = Sample.move
            else:
                shelf = _Shelf()

        def make(number: int) -> Sample | tuple[str, str]:
            image = self._images[number]
            try:
                photo = decode(read(image.file)[0])
            except UnreadableImage as error:
                return image.file.name, str(error)
            made = [self._view(photo.image, number, view) for view in range(self.views)]
            maps = [self._maps(head, pixels) for pixels, _ in made]
            views: list[ArrayLike] = [one if shelf is None else shelf.keep(one) for one in maps]
            return Sample(image, views, [objects for _, objects in made])

        samples, unreadable = [], []
        for done, sample in enumerate(parts.made(make, self._threads), start=1):
            if isinstance(sample, Sample):
                samples.append(sample)
            else:
                unreadable.append(sample)
            if progress and done > parts.read:
                progress(done, len(self._images), f"pictures, each with {self.views} random views")
        return samples, unreadable

    def wholes(self, head: ObjectHead, images: list[Annotated]) -> list[Whole]:
        """Return whole images, without those that can't be read by now."""

        def make(image: Annotated) -> Whole | None:
            try:
                photo = decode(read(image.file)[0])
            except UnreadableImage:
                return None
            pixels = input_pixels(photo, self._preprocessing.with_side(head.side))
            height, width = pixels.shape[:2]
            return Whole(image, self._maps(head, pixels), (height, width))

        return [one for one in parallel_map(make, images, self._threads) if one is not None]

    def _maps(self, head: ObjectHead, pixels: np.ndarray) -> np.ndarray:
        return head.reduce(self._runtime.feature_maps(pixels)).astype(np.float16)

    def _view(self, image, number: int, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels of a random view, and its objects (m, 5)."""
        annotated = self._images[number]
        rng = np.random.default_rng([self._seed, number, view + 1])
        pixels, moved, which = view_of_many(image, _boxes(annotated), self._preprocessing, rng)
        sides = np.array([*pixels.shape[1::-1]] * 2)
        labels = [self._names.index(annotated.boxes[index].label) for index in which]
        objects = np.column_stack([moved * sides, np.array(labels, dtype=float)])
        return pixels, objects.astype(np.float32)


class _Shelf:
    """Keeps arrays in a file without a name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        folder = cache_folder()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # open as long as an array is held
        weakref.finalize(self, self._file.close)

    def keep(self, array: np.ndarray) -> ArrayLike:
        """Return an array, or something that numpy reads as one.

        Raises:
            OutputError: if the disk is full.
        """
        with self._lock, writing(cache_folder()):
            start = self._file.seek(0, os.SEEK_END)
            self._file.write(array.tobytes())
            self._file.flush()
        return _OnShelf(self, start, array.dtype, array.shape)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of the file."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(length)


@dataclass(frozen=True)
class _OnShelf:
    """An array that lies on a shelf."""

    shelf: _Shelf
    start: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        length = math.prod(self.shape) * self.dtype.itemsize
        array = np.frombuffer(self.shelf.read(self.start, length), self.dtype).reshape(self.shape)
        return array if dtype is None else array.astype(dtype)


def _boxes(annotated: Annotated) -> np.ndarray:
    """Return the boxes (n, 4) of an image in fractions of it."""
    height, width = annotated.size
    return np.array([box.xyxy for box in annotated.boxes]) / [width, height, width, height]


def one_batch_of_many(
    images: list[Annotated], embedder: Embedder, seed: int
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Return random views, one of each of up to sixteen images: pixels, boxes (m, 4) in fractions,
    labels.
    """
    shown = []
    for index in np.random.default_rng(seed).permutation(len(images)).tolist():
        image = images[index]
        try:
            photo = decode(read(image.file)[0]).image
        except UnreadableImage:
            continue
        rng = np.random.default_rng([seed, index, 1])
        preprocessing = embedder.backbone.preprocessing.with_side(VIEW_SIDE)
        pixels, moved, which = view_of_many(photo, _boxes(image), preprocessing, rng)
        labels = Counter(image.boxes[number].label for number in which)
        told = ", ".join(f"{count} {name}" for name, count in labels.items())
        shown.append((pixels, moved, told))
        if len(shown) == SHOWN:
            break
    return shown
