"""Train a model again, from the images it learned from and from corrections, and keep the new one
only if it is at least as good.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..backbones.embedder import read
from ..classification.classifier import Classifier
from ..classification.record import WORDS_RECIPE
from ..core.progress import Progress
from ..datasets.annotations import read_labels, read_together
from ..datasets.files import ImageFile, find_images
from ..datasets.labelled import LabelledSet, relabel
from ..errors import InvalidArgument, NotFound, UnreadableImage
from ..words.class_names import fold
from .recipes import fit_labelled, register
from .request import TrainingRequest
from .sources import noted_sources


@dataclass(frozen=True)
class Retrained:
    """The outcome of training a model again.

    Attributes:
        model: the better one of the two.
        kept: whether that is the new one.
        before: share of the judging images that the old model was right on, 0–1.
        after: the same of the new one.
        judged: how many images judged both; neither had learned from them.
    """

    model: Classifier
    kept: bool
    before: float
    after: float
    judged: int

    def sentence(self) -> str:
        """Return in words which model is kept, and why."""
        figures = (
            f"on {self.judged} pictures that neither had learned from, {self.after:.1%} right "
            f"instead of {self.before:.1%}"
        )
        if self.kept:
            return f"The new model is kept: {figures}."
        return f"The old model stays, for the new one is worse: {figures}."


def retrain(
    old: Classifier,
    folder: Path,
    decided: Iterable[ImageFile],
    target: Path,
    progress: Progress | None = None,
) -> Retrained:
    """Train a probe on what a model learned from and on a labelled folder; save it if it is at
    least as good as the old model.

    Both are judged on the same images: the old model by its answers from cross-validation, or,
    on images that it did not learn from, by its answers now.

    Args:
        old: the model.
        folder: corrected images; their labels count where the model learned from the same image.
        decided: images of the folder that a person has decided on, rejected ones included.
        target: the new model's folder.
        progress: called with (done, total, what).

    Raises:
        InvalidArgument: if the images that the model learned from can't be found any more.
    """
    known, places, fixed = _learned_from(old, folder)
    data = _together(old, [*places, folder], folder, fixed)
    hashes = {image.path: digest for image in data.images if (digest := _hash(image))}
    corrected = {hashes.get(i.path) for i in data.images if i.path.is_relative_to(folder)}
    corrected |= {_hash(image) for image in decided}
    images = [
        image
        for image in data.images
        if image.path.is_relative_to(folder) or hashes.get(image.path) not in corrected
    ]
    request = TrainingRequest(
        replace(data, images=images),
        target,
        backbone=old.backbone if old.record.recipe in ("probe", WORDS_RECIPE) else None,
        sources=[*((str(place), None) for place in places), (str(folder), None), *fixed],
        progress=progress,
    )
    new = fit_labelled(request)
    said = _answers(old, images, {_hash(image): image.name for image in known}, hashes)
    assert new.held_out is not None
    judged = new.held_out
    held_out = zip(judged.file_names, judged.labels, judged.top_labels, strict=True)
    rows = [(said[name] == truth, top == truth) for name, truth, top in held_out if name in said]
    if not rows:
        raise InvalidArgument("No picture is left to compare the two models on. Review some more.")
    before, after = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    if after < before:
        return Retrained(old, False, before, after, len(rows))
    new.save(target)
    register(target)
    new.record.path = target
    return Retrained(new, True, before, after, len(rows))


def _learned_from(
    old: Classifier, folder: Path
) -> tuple[list[ImageFile], list[Path], list[tuple[str, str]]]:
    """Return the images that a model learned from, the places other than `folder` they lie in,
    and the places whose images all have one class.
    """
    if old.record.recipe == WORDS_RECIPE:
        return [], [], []  # it learned from no labelled image
    sources = noted_sources(old.record.data_fingerprint)
    if not sources:
        raise InvalidArgument(
            "This machine has no note of where the pictures lie that the model learned from, and "
            "the corrections alone would make it forget them. Train anew on both: 'wordsight run "
            f"-c CLASSES --data OLD --data {folder}'."
        )
    own = [Path(place) for place, label in sources if label is None]
    fixed = [(place, label) for place, label in sources if label is not None]
    try:
        known = _together(old, own, None, fixed).images
    except (NotFound, InvalidArgument) as error:
        raise InvalidArgument(
            "The pictures that the model learned from can't be found any more, and the "
            f"corrections alone would make it forget them: {error}"
        ) from None
    return known, [place for place in own if place.resolve() != folder.resolve()], fixed


def _together(
    old: Classifier,
    places: list[Path],
    folder: Path | None,
    fixed: list[tuple[str, str]],
) -> LabelledSet:
    """Return the images of all places under the model's classes; only `folder` adds classes."""
    read_set = read_labels(places[0], min_classes=1) if len(places) == 1 else read_together(places)
    names = list(old.class_names)
    catch_all = None if old.catch_all is None else names[old.catch_all]
    if catch_all is None and folder is not None:
        known = {fold(name) for name in names}
        names += sorted(
            {
                str(image.label)
                for image in read_set.images
                if image.path.is_relative_to(folder) and fold(str(image.label)) not in known
            }
        )
    data = relabel(read_set, names, catch_all)
    more = [
        ImageFile(image.path, f"{Path(place).name}/{image.name}", label)
        for place, label in fixed
        for image in find_images([place]).images
    ]
    return replace(data, images=[*data.images, *more])


def _answers(
    old: Classifier,
    images: list[ImageFile],
    known: dict[bytes | None, str],
    hashes: dict[Path, bytes],
) -> dict[str, str]:
    """Return what the old model says of images that it had not learned from, by name; of those it
    had, what cross-validation said.
    """
    judged = old.held_out
    noted = {} if judged is None else dict(zip(judged.file_names, judged.top_labels, strict=True))
    said, fresh = {}, []
    for image in images:
        before = known.get(hashes.get(image.path))
        if before is None:
            fresh.append(image)
        elif before in noted:
            said[image.name] = noted[before]
    for item in old.embedder.embed_all(fresh):
        if item.embedding is not None:
            said[item.file.name] = str(old.decide(item.file.name, item.embedding, None).top_label)
    return said


def _hash(image: ImageFile) -> bytes | None:
    try:
        return read(image)[1]
    except UnreadableImage:
        return None
