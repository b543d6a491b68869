"""What a classifier is wanted for, and what there is to make it from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..classification.classifier import Classifier, load
from ..core.home import expand
from ..core.notebook import in_notebook
from ..core.progress import Progress
from ..datasets.files import ImageFile
from ..datasets.labelled import LabelledSet
from ..errors import InvalidArgument
from ..towers.tower import TextImageTower
from ..training.recipes import default_model_path, train_labelled
from ..training.request import TrainingRequest, embed_all
from ..traps.boxes import DetectorBoxes
from ..traps.crops import crop_embeddings

log = logging.getLogger("wordsight")
Say = Callable[[str], None]
Consent = Callable[[str], bool]  # asks a person yes or no


def announce(sentence: str) -> None:
    """Log a sentence, and print it in a notebook."""
    log.info(sentence)
    if in_notebook():
        print(sentence)


@dataclass(frozen=True)
class ClassifierRequest:
    """The classifier that `run` needs; fields as in `run`.

    Attributes:
        words: what is to be recognised.
        say: called with one sentence on which way was taken.
        promised: whether a precision is to be promised, which takes labelled images.
        boxes: of a detector, in which the words are looked for; None: in whole photos.
        roll_up: words to which labels may fall back, or None.
        words_model, words_model_for: see `run`.
    """

    words: list[str]
    data: str | os.PathLike | Sequence[str | os.PathLike] | None = None
    model: str | os.PathLike | Classifier | None = None
    gather: bool | Consent = False
    backbone: str | Backbone = DEFAULT_BACKBONE
    progress: Progress | None = None
    say: Say = announce
    force: bool = False
    promised: bool = False
    boxes: DetectorBoxes | None = None
    roll_up: tuple[str, ...] | None = None
    words_model: str | TextImageTower | None = None
    words_model_for: str = "unknown"

    def embeddings(self, embedder: Embedder, images: list[ImageFile]) -> list[np.ndarray]:
        """Return what a classifier made from words adapts to: the embedding (C,) of each image, or
        of each animal in a detector's boxes.

        Raises:
            InvalidArgument: if there is none.
        """
        if self.boxes is not None:
            told = self.boxes.images
            animals = {name: [box for box in told[name].boxes if box.is_animal] for name in told}
            jobs = [(file, animals[file.name]) for file in images if animals.get(file.name)]
            found = crop_embeddings(embedder, jobs, self.progress)
            if not found:
                raise InvalidArgument(
                    f"'{self.boxes.path}' has no box of an animal of a confidence of "
                    f"{self.boxes.confidence:g} or more in these photos, so there is nothing to "
                    "look for words in. --box-threshold takes less sure boxes."
                )
            return found
        return embed_readable(embedder, images, self.progress)[1]

    def load(self, path: str | os.PathLike) -> Classifier:
        """Load a model, to run where the backbone asked for would."""
        if isinstance(self.backbone, Backbone):
            return load(path, engine=self.backbone.engine, dtype=self.backbone.dtype)
        return load(path)

    def train(
        self,
        labelled: LabelledSet,
        supervision: str,
        cleaned: dict,
        places: list[str | os.PathLike],
    ) -> Classifier:
        """Train a probe on the labelled images of some places, kept among the models `run`
        finds.
        """
        return train_labelled(
            TrainingRequest(
                labelled,
                default_model_path(labelled.class_names),
                backbone=self.backbone,
                supervision=supervision,
                cleaned=cleaned,
                sources=[(str(expand(place).resolve()), None) for place in places],
                progress=self.progress,
            )
        )


def as_list(given: str | os.PathLike | Iterable[str | os.PathLike]) -> list[str | os.PathLike]:
    """Return one place, or several, as a list."""
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def embed_readable(
    embedder: Embedder, images: list[ImageFile], progress: Progress | None
) -> tuple[list[ImageFile], list[np.ndarray]]:
    """Return the images that can be read, and the embedding (C,) of each.

    Raises:
        InvalidArgument: if there is none.
    """
    items = embed_all(embedder, images, "photos read", progress)
    read = [item.file for item in items if item.embedding is not None]
    if not read:
        raise InvalidArgument(
            f"None of the {len(items)} pictures can be read; the first: "
            f"'{items[0].file.name}': {items[0].error}."
        )
    return read, [item.embedding for item in items if item.embedding is not None]
