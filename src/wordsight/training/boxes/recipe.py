"""Learn classes from annotated images, and give their classifier a head for boxes: show what it
learns from, train it, note how well it does.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...backbones.backbone import DEFAULT_BACKBONE, Backbone
from ...backbones.registry import load_backbone
from ...backbones.runtime import check_multiscale
from ...classification.classifier import Classifier, load
from ...classification.model_folder import check_model_target, write_model
from ...core.home import expand, first_process
from ...core.progress import Progress
from ...core.result_folder import ResultFolder
from ...core.threads import say_interrupted
from ...datasets.annotations import Annotated, BoxSet
from ...datasets.files import ImageFile
from ...datasets.labelled import LabelledSet
from ...datasets.training_set import against_catch_all
from ...errors import InvalidArgument, WordsightError
from ...heads.objects import OBJECT_THRESHOLD
from ...metrics.boxes import paired_iou
from ...metrics.detection import matches
from ...reports.box_sheets import batch_sheet, objects_sheet, truth_sheet
from ...words.class_names import check_class_names
from ..settings import TrainingSettings
from ..work_folder import check_work_folder, clear_work_folder, training_folder
from .backgrounds import backgrounds
from .fit import FEWEST, check_backbone, judge_boxes, one_batch, train_boxes
from .keeping import Circumstances, identity, keeping
from .objects import TrainedObjects, judge_objects, train_objects
from .samples import one_batch_of_many

log = logging.getLogger("wordsight")


def check_boxes(
    annotated: BoxSet,
    recipe: str,
    backbone: str | Backbone | None,
    positive: str | None,
    settings: TrainingSettings,
) -> TrainingSettings:
    """Refuse, before anything is learned, what boxes can't be learned from or on; return the
    settings: of the boxes of one class alone, all are learned, unless otherwise asked.

    Args:
        annotated: images with boxes.
        recipe: how the classes are learned.
        backbone: the network to learn on, None for the default.
        positive: the one class asked for, or None.
        settings: as asked for.

    Raises:
        InvalidArgument: if there are too few images, the classes' names are not allowed, or boxes
            can't be learned on the backbone.
    """
    names = _names(annotated)
    check_class_names(names)
    if len(names) == 1 and positive is None and settings.objects is None:
        settings = replace(settings, objects="many")
    if recipe != "scratch":
        network = load_backbone(backbone or DEFAULT_BACKBONE)
        check_backbone(network)
        if _many(annotated, settings):
            check_multiscale(network)
    return settings


@contextmanager
def classes_of(
    annotated: BoxSet, positive: str | None, negatives: str | os.PathLike | None, seed: int
) -> Iterator[LabelledSet]:
    """Yield annotated images as a set of classes to train on. One class alone is set against parts
    of the same images where nothing is marked.

    Args:
        annotated: images with boxes.
        positive: the one class asked for, or None.
        negatives: a folder of further images of anything else, or None.
        seed: decides which parts.

    Raises:
        InvalidArgument: if there is nothing to tell a class from.
        OutputError: if the parts can't be written.
    """
    names = _names(annotated)
    labelled = LabelledSet([p.file for p in annotated.images if p.file.label in names], names)
    if positive is not None:
        folder = None if negatives is None else expand(negatives)
        yield against_catch_all(labelled, positive, folder)
    elif len(names) == 1:
        log.info(
            "All pictures show '%s', so they are told from parts of them where nothing is marked. "
            "Other pictures teach that better: --positive %s --negatives FOLDER.",
            *(names[0], names[0]),
        )
        with backgrounds(check_images(annotated), seed) as folder:
            yield against_catch_all(labelled, names[0], folder)
    else:
        yield labelled


def load_for_boxes(
    annotated: BoxSet, output: str | os.PathLike | None, settings: TrainingSettings
) -> Classifier:
    """Return the model that boxes are to be added to, which is to be saved where `output` says.

    Raises:
        InvalidArgument: if there are too few images, or somebody else's files are in the way.
        NotFound, InvalidModel, BackboneUnavailable: as in `load`.
    """
    assert settings.from_model is not None
    check_images(annotated)
    model = load(settings.from_model)
    target = expand(output if output is not None else settings.from_model)
    check_model_target(target)
    if first_process():
        check_work_folder(training_folder(target))
    model.record.path = target
    return model


def learn_boxes(
    model: Classifier,
    annotated: BoxSet,
    settings: TrainingSettings,
    progress: Progress | None,
    frozen: Callable[[], Classifier] | None = None,
) -> Classifier:
    """Train a head for boxes for a model, save it where the model's record says, and return it.

    Args:
        model: the classifier.
        annotated: images with boxes.
        settings: how many boxes of an image are learned, and the seed.
        progress: called with (done, total, what).
        frozen: where the model's network was fine-tuned, returns the classifier on the network as
            it was before. It is saved instead if boxes are worse on the fine-tuned one, on images
            that neither the network nor the heads have learned from.

    Raises:
        InvalidArgument: if there are too few images, boxes can't be learned on the backbone,
            another run writes beside the model at this moment, or the training's folder is
            somebody else's.
        OutputError: if something can't be written.
    """
    assert model.record.path is not None
    target, images = model.record.path.absolute(), check_images(annotated)
    check_backbone(model.backbone)
    learning = _Learning(images, _many(annotated, settings), settings.seed, target, progress)
    with _shown_beside(learning.batch(model), target):
        if frozen is not None:
            model = learning.better(model, frozen())
        sheets = learning.train(model, annotated.skipped)
    if first_process():
        write_model(model, target, sheets)
        if training_folder(target).exists():
            clear_work_folder(training_folder(target), settings.checkpoints or settings.tensorboard)
    return model


def _names(annotated: BoxSet) -> list[str]:
    """Return the classes of the images to learn from, each by its largest object."""
    return sorted({str(image.file.label) for image in check_images(annotated)})


def _many(annotated: BoxSet, settings: TrainingSettings) -> bool:
    """Whether all objects of a picture are learned: as asked, or if a picture holds several."""
    if settings.objects is not None:
        return settings.objects == "many"
    return any(len(image.boxes) > 1 for image in annotated.images)


@dataclass
class _Learning:
    """Annotated images that boxes are learned from.

    Attributes:
        images: to learn from.
        many: whether all objects of an image are learned, or the largest.
        seed: of everything random.
        target: the model's folder.
        progress: called with (done, total, what).
        judges: names of the images to judge a first head on; None: a fifth of them.
    """

    images: list[Annotated]
    many: bool
    seed: int
    target: Path
    progress: Progress | None
    judges: frozenset[str] | None = None
    _keys: list[str] = field(default_factory=list)  # of all trainings, if they are several

    def batch(self, model: Classifier) -> bytes:
        """Return a drawing of a batch as it is learned from."""
        if self.many:
            return batch_sheet(one_batch_of_many(self.images, model.embedder, self.seed))
        return batch_sheet(one_batch(self.images, model, self.seed))

    def better(self, tuned: Classifier, frozen: Classifier) -> Classifier:
        """Return the classifier to keep: on the fine-tuned network, unless boxes are worse there,
        on the images that were held out while it was fine-tuned.
        """
        assert tuned.held_out is not None
        self.judges = frozenset(tuned.held_out.file_names)
        self._keys = [self._key(tuned), self._key(frozen)]
        told, figures = [], []
        for name, model in (("fine-tuned", tuned), ("frozen", frozen)):
            with self._circumstances(model) as how:
                if self.many:
                    figure, count = judge_objects(self.images, model.embedder, how)
                else:
                    figure, count = judge_boxes(model, self.images, model.embedder, how)
            figures.append(figure)
            told.append(f"{figure:.3f} on the {name} network")
        measure = "average precision over IoU 0.5:0.95" if self.many else "mean IoU"
        kept = tuned if figures[0] >= figures[1] else frozen
        name = "fine-tuned" if kept is tuned else "frozen"
        note = f"Boxes of {count} held-out pictures, {measure}: {' and '.join(told)}."
        kept.record.fine_tuning = f"{note} The {name} one is kept, for classes, too."
        kept.record.validation_loss = tuned.record.validation_loss
        kept.record.path = tuned.record.path
        log.info("%s", kept.record.fine_tuning)
        return kept

    def train(self, model: Classifier, skipped: list[tuple[str, str]]) -> dict[str, bytes]:
        """Give a model its head, whose record lists what was skipped of the annotations; return
        sheets for its plots, PNG by name.
        """
        batch = self.batch(model)
        with self._circumstances(model) as how:
            if self.many:
                objects = train_objects(self.images, model.embedder, how)
            else:
                boxes = train_boxes(model, self.images, model.embedder, how)
        if self.many:
            model.object_head = objects.head
            model.record.objects = replace(objects.record, skipped=skipped)
            return {"objects_batch.png": batch, "objects.png": objects_sheet(_rows(objects))}
        model.box_head = boxes.head
        model.record.boxes = replace(boxes.record(), skipped=skipped)
        if boxes.mask_threshold is not None:
            model.record.mask_threshold = boxes.mask_threshold
        overlaps = paired_iou(boxes.found, boxes.truth).tolist()
        pairs = zip(boxes.held_out, boxes.truth, boxes.found, overlaps, strict=True)
        rows = [(image.file, truth, found, overlap) for image, truth, found, overlap in pairs]
        return {"boxes_batch.png": batch, "boxes.png": truth_sheet(rows)}

    def _key(self, model: Classifier) -> str:
        weights = hashlib.sha256(model.head.weight.tobytes()).hexdigest()
        more = [self.many, self.seed, sorted(self.judges or ()), model.class_names, weights]
        return identity(self.images, model.embedder, *more)

    @contextmanager
    def _circumstances(self, model: Classifier) -> Iterator[Circumstances]:
        """Hold the training's folder, and keep in it what an interrupted training on a model's
        backbone goes on from, beside what others of this run have kept.
        """
        folder = training_folder(self.target)
        with keeping(folder, self._key(model), self._keys) as keeper:
            try:
                yield Circumstances(self.seed, self.judges, keeper, self.progress)
            except KeyboardInterrupt:
                if not keeper.keeps:
                    say_interrupted(
                        "Interrupted while learning boxes, of which nothing is kept: the same "
                        "command learns them anew."
                    )
                raise


def _rows(trained: TrainedObjects) -> list[tuple[ImageFile, np.ndarray, np.ndarray, int]]:
    """Return of each held-out image the file, true boxes and those found, in fractions, and how
    many are wrong.
    """
    rows = []
    for image, (known, found) in zip(trained.held_out, trained.found, strict=True):
        sure = [one for one in found if one[1] >= OBJECT_THRESHOLD]
        right = int(matches(known, sure).sum())
        height, width = image.size
        truth, boxes = (
            np.array([one[-1] for one in some]).reshape(-1, 4) / [width, height, width, height]
            for some in (known, sure)
        )
        rows.append((image.file, truth, boxes, len(known) + len(sure) - 2 * right))
    return rows


@contextmanager
def _shown_beside(batch: bytes, target: Path) -> Iterator[None]:
    """Show a batch beside the model's folder while it is learned from.

    Raises:
        OutputError: if it can't be written.
    """
    beside = ResultFolder(target.parent, f"{target.name} boxes")
    if first_process():
        before = _free_name(beside, target)
        beside.write([(before, batch)])
        log.info(
            "See whether the boxes are right: '%s' shows a batch as it is learned from.",
            target.with_name(before),
        )
    try:
        yield
    finally:
        if first_process():
            with suppress(WordsightError):  # another run writes there; the next one removes it
                beside.write([])


def check_images(annotated: BoxSet) -> list[Annotated]:
    """Return the images to learn from: all that are not marked "test".

    Raises:
        InvalidArgument: if they are too few.
    """
    images = [image for image in annotated.images if image.file.split != "test"]
    if len(images) < FEWEST:
        raise InvalidArgument(
            f"Boxes need at least {FEWEST} annotated pictures to learn from, got {len(images)}."
        )
    return images


def _free_name(beside: ResultFolder, target: Path) -> str:
    """Return the name of the batch's drawing beside the model's folder, over nothing that is
    somebody else's.
    """
    names = itertools.chain(
        [f"{target.name}-boxes.png"],
        (f"{target.name}-boxes-{number}.png" for number in itertools.count(2)),
    )
    return next(
        name
        for name in names
        if beside.is_ours(name) or not os.path.lexists(target.with_name(name))
    )
