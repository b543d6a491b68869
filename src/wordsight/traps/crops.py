"""Crops of boxes: squares with a margin, cut from a photo that is decoded once, each with an
embedding of its own in the cache.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from ..backbones.embedder import Embedder, EncodedImage, read
from ..backbones.runtime import callers
from ..core.progress import Progress
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..errors import UnreadableImage
from ..images.decoding import MAX_LONGEST, MIN_LONGEST, Photo, decode, header
from .boxes import Box

MARGIN = 0.15  # of the box's longer side, added to it
SHARP = 320  # pixels that a crop should have on its side: what the network looks at
LONGEST = (MIN_LONGEST, 1280, 2560, 5120)  # to which a photo is decoded, the least that will do
Sides = tuple[int, int, int, int]


def square_around(box: Box, size: tuple[int, int]) -> Sides:
    """Return the `xyxy` sides, in pixels, of the square around a box with a margin: moved into an
    image of (height, width) `size`, and no longer than its sides.
    """
    x_min, y_min, x_max, y_max = box.pixels(size)
    side = max(x_max - x_min, y_max - y_min) * (1 + MARGIN)
    spans = []
    for middle, whole in (((x_min + x_max) / 2, size[1]), ((y_min + y_max) / 2, size[0])):
        length = min(max(2, round(side)), whole)
        start = min(max(0, round(middle - length / 2)), whole - length)
        spans.append((start, start + length))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


class CroppedPhoto:
    """One photo of which crops are looked at; it is decoded at most once, as finely as the
    smallest crop needs.

    One thread uses it.

    Attributes:
        size: (height, width) of the upright original in pixels.
        crops: one a box, in order.

    Raises:
        UnreadableImage: if the file can't be read.
    """

    def __init__(
        self,
        embedder: Embedder,
        file: ImageFile,
        boxes: Sequence[Box],
        feature_map: bool = False,
    ) -> None:
        data, sha = read(file)
        self.size = header(data)[1]
        squares = [square_around(box, self.size) for box in boxes]
        self.data, self._longest = data, _longest(squares, self.size)
        self.crops = [EncodedCrop(embedder, self, sha, one, feature_map) for one in squares]

    @functools.cached_property
    def photo(self) -> Photo:
        """The decoded image.

        Raises:
            UnreadableImage: if it can't be decoded.
        """
        return decode(self.data, (self._longest, max(MAX_LONGEST, 2 * self._longest)))

    @property
    def remark(self) -> str:
        """What is to be said of the file, as far as it was decoded; "" for nothing."""
        return self.photo.remark if "photo" in self.__dict__ else ""

    @property
    def shown(self) -> Photo:
        """The decoded image, no larger than reports need it."""
        image = self.photo.image
        if max(image.size) > MAX_LONGEST:
            image = image.copy()
            image.thumbnail((MAX_LONGEST, MAX_LONGEST))
        return Photo(image, self.size)


class EncodedCrop(EncodedImage):
    """A crop on its way; its embedding is kept by the file's hash, the square and how finely the
    photo is decoded.

    Attributes:
        sides: `xyxy` of the square in pixels of the upright original.
    """

    def __init__(
        self,
        embedder: Embedder,
        whole: CroppedPhoto,
        sha256: bytes,
        sides: Sides,
        feature_map: bool,
    ) -> None:
        told = f"{sides}{whole._longest}".encode()
        super().__init__(embedder, whole.data, hashlib.sha256(sha256 + told).digest(), feature_map)
        self.sides, self._whole = sides, whole

    @property
    def photo(self) -> Photo:
        """The crop's pixels.

        Raises:
            UnreadableImage: if the photo can't be decoded.
        """
        if self._photo is None:
            whole, (height, width) = self._whole.photo.image, self._whole.size
            x, y = whole.width / width, whole.height / height
            left, top, right, bottom = self.sides
            corners = (
                *(round(left * x), round(top * y)),
                *(max(round(right * x), round(left * x) + 1),),
                *(max(round(bottom * y), round(top * y) + 1),),
            )
            self._photo = Photo(whole.crop(corners), (bottom - top, right - left))
        return self._photo


def crop_embeddings(
    embedder: Embedder,
    jobs: Sequence[tuple[ImageFile, Sequence[Box]]],
    progress: Progress | None = None,
) -> list[np.ndarray]:
    """Return the embedding (C,) of every crop of photos, for a classifier that adapts to them;
    photos that can't be read are passed over.
    """

    def embed(job: tuple[ImageFile, Sequence[Box]]) -> list[np.ndarray]:
        try:
            return [crop.embedding for crop in CroppedPhoto(embedder, *job).crops]
        except UnreadableImage:
            return []

    found: list[np.ndarray] = []
    try:
        made = parallel_map(embed, jobs, callers(embedder.engine))
        for done, of_photo in enumerate(made, start=1):
            found += of_photo
            if progress:
                progress(done, len(jobs), "photos read")
        return found
    finally:
        embedder.cache.flush()


def _longest(squares: Sequence[Sides], size: tuple[int, int]) -> int:
    """Return to how many pixels on its longest side a photo is decoded."""
    shortest = min((min(x1 - x0, y1 - y0) for x0, y0, x1, y1 in squares), default=max(size))
    needed = SHARP * max(size) / max(1, shortest)
    return next((longest for longest in LONGEST if longest >= needed), LONGEST[-1])
