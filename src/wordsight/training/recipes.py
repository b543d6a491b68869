"""Train a classifier from labelled images, by any recipe, and find the models made before."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backbones.backbone import Backbone
from ..backbones.devices import EXTRA, gpu_likely, has_torch, need_torch
from ..classification.classifier import Classifier, load
from ..classification.model_folder import MODEL_FILES, check_model_target
from ..classification.record import DEFAULT_THRESHOLD, ModelRecord, ValidationLoss
from ..core.home import expand, first_process, images_folder, models_folder, write_atomic, writing
from ..core.progress import Progress, or_notebook
from ..core.regular import read_regular, read_text
from ..datasets.annotations import read_boxes, read_labels
from ..datasets.labelled import LabelledSet
from ..datasets.training_set import (
    against_catch_all,
    apart,
    fingerprint,
    gathered,
    judged_on,
    licences,
    set_root,
    usable,
)
from ..datasets.turning import check_exif_has_boxes
from ..errors import InvalidArgument, OutputError
from ..heads.decision import accepts, decide
from ..heads.guarantee import HeldOut, check_precision, keep_promise
from ..heads.linear import FitReport, fit_head
from ..heads.novelty import fit_neighbourhood
from ..heads.pooling import fit_power, pooled
from ..words.class_names import (
    NONE_OF_THESE,
    catch_all_index,
    catch_all_name,
    fold,
    same_classes,
    with_catch_all,
)
from .boxing import check_objects, in_known_classes, refuse_changes
from .request import TrainingRequest
from .settings import TrainingSettings
from .sources import Sources, note_sources
from .work_folder import check_work_folder

if TYPE_CHECKING:
    from .finetuning import Outcome

log = logging.getLogger("wordsight")
MOST_NAMED, MOST_LETTERS = 3, 40  # classes and letters in the name of a model's folder
# parts of folders' names that mean something else here, or to Windows
TAKEN = re.compile(r"words|registered|training|aux|con|nul|prn|(com|lpt)\d")
FEWEST_EVENTS = 20  # of several photos each, that pooled answers are calibrated on
RECIPES = ("probe", "finetune", "scratch", "auto")
WORDS = "words alone"  # supervision of a head that run made for one folder of photos


def train(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    recipe: str = "probe",
    backbone: str | Backbone | None = None,
    positive: str | None = None,
    negatives: str | os.PathLike | None = None,
    precision: float | None = None,
    boxes: str | os.PathLike | None = None,
    exif: str | None = None,
    settings: TrainingSettings | None = None,
    progress: Progress | None = None,
) -> Classifier:
    """Train a classifier from labelled images and save it.

    Images that a `split` column gives to "test" are left out, and, unless `settings.clean` is
    False, duplicate files within a class and files that lie in two classes. Those it gives to
    "val", or else a fifth of each class, judge the recipes that train a network's own weights.

    Args:
        data: a folder with one subfolder a class, or a CSV with columns file_name and label.
        output: model folder; by default one named after the classes, among the models `run` finds.
        recipe: "probe": a linear head on the backbone's embeddings. "finetune": that head, then
            all of the network, kept only if the validation loss falls. "scratch": a network from
            random weights. "auto": "probe", and "finetune" where a GPU or `settings.budget_s`
            allows.
        backbone: a name (embedded, timm's, `hf-hub:` or `local-dir:`), or what `load_backbone`
            returns; for "scratch" a network's name, by default "small_resnet".
        positive: one class against all others; the model then knows it and `not_<it>`, by a
            softmax over the two, which is a sigmoid of the difference of their logits.
        negatives: with `positive`, a folder of further images of anything else.
        precision: choose the threshold so that labels are right at least so often, at 95 %
            confidence; see `Classifier.promise`.
        boxes: annotated boxes (CSV, COCO, VOC, YOLO; see `wordsight.datasets.read_boxes`). They
            then name the images and classes to learn from, and `data` is the images' folder. A
            box head is trained on the same backbone, after the classifier. Without them,
            `settings.objects` "many" learns to find many objects from the labels alone. Boxes of
            one class alone are learned without `positive`, too; whole images are then told from
            parts of them. Of a fine-tuned backbone and the frozen one, the first is kept only if
            boxes are no worse there, either.
        exif: on what boxes are drawn, "upright" or "stored"; see `wordsight.datasets.read_boxes`.
        settings: seed, image size, epochs and the like.
        progress: called with (done, total, what).

    Raises:
        NotFound, InvalidArgument: if the data can't be trained on, or a setting is wrong.
        BackboneUnavailable: if the backbone can't be had.
        OutputError: if the model can't be written.
    """
    settings = settings or TrainingSettings()
    _check(settings, positive, negatives, precision, boxes, exif)
    cut = boxes is None and settings.objects == "many"
    progress = or_notebook(progress)

    def asked(labelled: LabelledSet, settings: TrainingSettings) -> TrainingRequest:
        target = default_model_path(labelled.class_names) if output is None else expand(output)
        request = TrainingRequest(labelled, target, recipe, backbone, settings, precision)
        return replace(request, boxes=boxes is not None, progress=progress)

    if boxes is None and not cut:
        labelled, sources = _labels(data, positive, negatives)
        return train_labelled(replace(asked(labelled, settings), sources=sources))
    from .boxes import recipe as boxed  # takes seconds

    annotated = None if boxes is None else read_boxes(boxes, data, exif)
    if settings.from_model is not None:
        refuse_changes(bool(recipe != "probe" or backbone or positive or precision), settings)
        model = boxed.load_for_boxes(annotated, output, settings)
        if annotated is not None:
            boxed.learn_boxes(model, annotated, settings, progress)
        else:
            known = in_known_classes(read_labels(data, min_classes=1), model.class_names)
            boxed.learn_from_cutouts(model, known.images, settings, progress)
    elif annotated is None:
        boxed.check_for_many(recipe, backbone)
        labelled, sources = _labels(data, positive, negatives)
        model = train_labelled(replace(asked(labelled, settings), sources=sources))
        boxed.learn_from_cutouts(model, labelled.images, settings, progress)
    else:
        settings = boxed.check_boxes(annotated, recipe, backbone, positive, settings)
        with boxed.classes_of(annotated, positive, negatives, settings.seed) as labelled:
            request = asked(labelled, settings)
            if first_process():
                check_work_folder(request.folder)
            model = train_labelled(request)
            tuned = model.record.recipe == "finetune" and settings.continue_from is None
            frozen = functools.partial(fit_labelled, request.for_probe()) if tuned else None
            model = boxed.learn_boxes(model, annotated, settings, progress, frozen)
    if first_process():
        assert model.record.path is not None
        register(model.record.path)
    return model


def _check(
    settings: TrainingSettings,
    positive: str | None,
    negatives: str | os.PathLike | None,
    precision: float | None,
    boxes: str | os.PathLike | None,
    exif: str | None,
) -> None:
    """Refuse settings of `train` that do not go together."""
    objects = boxes is not None or settings.objects == "many"
    if objects:
        need_torch("Learning boxes")
    if settings.from_model is not None and not objects:
        raise InvalidArgument(
            "--from adds boxes to a model, so it needs --boxes ANNOTATIONS or --objects many. To "
            "go on training one, use --continue."
        )
    if negatives is not None and positive is None:
        raise InvalidArgument(
            "--negatives needs --positive: the one class that the others are set against."
        )
    if precision is not None:
        check_precision(precision)
    check_exif_has_boxes(exif, boxes)
    check_objects(settings, boxes)


def _labels(
    data: str | os.PathLike, positive: str | None, negatives: str | os.PathLike | None
) -> tuple[LabelledSet, Sources]:
    """Return labelled images as a set to train on, and where they lie; see `train`."""
    labelled = read_labels(data, min_classes=1 if positive else 2)
    sources: Sources = [(str(expand(data).resolve()), None)]
    if positive is not None:
        folder = None if negatives is None else expand(negatives)
        labelled = against_catch_all(labelled, positive, folder)
        if negatives is not None:
            sources.append((str(expand(negatives).resolve()), labelled.class_names[-1]))
    return labelled, sources


def train_labelled(request: TrainingRequest) -> Classifier:
    """Train from a set already read, and save the model; see `train`.

    Raises:
        InvalidArgument: if the recipe is unknown, or has no use for a setting.
    """
    model = fit_labelled(request)
    if first_process():
        model.save(request.target)
        register(request.target)
    if model.record.validation_loss is not None and not request.boxes:
        from .finetuning import finish

        finish(request.for_weights())
    model.record.path = request.target
    return model


def fit_labelled(request: TrainingRequest) -> Classifier:
    """Train from a set already read, without saving the model; see `train`.

    Raises:
        InvalidArgument: if the recipe is unknown, or has no use for a setting.
    """
    data, recipe, settings = request.data, request.recipe, request.settings
    if recipe not in RECIPES:
        raise InvalidArgument(f"Unknown recipe '{recipe}'. Choose one of: {', '.join(RECIPES)}.")
    if settings.tunes_weights and recipe == "probe":
        raise InvalidArgument(
            "Epochs, learning rate and the like are settings of --recipe finetune, scratch or "
            "auto; a probe has none."
        )
    check_model_target(request.target)
    model = _probe(request) if recipe == "probe" else _train_weights(request)
    passed = {name for name, _ in (*model.record.left_out, *model.record.unreadable)}
    model.record = replace(
        model.record,
        supervision=request.supervision,
        seed=settings.seed,
        threshold=DEFAULT_THRESHOLD,
        dtype=model.embedder.dtype,
        kept_for_test=len(data.images) - len(request.images),
        licences=licences([image for image in request.images if image.name not in passed]),
        unused=data.unused,
        gathered=gathered(set_root(data.images)),
        cleaned=request.cleaned,
    )
    if first_process():
        note_sources(model.record.data_fingerprint, request.sources)
    _judge(model, request.precision)
    return model


def _probe(request: TrainingRequest) -> Classifier:
    """Fit a head to the frozen backbone's embeddings; every image is judged by a head that
    had not seen it.
    """
    names, seed = request.data.class_names, request.settings.seed
    embedder = request.open_embedder()
    every = request.embed(embedder)
    items, left_out = usable(
        [item for item in every if item.embedding is not None], names, request.settings.clean
    )
    embeddings = np.stack([item.embedding for item in items if item.embedding is not None])
    labels = np.array([names.index(str(item.file.label)) for item in items])
    events = request.events_of(items)
    parted = apart(events, labels, names)
    head, report = fit_head(embeddings, labels, len(names), seed, together=parted)
    assert report is not None
    catch_all = catch_all_index(names)
    near = np.ones(len(labels), dtype=bool) if catch_all is None else labels != catch_all
    known = fit_neighbourhood(
        embeddings[near], labels[near], seed, embedder.backbone.concept_head()
    )
    counts = Counter(item.file.label for item in items)
    model = Classifier(names, head, embedder.backbone, known, catch_all=catch_all)
    model.history = [
        dict(zip(("method", "regularisation", "accuracy", "log_loss"), row, strict=True))
        for row in report.candidates
    ]
    model.held_out = _held_out(
        model, report, embeddings, labels, [item.file.name for item in items], events
    )
    model.record = ModelRecord(
        recipe="probe",
        images={name: counts[name] for name in names},
        unreadable=[(item.file.name, str(item.error)) for item in every if item.embedding is None],
        left_out=left_out,
        data_fingerprint=fingerprint(items),
        method=report.method,
        regularisation=report.regularisation,
        judged_on=judged_on(events[report.rows], parted[report.rows]),
        event_power=_event_power(model, report, model.held_out, labels[report.rows]),
        metrics={"accuracy": report.accuracy, "log_loss": report.log_loss}
        | _ranking(model, report.probabilities, labels[report.rows]),
    )
    return model


def _event_power(
    model: Classifier, report: FitReport, held_out: HeldOut, labels: np.ndarray
) -> float | None:
    """Return the power that odds of pooled answers are raised to, from events of several photos
    that heads said without having seen them; None where they are too few.
    """
    assert held_out.events is not None
    rows = report.probabilities
    shows = ~np.isin(
        rows.argmax(axis=1), [i for i in (model.catch_all, model.nothing) if i is not None]
    )
    order = np.argsort(held_out.events, kind="stable")
    starts = np.flatnonzero(np.diff(held_out.events[order])) + 1
    said, right = [], []
    for photos in np.split(order, starts):
        known = photos[~held_out.strangers[photos]]
        if len(photos) < 2 or not len(known) or len(np.unique(labels[photos])) > 1:
            continue
        telling = known[shows[known]] if shows[known].any() else known
        together = pooled(rows[telling], len(photos))
        said.append(float(together.max()))
        right.append(int(together.argmax()) == labels[photos[0]])
    return (
        round(fit_power(np.array(said), np.array(right)), 6) if len(said) >= FEWEST_EVENTS else None
    )


def _held_out(
    model: Classifier,
    report: FitReport,
    embeddings: np.ndarray,
    labels: np.ndarray,
    files: list[str],
    events: np.ndarray,
) -> HeldOut:
    """Return what heads that had not seen the images said of them. Of strangers, the share is
    that of new images.
    """
    unlike = model.is_stranger(embeddings[report.rows])
    decisions = decide(report.probabilities, unlike, None, model.catch_all, model.nothing)
    names = model.class_names
    return HeldOut(
        [files[row] for row in report.rows],
        [names[label] for label in labels[report.rows]],
        [names[index] for index in decisions.top],
        decisions.probability,
        decisions.stranger,
        events[report.rows],
    )


def _train_weights(request: TrainingRequest) -> Classifier:
    """Train a network's own weights; where fine-tuning is not worth it, return the probe, and
    say so.
    """
    if request.recipe == "auto" and request.settings.budget_s is None and not gpu_likely():
        log.info(
            "Only the head is trained: fine-tuning needs a GPU, or a time such as --budget 10m."
        )
        model = _probe(request)
        model.record.fine_tuning = "left out: neither a GPU nor a budget"
        return model
    if request.recipe == "auto" and request.settings.budget_s is None and not has_torch():
        log.info("Only the head is trained: fine-tuning needs more packages: %s.", EXTRA)
        model = _probe(request)
        model.record.fine_tuning = "left out: torch is not installed"
        return model
    need_torch(f"The recipe '{request.recipe}'", "lightning")
    request = request.for_weights()
    if first_process():
        check_work_folder(request.folder)
    from .finetuning import train_network  # takes seconds

    starts_here = request.recipe != "scratch" and request.settings.continue_from is None
    outcome = train_network(request, request.open_embedder() if starts_here else None)
    fitted = outcome.fitted
    if request.recipe == "finetune":
        log.info(
            "Validation loss %.4f with the head alone, %.4f fine-tuned (epoch %d): %s.",
            fitted.start_loss,
            fitted.best_loss,
            fitted.best_epoch,
            "kept" if outcome.model is not None else "not kept; the head alone is",
        )
    model = _unchanged(request) if outcome.model is None else _trained(request, outcome)
    model.history = fitted.history
    model.record.validation_loss = ValidationLoss(fitted.start_loss, fitted.best_loss)
    return model


def _trained(request: TrainingRequest, outcome: Outcome) -> Classifier:
    """Return the trained network as a classifier, with its record."""
    model = outcome.model
    assert model is not None
    counts = Counter(
        item.file.label for item, held in zip(outcome.items, outcome.held, strict=True) if not held
    )
    model.held_out = outcome.held_out
    model.record = ModelRecord(
        recipe=request.recipe,
        images={name: counts[name] for name in request.data.class_names},
        unreadable=outcome.unreadable,
        left_out=outcome.left_out,
        data_fingerprint=fingerprint(outcome.items),
        judged_on=f"{int(outcome.held.sum())} held-out pictures, which also chose the epoch",
        metrics=outcome.metrics | _ranking(model, outcome.probabilities, outcome.labels),
        tuning=request.settings.to_dict(),
        best_epoch=outcome.fitted.best_epoch,
    )
    return model


def _unchanged(request: TrainingRequest) -> Classifier:
    """Return what there was before fine-tuning: the model gone on from, or the head alone,
    learned from every image.
    """
    if request.settings.continue_from is None:
        return _probe(request)
    return load(request.settings.continue_from)


def _judge(model: Classifier, precision: float | None) -> None:
    """Note how the model did on images it had not seen, at its threshold, which a promise may
    choose.
    """
    held_out = model.held_out
    assert held_out is not None
    if precision is not None:
        promise = keep_promise(held_out, precision)
        model.record.threshold, model.record.promise = promise.threshold, promise
    threshold = model.record.threshold
    accepted = accepts(held_out.probabilities, held_out.strangers, threshold)
    right = held_out.right
    model.record.metrics["coverage"] = float(accepted.mean())
    model.record.metrics["selective_accuracy"] = (
        float(right[accepted].mean()) if accepted.any() else 0.0
    )


def _ranking(model: Classifier, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return AUROC and average precision of a model of one class against the rest; of others,
    nothing.
    """
    if model.catch_all is None or len(model.class_names) != 2:
        return {}
    from ..metrics.classification import separation

    positive = 1 - model.catch_all
    auroc, average_precision = separation(
        probabilities[labels == positive, positive], probabilities[labels != positive, positive]
    )
    return {"auroc": auroc, "average_precision": average_precision}


def default_model_path(class_names: Iterable[str], ending: str = "") -> Path:
    """Return the folder, among the models `run` finds, named after the classes: a name that people
    can type, with a digest where several sets of classes would have the same one, or where a person
    gave that name to another model.

    Args:
        class_names: the classes, in any order.
        ending: what the name ends in.
    """
    names = sorted({fold(name) for name in class_names} - {NONE_OF_THESE})
    said = [name for name in names if name not in {catch_all_name([one]) for one in names}]
    more = [f"{len(said) - MOST_NAMED}-more"] if len(said) > MOST_NAMED else []
    readable = "-".join(said[:MOST_NAMED] + more)
    if not more and len(readable) <= MOST_LETTERS and all(map(_is_plain, names)):
        named = models_folder() / f"{readable}{ending}"
        if not _is_another(named, names):
            return named
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    readable = re.sub(r"[^\w-]+", "_", readable)[:MOST_LETTERS].rstrip("-")
    return models_folder() / f"{readable}-{digest}{ending}"


def _is_another(folder: Path, class_names: list[str]) -> bool:
    """Whether a folder holds a model of other classes, or one that was named on the page."""
    if (images_folder() / "page" / folder.name).exists():
        return True
    try:
        record = json.loads(read_text(folder / "wordsight.json"))
        known = [str(name) for name in record["class_names"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # nothing that could be lost, or what `check_model_target` refuses
    return not same_classes(known, class_names)


def _is_plain(name: str) -> bool:
    """Whether a class can be part of a folder's name as it is, on every system."""
    return re.fullmatch(r"\w+", name) is not None and not TAKEN.fullmatch(name)


def register(model: Path) -> None:
    """Note a model outside the models folder, so that `run` finds it again."""
    if model.parent.resolve() == models_folder().resolve():
        return
    path = os.fsencode(model.resolve())
    note = models_folder() / "registered" / hashlib.sha256(path).hexdigest()[:24]
    try:
        with writing(note):
            write_atomic(note, path)
    except OutputError as error:
        log.warning("%s Until then 'run' and 'wordsight models' don't find '%s'.", error, model)


def list_models() -> list[tuple[Path, list[str], str]]:
    """Return (folder, class names, supervision) of every model known on this machine, the
    newest first.
    """
    root = models_folder()
    folders = [
        path
        for path in root.glob("*")
        if path.name != "registered" and not path.name.startswith(".")
    ]
    folders += [
        Path(os.fsdecode(read_regular(note)))
        for note in (root / "registered").glob("*")
        if not note.name.startswith(".") and note.is_file()
    ]
    found = []
    for folder in folders:
        try:
            record = json.loads(read_text(folder / "wordsight.json"))
            names = [str(name) for name in record["class_names"]]
            supervision = str(record["info"].get("supervision", ""))
            age = -(folder / "wordsight.json").stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # moved, deleted or damaged since
        if all((folder / name).is_file() for name in MODEL_FILES):
            found.append((age, folder, names, supervision))
    return [
        (folder, names, supervision)
        for _, folder, names, supervision in sorted(found, key=lambda item: item[0])
    ]


def find_model(words: list[str]) -> Path | None:
    """Return the newest trained model for exactly these classes, in any order, or None."""
    wanted = with_catch_all(words)
    for folder, names, supervision in list_models():
        # a word that was taught has no class that means anything else
        found = same_classes(names, wanted) or same_classes(names, words)
        if supervision != WORDS and found:
            return folder
    return None
