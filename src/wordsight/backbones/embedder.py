"""Images to embeddings: read, hash, look up, decode and encode, many at once, in order and at
bounded memory.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.home import expand
from ..core.regular import NOT_REGULAR, read_regular
from ..core.threads import parallel_map
from ..datasets.files import UNREAD, ImageFile
from ..errors import InvalidArgument, NotFound, UnreadableImage
from ..images.decoding import MAX_BYTES, Photo, decode, read_anew, remark, resize, upright
from .backbone import Backbone
from .cache import EmbeddingCache
from .devices import numerics
from .encoding import Encoding, Runtime
from .openvino_engine import convert
from .precision import choose_dtype
from .preprocessing import Preprocessing
from .runtime import callers, choose_engine, open_runtime

log = logging.getLogger("wordsight")
ANEW = "+2"  # after the key, for files that are read otherwise than 0.1.0 read them


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
    """A backbone in its engine, with the cache before it.

    The engine starts only when an image is not cached. The cache is closed with the embedder.
    """

    def __init__(self, backbone: Backbone, cache: EmbeddingCache | None = None) -> None:
        self.backbone = backbone
        self.cache = cache if cache is not None else EmbeddingCache()
        self.engine = choose_engine(backbone.engine)
        self.dtype = choose_dtype(backbone, self.engine)
        if self.engine == "openvino":
            convert(backbone, self.dtype)
        weakref.finalize(self, self.cache.close)

    @functools.cached_property
    def key(self) -> str:
        """What the cache files embeddings under."""
        return self.backbone.key + numerics(self.engine, self.dtype)

    @property
    def runtime(self) -> Runtime:
        """The engine; opened on first use."""
        return open_runtime(self.backbone, self.engine, self.dtype)

    def encode(self, photo: Photo, feature_map: bool = False) -> Encoding:
        """Encode one decoded image."""
        return self.runtime.encode(input_pixels(photo, self.backbone.preprocessing), feature_map)

    def open(self, file: ImageFile, feature_map: bool = False) -> EncodedImage:
        """Read one image file; what is asked of it is decoded, encoded or looked up when first
        asked for, and once.

        Args:
            file: the image.
            feature_map: whether its feature map is likely to be asked for, so that the pass for
                the embedding keeps it.

        Raises:
            UnreadableImage: if the file can't be read.
        """
        data, sha = read(file)
        return EncodedImage(self, data, sha, feature_map)

    def embed(self, file: ImageFile) -> Embedded:
        """Return one image's embedding, from the cache if it is there."""
        sha = None
        try:
            one = self.open(file)
            sha = one.sha256.hex()
            embedded = Embedded(file, sha, one.embedding)
            if one.remark:
                log.info("%s: %s.", file.name, one.remark)
            return embedded
        except UnreadableImage as error:
            return Embedded(file, sha, None, str(error))

    def kept(self, sha256: bytes) -> np.ndarray | None:
        """Return the embedding (C,) of a file with these bytes if it is in the cache, else None."""
        found = self.cache.get(sha256, self.key + ANEW)
        return self.cache.get(sha256, self.key) if found is None else found

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


class EncodedImage:
    """One image file on its way: bytes, photo, embedding, feature map, each made at most once.

    One thread uses it; nothing here locks.

    Attributes:
        sha256: hash of the file's bytes, 32 bytes.
        data: the file's bytes.
    """

    def __init__(self, embedder: Embedder, data: bytes, sha256: bytes, feature_map: bool) -> None:
        self.sha256, self.data = sha256, data
        self._embedder, self._keep_map = embedder, feature_map
        self._photo: Photo | None = None
        self._embedding: np.ndarray | None = None
        self._encoding: Encoding | None = None

    @property
    def photo(self) -> Photo:
        """The decoded image.

        Raises:
            UnreadableImage: if it can't be decoded.
        """
        if self._photo is None:
            self._photo = decode(self.data)
        return self._photo

    @property
    def remark(self) -> str:
        """What is to be said of the file, such as that it is cut off; "" for nothing.

        Raises:
            UnreadableImage: as in `photo`.
        """
        return remark(self.data) if self._photo is None else self._photo.remark

    @property
    def embedding(self) -> np.ndarray:
        """(C,) float32, from the cache if it is there.

        Raises:
            UnreadableImage: if the image has to be decoded and can't be.
        """
        if self._embedding is None:
            cache, key = self._embedder.cache, self._embedder.key
            if read_anew(self.data):
                key += ANEW
            self._embedding = cache.get(self.sha256, key)
            if self._embedding is None:
                encoding = self._embedder.encode(self.photo, feature_map=self._keep_map)
                self._embedding = encoding.embedding
                if self._keep_map:
                    self._encoding = encoding
                cache.put(self.sha256, key, self._embedding)
        return self._embedding

    @property
    def encoding(self) -> Encoding:
        """Embedding and feature maps, as far as the network has them; a pass of its own where the
        embedding was cached.
        """
        if self._encoding is None:
            self._encoding = self._embedder.encode(self.photo, feature_map=True)
        return self._encoding

    @property
    def feature_map(self) -> np.ndarray | None:
        """(C, h, w) float32, or None for networks without one; see `encoding`."""
        return self.encoding.feature_map if self._embedder.backbone.pooled else None


def input_pixels(photo: Photo, preprocessing: Preprocessing) -> np.ndarray:
    """Return an image as the network takes it, (height, width, 3) uint8."""
    return resize(photo.image, preprocessing.input_size(photo.size), preprocessing.interpolation)


def open_photo(image: str | os.PathLike | Image.Image | np.ndarray) -> Photo:
    """Return an image given as a path, as a PIL image or as (height, width, 3) uint8 RGB.

    Raises:
        NotFound: if there is no such file.
        UnreadableImage: if it can't be read.
        InvalidArgument: if an array has another shape or type.
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
        UnreadableImage: if it can't be read, or is larger than 512 MiB.
    """
    try:
        data = (
            read_regular(file.path, MAX_BYTES)
            if isinstance(file.path, os.PathLike)
            else file.path.read_bytes(MAX_BYTES)  # in an object store
        )
    except FileNotFoundError:
        raise UnreadableImage("the file is gone") from None
    except IsADirectoryError:
        raise UnreadableImage(_why_unread(file.path)) from None
    except OSError as error:
        raise UnreadableImage(error.strerror or type(error).__name__) from None
    return data, hashlib.sha256(data).digest()


def _why_unread(folder: Path) -> str:
    """Return why a folder stands where an image should."""
    try:
        with os.scandir(folder):
            return NOT_REGULAR
    except OSError as error:
        return f"{UNREAD}: {error.strerror or error}"
