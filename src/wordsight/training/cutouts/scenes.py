"""The scenes that an object head learns from where nobody drew boxes: photos are looked at once,
their objects cut out, and scenes composed of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...backbones.embedder import Embedder, read
from ...backbones.runtime import callers
from ...classification.classifier import Classifier
from ...core.progress import Progress
from ...core.threads import parallel_map
from ...datasets.annotations import Annotated
from ...datasets.files import ImageFile
from ...errors import InvalidArgument, UnreadableImage, some_of
from ...images.decoding import decode
from .composing import compose
from .cutting import Cutout, cut_out

SCENES, OF_A_CLASS, MOST_SCENES = 320, 40, 2000  # at least; for each class; at most
MOST_PHOTOS = 600  # that objects are cut out of; each takes up to a megabyte, in memory
HELD_OUT = 5  # every fifth cutout of a class is in scenes that a first head is judged on
FEWEST_WHOLE = 5  # cutouts of a class, or those of doubtful ones are taken, too
FEWEST = 5  # cutouts in all


@dataclass(frozen=True)
class Scenes:
    """Composed scenes, and what they were composed of.

    Attributes:
        images: the scenes.
        judging: those of them whose cutouts are in no other scene.
        cutouts: how many objects were cut out.
        side: pixels, the side of a square of as many as the median photo has.
        unreadable: (name, reason) of photos that could not be read.
    """

    images: list[Annotated]
    judging: list[Annotated]
    cutouts: int
    side: float
    unreadable: list[tuple[str, str]]


def compose_scenes(
    model: Classifier,
    files: Sequence[ImageFile],
    embedder: Embedder,
    seed: int,
    progress: Progress | None,
) -> Scenes:
    """Cut an object out of each labelled photo, and compose scenes of them.

    Args:
        model: the classifier that knows the labels.
        files: labelled photos; those of a class that means "anything else" are left out.
        embedder: the model's backbone.
        seed: the same seed gives the same scenes.
        progress: called with (done, total, what).

    Raises:
        InvalidArgument: if fewer than five objects can be cut out.
    """
    nothing = {model.class_names[i] for i in (model.catch_all, model.nothing) if i is not None}
    wanted = [file for file in files if file.split != "test" and file.label not in nothing]
    chosen = _evenly(wanted, np.random.default_rng(seed))
    cutouts, areas, unreadable = _cut_all(model, chosen, embedder, progress)
    if len(cutouts) < FEWEST:
        raise InvalidArgument(
            f"Objects could be cut out of {len(cutouts)} of {len(chosen)} pictures, and it takes "
            f"{FEWEST}. Add pictures with one object each, or boxes with --boxes ANNOTATIONS."
        )
    lost = {str(file.label) for file in wanted} - {one.label for one in cutouts}
    if lost:
        logging.getLogger("wordsight").warning(
            "Nothing could be cut out of the pictures of %s, so it is never found.",
            some_of(sorted(lost)),
        )
    known, held = _apart(cutouts)
    count = min(MOST_SCENES, max(SCENES, OF_A_CLASS * len({one.label for one in cutouts})))
    judged_on = compose(held, count // HELD_OUT, seed + 1, "judged scene") if held else []
    scenes = compose(known, count - len(judged_on), seed)
    side = float(np.median(np.sqrt(areas)))
    return Scenes([*scenes, *judged_on], judged_on, len(known) + len(held), side, unreadable)


def _evenly(files: Sequence[ImageFile], rng: np.random.Generator) -> list[ImageFile]:
    """Return some of the photos where they are too many, of each class about as many."""
    by_label: dict[str, list[ImageFile]] = {}
    for index in rng.permutation(len(files)).tolist():
        by_label.setdefault(str(files[index].label), []).append(files[index])
    each = max(FEWEST_WHOLE, math.ceil(MOST_PHOTOS / max(1, len(by_label))))
    return sorted(
        (file for some in by_label.values() for file in some[:each]), key=lambda file: file.name
    )


def _cut_all(
    model: Classifier, files: list[ImageFile], embedder: Embedder, progress: Progress | None
) -> tuple[list[Cutout], list[int], list[tuple[str, str]]]:
    """Return what could be cut out, the areas of the photos in pixels, and (name, reason) of those
    that can't be read.
    """

    def cut(file: ImageFile) -> tuple[Cutout | None, int] | tuple[str, str]:
        try:
            photo = decode(read(file)[0])
        except UnreadableImage as error:
            return file.name, str(error)
        weight = model.head.weight[model.class_names.index(str(file.label))]
        found = cut_out(
            photo.image, str(file.label), weight, embedder.encode(photo, feature_map=True)
        )
        return found, math.prod(photo.size)

    cutouts, areas, unreadable = list[Cutout](), list[int](), list[tuple[str, str]]()
    for done, (one, told) in enumerate(parallel_map(cut, files, callers(embedder.engine)), start=1):
        if isinstance(told, str):
            unreadable.append((str(one), told))
        else:
            areas.append(told)
        if isinstance(one, Cutout):
            cutouts.append(one)
        if progress:
            progress(done, len(files), "pictures, objects cut out")
    return cutouts, areas, unreadable


def _apart(cutouts: list[Cutout]) -> tuple[list[Cutout], list[Cutout]]:
    """Return the cutouts to learn from, and those of scenes that a head is judged on."""
    known, held = list[Cutout](), list[Cutout]()
    for label in sorted({one.label for one in cutouts}):
        every = [one for one in cutouts if one.label == label]
        whole = [one for one in every if one.whole]
        # the more solid half: photos with a label alone may show several objects
        least = float(np.median([one.solidity for one in whole])) if whole else 0.0
        solid = [one for one in whole if one.solidity >= least]
        some = next((kept for kept in (solid, whole) if len(kept) >= FEWEST_WHOLE), every)
        held += some[HELD_OUT - 1 :: HELD_OUT]
        known += [one for number, one in enumerate(some) if number % HELD_OUT != HELD_OUT - 1]
    return known, held
