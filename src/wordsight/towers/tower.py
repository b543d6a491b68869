"""A prepared tower: photos and phrases in, unit vectors out, whose product says how well they fit.

Runs in OpenVINO, offline, without torch and without open_clip.
"""

from __future__ import annotations

import functools
import hashlib
import json
import queue
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..backbones.cache import EmbeddingCache
from ..backbones.embedder import read
from ..backbones.openvino_engine import import_openvino
from ..backbones.seals import is_whole
from ..core.progress import Progress
from ..core.regular import read_text
from ..core.threads import cores, parallel_map
from ..datasets.files import ImageFile
from ..errors import BackboneUnavailable, InvalidModel, UnreadableImage
from ..images.decoding import decode, resize
from .names import RECORD, find_prepared
from .prompts import NOTHING, PHOTO, prompts
from .tokenizing import TOKENIZER, PhraseTokenizer

FORMAT = 1
SUMS = "tower.sha256"
IMAGE, QUICK, TEXT, NOUNS = "image", "image-int8", "text", "nouns.safetensors"
ALIKE = 0.95  # cosine of int8's and f32's vectors, less their mean, for int8 to be used
FASTER = 1.15  # times as fast as f32, likewise
TEXTS_AT_ONCE = 16


class TextImageTower(Protocol):
    """What tells how well phrases fit photos. Tests may put a made-up one in the place of `Tower`.

    Attributes:
        name: what the user asked for.
    """

    name: str

    def embed_photos(
        self, files: Sequence[ImageFile], progress: Progress | None = None
    ) -> np.ndarray:
        """Return a unit vector for each photo, (n, d) float32; NaN for one that can't be read."""

    def embed_phrases(self, phrases: Sequence[str], several: bool = True) -> np.ndarray:
        """Return a unit vector for each phrase, (n, d) float32: the mean of those of several
        prompts or, where many phrases are needed, of one.
        """


@dataclass(frozen=True)
class TowerRecord:
    """What a prepared folder says of itself; kept in tower.json.

    Attributes:
        name: of the tower, as it was asked for when it was prepared.
        source: where the weights came from.
        licence: of the weights, "" where nobody says.
        fingerprint: hash of the weights.
        image_size: (height, width) of the image tower's input.
        resize: "squash": to that size; "shortest": the middle of the photo.
        interpolation: "bicubic", "bilinear" or "nearest".
        width: d, the length of a vector.
        tokens: length of a phrase.
        cleaning: of a phrase, see `tokenizing`.
        patches: (rows, columns) of the map that the image tower gives, or None.
        int8: how many times as fast the int8 network was where it was made, and how much it agreed;
            None where there is none.
        nouns: how many nouns have a vector in the table.
    """

    name: str
    source: str
    licence: str
    fingerprint: str
    image_size: tuple[int, int]
    resize: str
    interpolation: str
    width: int
    tokens: int
    cleaning: str
    patches: tuple[int, int] | None = None
    int8: dict[str, float] | None = None
    nouns: int = 0

    def files(self) -> list[str]:
        """Return the names of the files that the folder must hold."""
        networks = [IMAGE, TEXT, *([QUICK] if self.int8 else [])]
        parts = [f"{network}.{suffix}" for network in networks for suffix in ("xml", "bin")]
        return [RECORD, TOKENIZER, *parts, *([NOUNS] if self.nouns else [])]


def open_tower(name: str, dtype: str = "auto") -> Tower:
    """Open a prepared tower; no network is asked.

    Args:
        name: "siglip2", "pe-core-s", "pe-core-t", "hf-hub:ORGANISATION/NAME" or
            "local-dir:FOLDER".
        dtype: "f32", "int8" or "auto": int8 where it was faster and agreed when prepared.

    Raises:
        InvalidArgument: if there is no such tower, or its licence forbids its use.
        BackboneUnavailable: if it has not been prepared.
        InvalidModel: if its folder is damaged, or of another version.
    """
    folder = find_prepared(name)
    if folder is None:
        raise BackboneUnavailable(
            f"The text–image model '{name}' is not on this machine. Prepare it once: 'wordsight "
            f"words --prepare {name}'."
        )
    return Tower(name, folder, read_record(folder), dtype)


def read_record(folder: Path) -> TowerRecord:
    """Return what a prepared folder says of itself, if all its files are whole.

    Raises:
        InvalidModel: if one is not, or the folder is of another version.
    """
    again = "Prepare it again: 'wordsight words --prepare NAME'."
    try:
        values = json.loads(read_text(folder / RECORD))
        version = values.pop("format")
        for key in ("image_size", "patches"):
            values[key] = values[key] and tuple(int(side) for side in values[key])
        record = TowerRecord(**values)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InvalidModel(
            f"'{folder / RECORD}' of the text–image model can't be read ({error}). {again}"
        ) from error
    if version != FORMAT:
        raise InvalidModel(f"'{folder}' was prepared by another version of wordsight. {again}")
    for name in record.files():
        if not is_whole(folder, SUMS, [name]):
            raise InvalidModel(
                f"The text–image model in '{folder}' is damaged: '{name}' is missing or not what "
                f"was written. {again}"
            )
    return record


class Tower:
    """A prepared tower; its networks start when first asked."""

    def __init__(self, name: str, folder: Path, record: TowerRecord, dtype: str = "auto") -> None:
        self.name, self.folder, self.record = name, folder, record
        self._cache = EmbeddingCache()
        quick = record.int8 is not None and record.int8["speed"] >= FASTER
        self.dtype = ("int8" if quick else "f32") if dtype == "auto" else dtype
        if self.dtype == "int8" and record.int8 is None:
            self.dtype = "f32"
        weakref.finalize(self, self._cache.close)

    @property
    def key(self) -> str:
        """What the cache files this tower's vectors under."""
        return f"tower-{self.record.fingerprint[:24]}-{self.dtype}"

    @functools.cached_property
    def _image(self) -> Network:
        quick = self.dtype == "int8"
        return Network(self.folder / f"{QUICK if quick else IMAGE}.xml", outputs=1)

    @functools.cached_property
    def _maps(self) -> Network:
        return Network(self.folder / f"{IMAGE}.xml", outputs=2)

    @functools.cached_property
    def _text(self) -> Network:
        return Network(self.folder / f"{TEXT}.xml", outputs=1)

    @functools.cached_property
    def _tokenize(self) -> PhraseTokenizer:
        path = self.folder / TOKENIZER
        return PhraseTokenizer(path, self.record.tokens, self.record.cleaning)

    def embed_photos(
        self, files: Sequence[ImageFile], progress: Progress | None = None
    ) -> np.ndarray:
        """Return a unit vector for each photo, (n, d) float32; NaN for one that can't be read.
        Vectors are kept in the cache.
        """
        found = np.full((len(files), self.record.width), np.nan, np.float32)
        try:
            vectors = parallel_map(self._embed_photo, files, cores() + 1)
            for number, vector in enumerate(vectors):
                if vector is not None:
                    found[number] = vector
                if progress:
                    progress(number + 1, len(files), "photos shown to the text–image model")
        finally:
            self._cache.flush()
        return found

    def _embed_photo(self, file: ImageFile) -> np.ndarray | None:
        try:
            data, sha = read(file)
            vector = self._cache.get(sha, self.key)
            if vector is None:
                vector = self._image(self.pixels(decode(data).image)[None])[0][0]
                self._cache.put(sha, self.key, vector)
            return vector
        except UnreadableImage:
            return None

    def embed_phrases(self, phrases: Sequence[str], several: bool = True) -> np.ndarray:
        """Return a unit vector for each phrase, (n, d) float32: the mean of those of several
        prompts or, where many phrases are needed, of one. Vectors are kept in the cache; those of
        the table need no text tower.
        """
        if not several:
            texts = [one if one in NOTHING else PHOTO.format(one) for one in phrases]
            return self._texts(texts, phrases)
        asked = [prompts(phrase) for phrase in phrases]
        flat = self._texts([text for texts in asked for text in texts])
        means = flat.reshape(len(phrases), -1, self.record.width).mean(axis=1)
        return unit(means)

    def _texts(self, texts: Sequence[str], nouns: Sequence[str] = ()) -> np.ndarray:
        """Return the vectors of texts; those of nouns in the table come from there."""
        key = f"{self.key.rpartition('-')[0]}-text"
        found = np.zeros((len(texts), self.record.width), np.float32)
        missing = []
        for number, text in enumerate(texts):
            at = self._table[0].get(nouns[number].lower()) if nouns else None
            vector = (
                self._cache.get(hashlib.sha256(text.encode()).digest(), key)
                if at is None
                else self._table[1][at].astype(np.float32)
            )
            if vector is None:
                missing.append(number)
            else:
                found[number] = vector
        for first in range(0, len(missing), TEXTS_AT_ONCE):
            some = missing[first : first + TEXTS_AT_ONCE]
            vectors = self._text(self._tokenize([texts[number] for number in some]))[0]
            for number, vector in zip(some, vectors, strict=True):
                found[number] = vector
                self._cache.put(hashlib.sha256(texts[number].encode()).digest(), key, vector)
        self._cache.flush()
        return found

    @functools.cached_property
    def _table(self) -> tuple[dict[str, int], np.ndarray]:
        """The table of nouns: noun -> row, and the rows (n, d) float16."""
        if not self.record.nouns:
            return {}, np.zeros((0, self.record.width), np.float16)
        from safetensors import safe_open

        with safe_open(self.folder / NOUNS, framework="numpy") as file:
            names = file.get_tensor("nouns").tobytes().decode().split("\n")
            return {noun: row for row, noun in enumerate(names)}, file.get_tensor("vectors")

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Return an upright RGB image as the image tower takes it, (height, width, 3) uint8."""
        size = self.record.image_size
        if self.record.resize == "squash":
            return resize(image, size, self.record.interpolation)
        scale = max(size[0] / image.height, size[1] / image.width)
        whole = round(image.height * scale), round(image.width * scale)
        grown = resize(image, whole, self.record.interpolation)
        top, left = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
        return np.ascontiguousarray(grown[top : top + size[0], left : left + size[1]])

    def patches(self, image: Image.Image) -> np.ndarray | None:
        """Return a unit vector for each patch of an image, (rows, columns, d) float32, or None
        where the tower gives none or saw only the middle of the image.
        """
        if self.record.patches is None or self.record.resize != "squash":
            return None
        patches = self._maps(self.pixels(image)[None])[1][0]
        return patches.reshape(*self.record.patches, self.record.width)


class Network:
    """A network of OpenVINO, one stream a core; may be called from many threads.

    Args:
        path: the .xml file.
        outputs: how many of its outputs are computed, from the first on.
    """

    def __init__(self, path: Path, outputs: int) -> None:
        ov = import_openvino()
        core = ov.Core()
        model = core.read_model(path)
        for result in model.get_results()[outputs:]:
            model.remove_result(result)
        streams = str(cores())
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
            },
        )
        self._outputs = outputs
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(cores()):
            self._requests.put(compiled.create_infer_request())
        if not model.inputs[0].partial_shape.is_dynamic:
            # the bindings' first touch of a tensor must not happen in two threads at once
            self(np.zeros(list(model.inputs[0].shape), np.uint8))

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return its outputs, float32, for a batch."""
        request = self._requests.get()
        try:
            request.infer({0: inputs})
            return [
                request.get_output_tensor(index).data.astype(np.float32)
                for index in range(self._outputs)
            ]
        finally:
            self._requests.put(request)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (…, d) scaled to unit length."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
