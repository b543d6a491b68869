"""Learn classes from annotated images, and give their classifier a head for boxes: show what it
learns from, train it, note how well it does.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...backbones.backbone import DEFAULT_BACKBONE, Backbone
from ...backbones.embedder import Embedder
from ...backbones.registry import load_backbone
from ...backbones.runtime import check_multiscale
from ...classification.classifier import Classifier, load
from ...classification.model_folder import check_model_target, write_model
from ...core.home import expand, first_process
from ...core.progress import Progress
from ...core.result_folder import ResultFolder
from ...core.threads import say_interrupted
from ...datasets.annotations import Annotated, BoxSet
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
from .fit import FEWEST, check_backbone, one_batch, train_boxes
from .keeping import Keeper, identity, keeping
from .objects import train_objects
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
    model: Classifier, annotated: BoxSet, settings: TrainingSettings, progress: Progress | None
) -> None:
    """Train a head for boxes for a model, and save the model where its record says.

    Raises:
        InvalidArgument: see `add_boxes`.
        OutputError: if something can't be written.
    """
    assert model.record.path is not None
    target = model.record.path.absolute()
    add = add_objects if _many(annotated, settings) else add_boxes
    sheets = add(model, annotated, target, model.embedder, settings.seed, progress)
    if first_process():
        write_model(model, target, sheets)
        if training_folder(target).exists():
            clear_work_folder(training_folder(target), settings.checkpoints or settings.tensorboard)


def _names(annotated: BoxSet) -> list[str]:
    """Return the classes of the images to learn from, each by its largest object."""
    return sorted({str(image.file.label) for image in check_images(annotated)})


def _many(annotated: BoxSet, settings: TrainingSettings) -> bool:
    """Whether all objects of a picture are learned: as asked, or if a picture holds several."""
    if settings.objects is not None:
        return settings.objects == "many"
    return any(len(image.boxes) > 1 for image in annotated.images)


def add_boxes(
    model: Classifier,
    annotated: BoxSet,
    target: Path,
    embedder: Embedder,
    seed: int,
    progress: Progress | None,
) -> dict[str, bytes]:
    """Train a box head for a model, whose class answers stay as they are, and return sheets for its
    plots, PNG by name.

    Before training, a batch as it is learned from is drawn beside the model's folder `target`, so
    that wrong boxes are seen.

    Raises:
        InvalidArgument: if there are too few images, boxes can't be learned on the backbone,
            another run writes beside the model at this moment, or the training's folder is
            somebody else's.
        OutputError: if the sheet can't be written.
    """
    check_backbone(model.backbone)
    images = check_images(annotated)
    batch = batch_sheet(one_batch(images, model, seed))
    weights = hashlib.sha256(model.head.weight.tobytes()).hexdigest()
    key = identity("one", images, embedder, seed, model.class_names, weights)
    with _learning(batch, target, key) as keeper:
        trained = train_boxes(model, images, embedder, seed, progress, keeper)
    model.box_head = trained.head
    model.record.boxes = replace(trained.record(), skipped=annotated.skipped)
    if trained.mask_threshold is not None:
        model.record.mask_threshold = trained.mask_threshold
    overlaps = paired_iou(trained.found, trained.truth).tolist()
    rows = [
        (p.file, t, f, o)
        for p, t, f, o in zip(trained.held_out, trained.truth, trained.found, overlaps, strict=True)
    ]
    return {"boxes_batch.png": batch, "boxes.png": truth_sheet(rows)}


def add_objects(
    model: Classifier,
    annotated: BoxSet,
    target: Path,
    embedder: Embedder,
    seed: int,
    progress: Progress | None,
) -> dict[str, bytes]:
    """Train an object head for a model; otherwise as `add_boxes`.

    Raises:
        InvalidArgument: as `add_boxes`.
        OutputError: if the sheet can't be written.
    """
    check_backbone(model.backbone)
    images = check_images(annotated)
    batch = batch_sheet(one_batch_of_many(images, embedder, seed))
    key = identity("many", images, embedder, seed)
    with _learning(batch, target, key) as keeper:
        trained = train_objects(images, embedder, seed, progress, keeper)
    model.object_head = trained.head
    model.record.objects = replace(trained.record, skipped=annotated.skipped)
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
    return {"objects_batch.png": batch, "objects.png": objects_sheet(rows)}


@contextmanager
def _learning(batch: bytes, target: Path, key: str) -> Iterator[Keeper]:
    """Show a batch beside the model's folder while it is learned from, and keep in the training's
    folder what an interrupted training goes on from.

    Raises:
        InvalidArgument: if the training's folder is somebody else's, or another run uses it.
        OutputError: if the batch can't be written.
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
        with keeping(training_folder(target), key) as keeper:
            try:
                yield keeper
            except KeyboardInterrupt:
                if not keeper.keeps:
                    say_interrupted(
                        "Interrupted while learning boxes, of which nothing is kept: the same "
                        "command learns them anew."
                    )
                raise
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
