"""What the page in the browser works with, without the page: models by name, one image looked at,
classes dropped in, two models compared.

Paths come from the file system or from what was uploaded, never from what a visitor types: models
are chosen by name from a list, images of the data folder by the names found there, and all that
is written lies among wordsight's own files.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..backbones.embedder import read
from ..backbones.encoding import Encoding
from ..classification.classifier import Classifier, load
from ..classification.predictions import Prediction
from ..core.home import expand, images_folder, models_folder, write_atomic, writing
from ..core.names import is_device
from ..core.progress import Progress
from ..core.regular import read_regular
from ..core.tables import short_stem
from ..datasets.decisions import ReviewBook
from ..datasets.files import ImageFile, find_images
from ..detection.detections import Detection
from ..detection.detector import draw_detections
from ..detection.objects import objects_of
from ..errors import InvalidArgument, NotFound
from ..heads.objects import OBJECT_THRESHOLD
from ..heatmaps.drawing import superimpose
from ..heatmaps.one_pass import class_heatmap
from ..images.decoding import Photo, decode
from ..reports.gallery import thumbnail
from ..supervision.choice import find_or_make
from ..supervision.request import ClassifierRequest
from ..training.recipes import list_models, train
from ..training.retraining import retrain
from ..training.sources import noted_sources
from ..words.class_names import fold, parse_classes
from .review import Doubt, find_doubts

OPEN_MODELS = 4  # held in memory at once
MOST_IMAGES = 5000  # of a folder that two models are compared on
SHOWN_SIDE = 640  # pixels
RESERVED = {"registered"}  # among the models, where the places of others are noted
NAME = re.compile(r"[\w][\w .-]{0,79}")


@dataclass(frozen=True)
class Seen:
    """One image, looked at.

    Attributes:
        prediction: what was said; label and box as decided at the threshold asked for.
        image: upright, at most 640 pixels a side, as JPEG: a page holds many of them.
        heat: (h, w) heat map of the likeliest class, 0–1, or None where one can't be had.
        box: `xyxy` of the likeliest class in pixels of the original, whether accepted or not; None
            where there is none.
        size: (height, width) of the original.
        objects: everything found in it, boxes in pixels of the original, the surest first; None
            where the model does not look for many objects.
        object_names: all that it looks for.
    """

    prediction: Prediction
    image: bytes
    heat: np.ndarray | None
    box: list[float] | None
    size: tuple[int, int]
    objects: list[Detection] | None = None
    object_names: tuple[str, ...] = ()

    def drawn(self, threshold: float | None) -> np.ndarray:
        """Return the image with a box about every object, if the model looks for many; else with
        its heat map laid over, and with its box where it gets a label: (height, width, 3) uint8
        RGB.
        """
        image = Image.open(io.BytesIO(self.image))
        if self.objects is not None:
            names = list(self.object_names)
            return draw_detections(np.array(image), self.objects, self.size, names)
        if self.heat is None or self.prediction.stranger:  # where a guess comes from says nothing
            return np.asarray(image)
        return superimpose(
            image, self.heat, self.box if self.label_at(threshold) else None, self.size
        )

    def label_at(self, threshold: float | None) -> str | None:
        """Return the label at a threshold, or None."""
        labels = self.prediction.labels_at(threshold)
        return labels[0].label if labels else None

    def record(self, threshold: float | None) -> dict:
        """Return what predictions.jsonl says of an image, at a threshold; nothing is drawn to
        a file.
        """
        labels = self.prediction.labels_at(threshold)
        label, box = (labels[0].label, self.box) if labels else (None, None)
        if labels:
            labels[0].box_xyxy = box
        return replace(self.prediction, label=label, labels=labels, box_xyxy=box).to_dict()


class Viewer:
    """A model, ready to look at images from many threads."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.embedder = model.embedder

    @property
    def threshold(self) -> float | None:
        """The model's own threshold, 0–1; None where it gives no label without one."""
        return self.model.threshold_for()[0]

    def look(self, path: Path, name: str, threshold: float | None) -> Seen:
        """Look at one image file.

        Raises:
            UnreadableImage: if it can't be read.
        """
        photo, encoding, prediction = self._pass(path, name, threshold)
        top = Prediction(name, prediction.top_label)
        self.model.localize(top, photo, encoding)
        prediction.box_xyxy = top.box_xyxy if prediction.label is not None else None
        shown = thumbnail(photo.image, SHOWN_SIDE)[0]
        seen = Seen(prediction, shown, top.map, top.box_xyxy, photo.size)
        head = self.model.object_head
        if head is None:
            return seen
        found = objects_of(photo, self.model, OBJECT_THRESHOLD)[0]
        return replace(seen, objects=found, object_names=head.class_names)

    def decide(self, path: Path, name: str, threshold: float | None) -> Prediction:
        """Label one image file, with its box if it gets a label; draw nothing.

        Raises:
            UnreadableImage: if it can't be read.
        """
        photo, encoding, prediction = self._pass(path, name, threshold)
        if prediction.label is not None:
            self.model.localize(prediction, photo, encoding)
        return prediction.without_maps()

    def _pass(
        self, path: Path, name: str, threshold: float | None
    ) -> tuple[Photo, Encoding, Prediction]:
        photo = decode(read(ImageFile(path, name))[0])
        encoding = self.embedder.encode(photo, feature_map=self.model.backbone.pooled)
        prediction = self.model.decide_photo(
            name, encoding.embedding, lambda: encoding.feature_map, threshold
        )
        return photo, encoding, prediction

    def heatmap(self, path: Path, name: str, class_name: str | None) -> np.ndarray:
        """Return an image with the heat map of a class, by default the likeliest, laid over it:
        (height, width, 3) uint8 RGB.

        Raises:
            UnreadableImage: if it can't be read.
            InvalidArgument: if the model has no such class, or makes no heat map of its own pass.
        """
        if class_name and class_name not in self.model.class_names:
            raise InvalidArgument(
                f"The model has no class '{class_name}'; it knows: "
                f"{', '.join(self.model.class_names)}."
            )
        photo: Photo = decode(read(ImageFile(path, name))[0])
        encoding = self.embedder.encode(photo, feature_map=True)
        index = (
            self.model.class_names.index(class_name)
            if class_name
            else int(self.model.head.logits(encoding.embedding[None])[0].argmax())
        )
        if encoding.feature_map is None:
            raise InvalidArgument(
                "This model's network gives no heat map in one pass. Use 'wordsight predict "
                "--heatmap gradcam' for it."
            )
        return superimpose(
            photo.image, class_heatmap(encoding.feature_map, self.model.head.weight[index])
        )


class Workspace:
    """The models and the one folder of images that a page may use.

    Args:
        model: a model folder that is offered first, or None.
        data: the folder whose images are reviewed and compared, or None.

    Raises:
        NotFound, InvalidModel, InvalidArgument: if there is no such model or folder, or no image in
            it.
    """

    def __init__(
        self, model: str | os.PathLike | None = None, data: str | os.PathLike | None = None
    ) -> None:
        self._given = None if model is None else expand(model)
        self._open: OrderedDict[Path, tuple[int, Viewer]] = OrderedDict()
        self._lock = threading.Lock()
        self.data = None if data is None else expand(data).resolve()
        if self.data is not None and not self.data.is_dir():
            raise NotFound(
                f"No such folder: '{data}'. Give the folder whose pictures are to be reviewed."
            )
        self._book: ReviewBook | None = None
        if self._given is not None:
            self.viewer(self.models()[0])
        if self.data is not None:
            _ = self.book

    def models(self) -> list[str]:
        """Return the names of the models there are, the one given first, then the newest."""
        return list(self._paths())

    def viewer(self, name: str | None) -> Viewer:
        """Return a model by the name that `models` gives it; by default the first.

        Raises:
            InvalidArgument: if there is none of that name.
            InvalidModel, BackboneUnavailable: if it can't be loaded.
        """
        paths = self._paths()
        if not paths:
            raise InvalidArgument(
                "There is no model yet. Make one under Train, or start with -m MODEL."
            )
        path = paths.get(name or next(iter(paths)))
        if path is None:
            raise InvalidArgument(f"There is no model '{name}'. There are: {', '.join(paths)}.")
        record = path / "wordsight.json"
        made = record.stat().st_mtime_ns if record.is_file() else 0  # which `load` will tell of
        with self._lock:  # one thread loads, others wait for it
            known = self._open.pop(path, None)
            if known is None or known[0] != made:
                known = (made, Viewer(load(path)))
            self._open[path] = known
            while len(self._open) > OPEN_MODELS:
                self._open.popitem(last=False)
        return known[1]

    @property
    def book(self) -> ReviewBook:
        """The labels of the data folder.

        Raises:
            InvalidArgument: if there is no data folder.
        """
        if self.data is None:
            raise InvalidArgument("There is no folder to review. Start with --data FOLDER.")
        with self._lock:
            if self._book is None:
                self._book = ReviewBook(self.data, self._class_names())
        return self._book

    def doubts(
        self, model: str | None, threshold: float | None, progress: Progress | None = None
    ) -> list[Doubt]:
        """Return what a person should look at in the data folder; see `find_doubts`."""
        classifier = self.viewer(model).model if self.models() else None
        return find_doubts(self.book, classifier, threshold, progress)

    def retrain(
        self, model: str | None = None, progress: Progress | None = None
    ) -> tuple[str, str]:
        """Train on what a model learned from and on the data folder as it is labelled now; without
        a model, on the folder alone.

        Args:
            model: its name, by default the first.
            progress: called with (done, total, what).

        Returns:
            The name of the better model, and a sentence on how the two compare.
        """
        book = self.book
        digest = hashlib.sha256(os.fsencode(book.root)).hexdigest()[:8]
        target = models_folder() / f"{book.root.name}-reviewed-{digest}"
        if not self.models():
            return self._named(train(book.root, target, progress=progress)), ""
        decided = [image for name, image in book.images.items() if book.reviewed(name)]
        old = self.viewer(model).model
        done = retrain(old, book.root, decided, target, progress)
        return self._named(done.model), done.sentence()

    def train_dropped(
        self, name: str, classes: dict[str, list[Path]], progress: Progress | None = None
    ) -> str:
        """Train on images dropped into classes; copies of them are kept among wordsight's own
        files. Return the model's name.

        Args:
            name: what the model will be called.
            classes: class name -> uploaded files.
            progress: called with (done, total, what).

        Raises:
            InvalidArgument: if a name that can't be one, or too few images.
        """
        for text in (name, *classes):
            if not NAME.fullmatch(text):
                raise InvalidArgument(
                    "A name is 1 to 80 letters, digits, blanks, dots and dashes, and begins "
                    f"with a letter or digit; got '{text[:100]}'."
                )
        if len(classes) < 2:
            raise InvalidArgument(
                "Two classes at least are needed, such as cat and dog, or brick and not_brick."
            )
        root = images_folder() / "page" / name
        target = models_folder() / name
        if target.exists() or root.exists() or name in RESERVED or is_device(name):
            raise InvalidArgument(
                f"The name '{name}' is taken already. Choose another, such as '{name} 2'."
            )
        try:
            with writing(root):
                for label, files in classes.items():
                    for number, file in enumerate(files):
                        write_atomic(
                            root
                            / label
                            / f"{number:05d}-{short_stem(file.stem, 80)}{file.suffix.lower()[:10]}",
                            read_regular(file),
                        )
            return self._named(train(root, target, progress=progress))
        except BaseException:  # a refusal or Ctrl-C: the name is free again
            shutil.rmtree(root, ignore_errors=True)
            raise

    def train_words(
        self,
        words: str,
        photos: Iterable[Path],
        gather: bool,
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ) -> str:
        """Make a model from words and photos without labels, or from images gathered for the
        words; return its name.

        Raises:
            InvalidArgument, UnknownWord, NothingGathered: see `run`.
        """
        found = find_images(list(photos))
        request = ClassifierRequest(
            parse_classes(words),
            gather=gather,
            progress=progress,
            say=say or (lambda _: None),
        )
        return self._named(find_or_make(request, found.images))

    def compare(
        self, first: str, second: str, threshold: float | None, progress: Progress | None = None
    ) -> list[tuple[str, Prediction, Prediction]]:
        """Return what two models say of the data folder's images: (file name, first's,
        second's), where they differ most first.
        """
        images = list(self.book.images.values())[:MOST_IMAGES]
        said = []
        for number, name in enumerate((first, second)):
            model = self.viewer(name).model
            embedder, told = model.embedder, []
            for done, item in enumerate(embedder.embed_all(images), start=1):
                told.append(
                    None
                    if item.embedding is None
                    else model.decide(item.file.name, item.embedding, threshold)
                )
                if progress:
                    progress(
                        number * len(images) + done, 2 * len(images), "pictures, by two models"
                    )
            said.append(told)
        both = [
            (image.name, a, b)
            for image, a, b in zip(images, *said, strict=True)
            if a is not None and b is not None
        ]
        return sorted(
            both,
            key=lambda row: (
                row[1].label == row[2].label,
                row[1].top_label == row[2].top_label,
                row[0],
            ),
        )

    def learned_from_folder(self, name: str) -> bool:
        """Whether a model learned from images of the data folder, as far as this machine knows."""
        root = self.book.root
        places = noted_sources(self.viewer(name).model.record.data_fingerprint) or ()
        paths = [Path(place).resolve() for place, _ in places]
        return any(root.is_relative_to(path) or path.is_relative_to(root) for path in paths)

    def known_classes(self, name: str) -> set[str]:
        """Return the classes of a model as they are compared."""
        return {fold(one) for one in self.viewer(name).model.class_names}

    def _paths(self) -> dict[str, Path]:
        found = {} if self._given is None else {self._given.name: self._given}
        for folder, names, _ in list_models():
            if self._given is None or folder.resolve() != self._given.resolve():
                found.setdefault(self._name(folder, names), folder)
        return found

    def _class_names(self) -> list[str]:
        return [] if self._given is None else self._open[self._given][1].model.class_names

    def _named(self, model: Classifier) -> str:
        path = model.record.path
        assert path is not None  # it was loaded
        return next(
            (name for name, folder in self._paths().items() if folder.resolve() == path.resolve()),
            path.name,
        )

    @staticmethod
    def _name(folder: Path, class_names: list[str]) -> str:
        return (
            f"{folder.name} ({', '.join(class_names[:3])}{', …' if len(class_names) > 3 else ''})"
        )


def find_one(book: ReviewBook, name: str) -> Path:
    """Return where an image of a folder is.

    Raises:
        InvalidArgument: if the folder has none of that name.
    """
    try:
        return book.images[name].path
    except KeyError:
        raise InvalidArgument(f"There is no picture '{name}'.") from None
