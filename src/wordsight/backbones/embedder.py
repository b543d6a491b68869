"""Images to embeddings: read, hash, look up, decode and encode, many at once, in order and at
bounded memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..core.home import expand
from ..core.threads import parallel_map
from ..datasets.files import ImageFile
from ..errors import InvalidArgument, NotFound, UnreadableImage
from ..images.decoding import MAX_BYTES, Photo, decode, resize, upright
from .cache import EmbeddingCache
from .preprocessing import Preprocessing
from .registry import Backbone
from .runtime import Encoding, Runtime, callers, choose_engine, convert, open_runtime


@dataclass(frozen=True)
class Embedded:
    """One image's embedding, or why there is none.

    Attributes:
        file: the image.
        sha256: hash of the file's bytes, 64 hex digits, or None if it could not be read.
        embedding: (C,) float32, or None.
        error: None, or why the file could not be read.
    """

    file: ImageFile
    sha256: str | None
    embedding: np.ndarray | None
    error: str | None = None


class Embedder:
    """A backbone in an engine, with the cache before it. The engine starts only when an image
    is not cached.
    """

    def __init__(
        self,
        backbone: Backbone,
        engine: str = "auto",
        dtype: str = "f32",
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.backbone = backbone
        self.cache = cache if cache is not None else EmbeddingCache()
        self.dtype = dtype
        self.engine = choose_engine(engine)
        if self.engine == "openvino":
            convert(backbone)

    @property
    def key(self) -> str:
        """What the cache files embeddings under."""
        return self.backbone.key + ("" if self.dtype == "f32" else f"-{self.dtype}")

    @property
    def runtime(self) -> Runtime:
        """The engine; opened on first use."""
        return open_runtime(self.backbone, self.engine, self.dtype)

    def encode(self, photo: Photo, feature_map: bool = False) -> Encoding:
        """Encode one decoded image."""
        return self.runtime.encode(input_pixels(photo, self.backbone.preprocessing), feature_map)

    def embed(self, file: ImageFile) -> Embedded:
        """Return one image's embedding, from the cache if it is there."""
        sha = None
        try:
            data, sha = read(file)
            embedding = self.cache.get(sha, self.key)
            if embedding is None:
                embedding = self.encode(decode(data)).embedding
                self.cache.put(sha, self.key, embedding)
        except UnreadableImage as error:
            return Embedded(file, sha.hex() if sha else None, None, str(error))
        return Embedded(file, sha.hex(), embedding)

    def embed_all(
        self, files: Iterable[ImageFile], embed: Callable[[ImageFile], Embedded] | None = None
    ) -> Iterator[Embedded]:
        """Embed many images, by `embed` where something more is to be done with each; yields
        them in order as they are done.
        """
        try:
            yield from parallel_map(embed or self.embed, files, callers(self.engine))
        finally:
            self.cache.flush()


def input_pixels(photo: Photo, preprocessing: Preprocessing) -> np.ndarray:
    """Return an image as the network takes it, (height, width, 3) uint8."""
    return resize(photo.image, preprocessing.input_size(photo.size), preprocessing.interpolation)


def open_photo(image: str | os.PathLike | Image.Image | np.ndarray) -> Photo:
    """Return an image given as a path, as a PIL image or as (height, width, 3) uint8 RGB.

    Raises:
        NotFound: no such file.
        UnreadableImage: it can't be read.
        InvalidArgument: an array of another shape or type.
    """
    if isinstance(image, str | os.PathLike):
        path = expand(image)
        if not path.exists():
            raise NotFound(f"No such picture: '{path}'.")
        return decode(read(ImageFile(path, path.name))[0])
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InvalidArgument(
                "A picture as an array must be (height, width, 3) uint8, RGB; got "
                f"{image.shape} {image.dtype}."
            )
        image = Image.fromarray(image)
    return upright(image)


def read(file: ImageFile) -> tuple[bytes, bytes]:
    """Return a file's bytes and their sha256.

    Raises:
        UnreadableImage: it can't be read, or is larger than 512 MiB.
    """
    try:
        if not file.path.is_file():
            raise UnreadableImage(
                "not a regular file" if file.path.exists() else "the file is gone"
            )
        size = file.path.stat().st_size
        if size > MAX_BYTES:
            raise UnreadableImage(f"{size >> 20} MiB; at most {MAX_BYTES >> 20} MiB is read")
        data = file.path.read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or type(error).__name__) from None
    return data, hashlib.sha256(data).digest()
