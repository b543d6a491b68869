"""Give a classifier a box head: show what it learns from, train it, note how well it does."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...backbones.embedder import Embedder
from ...classification.classifier import Classifier
from ...core.home import first_process
from ...core.result_folder import ResultFolder
from ...core.threads import interrupted_with
from ...datasets.annotations import Annotated, BoxSet
from ...datasets.files import ImageFile
from ...errors import InvalidArgument, WordsightError
from ...heads.objects import OBJECT_THRESHOLD
from ...metrics.boxes import paired_iou
from ...metrics.detection import matches
from ...reports.box_sheets import batch_sheet, objects_sheet, truth_sheet
from .fit import FEWEST, check_backbone, one_batch, train_boxes
from .objects import TrainedObjects, train_objects
from .samples import one_batch_of_many
from .scenes import compose_scenes

log = logging.getLogger("wordsight")
INTERRUPTED = (
    "Interrupted while learning boxes, of which nothing is kept: the same command learns them anew."
)


def add_boxes(
    model: Classifier,
    annotated: BoxSet,
    target: Path,
    embedder: Embedder,
    seed: int,
    progress: Callable[[int, int, str], None] | None,
) -> dict[str, bytes]:
    """Train a box head for a model, whose class answers stay as they are, and return sheets for its
    plots, PNG by name.

    Before training, a batch as it is learned from is drawn beside the model's folder `target`, so
    that wrong boxes are seen.

    Raises:
        InvalidArgument: if there are too few images, boxes can't be learned on the backbone, or
            another run writes beside the model at this moment.
        OutputError: if the sheet can't be written.
    """
    check_backbone(model.backbone)
    images = check_images(annotated)
    batch = batch_sheet(one_batch(images, model, seed))
    with _shown_beside(batch, target):
        trained = train_boxes(model, images, embedder, seed, progress)
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
    progress: Callable[[int, int, str], None] | None,
) -> dict[str, bytes]:
    """Train an object head for a model; otherwise as `add_boxes`.

    Raises:
        InvalidArgument: as `add_boxes`.
        OutputError: if the sheet can't be written.
    """
    check_backbone(model.backbone)
    images = check_images(annotated)
    batch = batch_sheet(one_batch_of_many(images, embedder, seed))
    with _shown_beside(batch, target):
        trained = train_objects(images, embedder, seed, progress)
    model.object_head = trained.head
    model.record.objects = replace(trained.record, skipped=annotated.skipped)
    return {"objects_batch.png": batch, "objects.png": _objects_shown(trained)}


def add_objects_of_cutouts(
    model: Classifier,
    files: Sequence[ImageFile],
    target: Path,
    embedder: Embedder,
    seed: int,
    progress: Callable[[int, int, str], None] | None,
) -> dict[str, bytes]:
    """Train an object head for a model on scenes composed of what is cut out of labelled images,
    without any box; otherwise as `add_boxes`.

    Raises:
        InvalidArgument: as `add_boxes`, or if too little can be cut out.
        OutputError: if the sheet can't be written.
    """
    check_backbone(model.backbone)
    with interrupted_with(INTERRUPTED):
        scenes = compose_scenes(model, files, embedder, seed, progress)
    batch = batch_sheet(one_batch_of_many(scenes.images, embedder, seed))
    with _shown_beside(batch, target):
        trained = train_objects(scenes.images, embedder, seed, progress, scenes.judging)
    # tiles are for photos larger than those that things were cut out of
    model.object_head = replace(trained.head, learned_side=scenes.side)
    model.record.objects = replace(
        trained.record, cutouts=scenes.cutouts, unreadable=scenes.unreadable
    )
    return {"objects_batch.png": batch, "objects.png": _objects_shown(trained)}


def _objects_shown(trained: TrainedObjects) -> bytes:
    """Return a PNG of true objects beside those that a first head found."""
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
    return objects_sheet(rows)


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
        with interrupted_with(INTERRUPTED):
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
