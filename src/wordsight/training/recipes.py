"""Train a classifier from labelled images, by any recipe, and find the models made before."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.embedder import Embedded, Embedder
from ..backbones.registry import DEFAULT_BACKBONE, load_backbone, with_image_size
from ..backbones.runtime import gpu_likely
from ..classification.classifier import Classifier, load
from ..classification.model_folder import DEFAULT_THRESHOLD, MODEL_FILES, check_model_target
from ..core.home import expand, first_process, models_folder, write_atomic, writing
from ..core.progress import Progress, or_notebook
from ..datasets.annotations import BoxSet, read_boxes, read_labels
from ..datasets.files import ImageFile, LabelledSet
from ..datasets.training_set import (
    against_catch_all,
    fingerprint,
    gathered,
    licences,
    set_root,
    usable,
)
from ..errors import InvalidArgument
from ..heads.guarantee import HeldOut, check_precision, keep_promise
from ..heads.linear import FitReport, fit_head
from ..heads.novelty import fit_neighbourhood
from ..words.class_names import (
    catch_all_index,
    check_class_names,
    fold,
    same_classes,
    with_catch_all,
)
from .settings import SCRATCH_NETWORK, TrainingSettings

log = logging.getLogger("wordsight")
RECIPES = ("probe", "finetune", "scratch", "auto")
WORDS = "words alone"  # supervision of a head that run made for one folder of photos


def train(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    recipe: str = "probe",
    backbone: str | None = None,
    seed: int = 0,
    engine: str = "auto",
    dtype: str = "f32",
    progress: Progress | None = None,
    clean: bool = True,
    positive: str | None = None,
    negatives: str | os.PathLike | None = None,
    precision: float | None = None,
    image_size: int | None = None,
    tuning: TrainingSettings | None = None,
    boxes: str | os.PathLike | None = None,
    from_model: str | os.PathLike | None = None,
) -> Classifier:
    """Train a classifier from labelled images and save it.

    Images that a `split` column gives to "test" are left out, and, unless `clean` is False,
    copies of the same file within a class and files that lie in two classes. Those it gives to
    "val", or else a fifth of each class, judge the recipes that train a network's own weights.

    Args:
        data: a folder with one subfolder a class, or a CSV with columns file_name and label.
        output: model folder; by default one named after the classes, among the models `run` finds.
        recipe: "probe": a linear head on the backbone's embeddings. "finetune": that head, then all
            of the network, kept only if the validation loss falls. "scratch": a network from random
            weights. "auto": "probe", and "finetune" where a GPU or `tuning.budget_s` allows.
        backbone: embedded name, timm name, `hf-hub:` or `local-dir:`; for "scratch" a network, by
            default "small_resnet".
        seed: same seed, same model.
        engine: "auto", "openvino" or "torch", for embeddings.
        dtype: "f32" or "bf16".
        progress: called with (done, total, what).
        clean: leave out what the cheap checks find.
        positive: one class against all others; the model then knows it and `not_<it>`, by a softmax
            over the two, which is a sigmoid of the difference of their logits.
        negatives: with `positive`, a folder of further images of anything else.
        precision: choose the threshold so that labels are right at least so often, at 95 %
            confidence; see `Classifier.promise`.
        image_size: side in pixels of a square image's input; by default the backbone's own.
        tuning: settings of the recipes other than "probe".
        boxes: annotated boxes (CSV, COCO, VOC, YOLO; see `read_boxes`). They then name the images
            and classes to learn from, and `data` is the images' folder. A box head is trained on
            the same backbone, after the classifier.
        from_model: with `boxes`, a model to add the box head to, instead of training one; its class
            answers stay as they are, and without `output` it is saved where it was.

    Raises:
        NotFound, InvalidArgument: the data can't be trained on, or a setting is wrong.
        BackboneUnavailable: the backbone can't be had.
        OutputError: the model can't be written.
    """
    if from_model is not None and boxes is None:
        raise InvalidArgument(
            "--from adds boxes to a model, so it needs --boxes ANNOTATIONS. To go on training "
            "one, use --continue."
        )
    how = Embedding(backbone, engine, dtype, or_notebook(progress), image_size)
    told = _Settings(recipe, seed, clean, positive, negatives, precision, tuning)
    if boxes is not None:
        return _train_with_boxes(read_boxes(boxes, data), output, from_model, how, told)
    return _train_read(read_labels(data, min_classes=1 if positive else 2), output, how, told)


@dataclass(frozen=True)
class _Settings:
    """What `train` was told, but for where and how to embed."""

    recipe: str
    seed: int
    clean: bool
    positive: str | None
    negatives: str | os.PathLike | None
    precision: float | None
    tuning: TrainingSettings | None


def _train_read(
    labelled: LabelledSet, output: str | os.PathLike | None, how: Embedding, told: _Settings
) -> Classifier:
    """Train a classifier from a set already read."""
    positive, negatives, precision = told.positive, told.negatives, told.precision
    if negatives is not None and positive is None:
        raise InvalidArgument(
            "--negatives needs --positive: the one class that the others are set against."
        )
    if positive is not None:
        labelled = against_catch_all(
            labelled, positive, None if negatives is None else expand(negatives)
        )
    if precision is not None:
        check_precision(precision)
    return train_labelled(
        labelled,
        output,
        told.recipe,
        how,
        told.seed,
        clean=told.clean,
        precision=precision,
        tuning=told.tuning,
    )


def _train_with_boxes(
    labelled: BoxSet,
    output: str | os.PathLike | None,
    from_model: str | os.PathLike | None,
    how: Embedding,
    told: _Settings,
) -> Classifier:
    """Train or load a classifier, then its box head; see `train`."""
    from .boxes.fit import check_backbone
    from .boxes.recipe import add_boxes, check_images

    names = sorted({str(image.file.label) for image in check_images(labelled)})
    if from_model is None:
        check_class_names(names)
        if told.recipe != "scratch":
            check_backbone(load_backbone(how.name))
        if len(names) == 1 and told.positive is None:
            raise InvalidArgument(
                f"All boxes are of '{names[0]}', which is no choice to learn. Add --positive "
                f"{names[0]} --negatives FOLDER, or --from MODEL."
            )
        model = _train_read(
            LabelledSet([p.file for p in labelled.images if p.file.label in names], names),
            output,
            how,
            told,
        )
    else:
        changes = (
            told.tuning not in (None, TrainingSettings())
            or told.positive
            or told.negatives
            or told.precision
            or not told.clean
            or how.backbone
            or how.image_size
        )
        if told.recipe != "probe" or changes:
            raise InvalidArgument(
                "--from keeps a model as it is and adds boxes: recipe, backbone, precision and "
                "their like don't go with it. Leave them out."
            )
        model = load(from_model)
        model.info["path"] = str(expand(output if output is not None else from_model))
        check_model_target(Path(model.info["path"]))
    target = Path(model.info["path"]).absolute()
    embedder = Embedder(model.backbone, how.engine, how.dtype)
    try:
        sheets = add_boxes(model, labelled, target, embedder, told.seed, how.progress)
    finally:
        embedder.cache.close()
    if first_process():
        model.save(target)
        register(target)
        with writing(target):
            for name, sheet in sheets.items():
                write_atomic(target / "plots" / name, sheet)
    return model


@dataclass
class Embedding:
    """How images become embeddings: backbone by name (None: the default), engine, dtype, whom
    to tell of progress, input size.
    """

    backbone: str | None = None
    engine: str = "auto"
    dtype: str = "f32"
    progress: Progress | None = None
    image_size: int | None = None

    @property
    def name(self) -> str:
        """Name of the backbone."""
        return self.backbone or DEFAULT_BACKBONE

    def open(self) -> Embedder:
        """Return an embedder with the shared cache."""
        backbone = load_backbone(self.name)
        backbone = replace(
            backbone,
            preprocessing=with_image_size(backbone.preprocessing, self.image_size, self.name),
        )
        return Embedder(backbone, self.engine, self.dtype)

    def embed_all(self, embedder: Embedder, images: list[ImageFile], what: str) -> list[Embedded]:
        """Embed every image, telling of progress."""
        done = []
        for item in embedder.embed_all(images):
            done.append(item)
            if self.progress:
                self.progress(len(done), len(images), what)
        return done


def train_labelled(
    data: LabelledSet,
    output: str | os.PathLike | None,
    recipe: str = "probe",
    how: Embedding | None = None,
    seed: int = 0,
    supervision: str = "labelled pictures",
    clean: bool = True,
    precision: float | None = None,
    tuning: TrainingSettings | None = None,
    cleaned: dict[str, int] | None = None,
) -> Classifier:
    """Train from a set already read; see `train`. `cleaned` says what was taken out of it
    before: reason -> images.
    """
    if recipe not in RECIPES:
        raise InvalidArgument(f"Unknown recipe '{recipe}'. Choose one of: {', '.join(RECIPES)}.")
    if tuning is not None and tuning != TrainingSettings() and recipe == "probe":
        raise InvalidArgument(
            "Epochs, learning rate and the like are settings of --recipe finetune, scratch or "
            "auto; a probe has none."
        )
    how = how or Embedding()
    target = default_model_path(data.class_names) if output is None else expand(output)
    check_model_target(target)
    task = _Task(data, target, how, seed, clean)
    model = (
        _probe(task)
        if recipe == "probe"
        else _train_weights(task, recipe, tuning or TrainingSettings())
    )
    passed = {name for name, _ in (*model.info["left_out"], *model.info["unreadable"])}
    model.info |= {
        "supervision": supervision,
        "seed": seed,
        "threshold": DEFAULT_THRESHOLD,
        "dtype": how.dtype,
        "kept_for_test": sum(image.split == "test" for image in data.images),
        "licences": licences(
            [image for image in data.images if image.split != "test" and image.name not in passed]
        ),
        "unused": data.unused,
        "gathered": gathered(set_root(data.images)),
        "cleaned": cleaned or {},
    }
    _judge(model, precision)
    if first_process():
        model.save(target)
        register(target)
    if "validation_loss" in model.info:
        from .finetuning import finish

        finish(_request(task, recipe, tuning or TrainingSettings()))
    model.info["path"] = str(target)
    return model


@dataclass(frozen=True)
class _Task:
    data: LabelledSet
    target: Path
    how: Embedding
    seed: int
    clean: bool


def _probe(task: _Task) -> Classifier:
    """Fit a head to the frozen backbone's embeddings; every image is judged by a head that
    had not seen it.
    """
    names = task.data.class_names
    embedder = task.how.open()
    try:
        every = task.how.embed_all(
            embedder,
            [image for image in task.data.images if image.split != "test"],
            "pictures",
        )
    finally:
        embedder.cache.close()
    items, left_out = usable(
        [item for item in every if item.embedding is not None], names, task.clean
    )
    embeddings = np.stack([item.embedding for item in items if item.embedding is not None])
    labels = np.array([names.index(str(item.file.label)) for item in items])
    head, report = fit_head(embeddings, labels, len(names), task.seed)
    assert report is not None
    catch_all = catch_all_index(names)
    near = np.ones(len(labels), dtype=bool) if catch_all is None else labels != catch_all
    known = fit_neighbourhood(
        embeddings[near], labels[near], task.seed, embedder.backbone.concept_head()
    )
    counts = Counter(item.file.label for item in items)
    model = Classifier(names, head, embedder.backbone, known, catch_all=catch_all)
    model.history = [
        dict(zip(("method", "regularisation", "accuracy", "log_loss"), row, strict=True))
        for row in report.candidates
    ]
    model.held_out = _held_out(
        model, report, embeddings, labels, [item.file.name for item in items]
    )
    model.info = {
        "recipe": "probe",
        "pictures": {name: counts[name] for name in names},
        "unreadable": [(item.file.name, item.error) for item in every if item.embedding is None],
        "left_out": left_out,
        "data_fingerprint": fingerprint(items),
        "method": report.method,
        "regularisation": report.regularisation,
        "judged_on": f"{len(report.rows)} pictures, each by a head that had not seen it",
        "metrics": {"accuracy": report.accuracy, "log_loss": report.log_loss}
        | _ranking(model, report.probabilities, labels[report.rows]),
    }
    return model


def _held_out(
    model: Classifier,
    report: FitReport,
    embeddings: np.ndarray,
    labels: np.ndarray,
    files: list[str],
) -> HeldOut:
    """Return what heads that had not seen the images said of them. Of strangers, the share is
    that of new images.
    """
    top = report.probabilities.argmax(axis=1)
    strangers = model.is_stranger(embeddings[report.rows]) & (
        top != (-1 if model.catch_all is None else model.catch_all)
    )
    names = model.class_names
    return HeldOut(
        [files[row] for row in report.rows],
        [names[label] for label in labels[report.rows]],
        [names[index] for index in top],
        report.probabilities.max(axis=1),
        strangers,
    )


def _train_weights(task: _Task, recipe: str, tuning: TrainingSettings) -> Classifier:
    """Train a network's own weights; where fine-tuning is not worth it, return the probe, and
    say so.
    """
    if recipe == "auto" and tuning.budget_s is None and not gpu_likely():
        log.info(
            "Only the head is trained: fine-tuning needs a GPU, or a time such as --budget 10m."
        )
        model = _probe(task)
        model.info["fine_tuning"] = "left out: neither a GPU nor a budget"
        return model
    request = _request(task, recipe, tuning)
    from .finetuning import train_network

    embedder = task.how.open() if recipe != "scratch" and tuning.continue_from is None else None
    try:
        outcome = train_network(request, embedder)
    finally:
        if embedder is not None:
            embedder.cache.close()
    fitted = outcome.fitted
    start, best = fitted.start_loss, fitted.best_loss
    if request.recipe == "finetune":
        verdict = "kept" if outcome.model is not None else "not kept; the head alone is"
        log.info(
            "Validation loss %.4f with the head alone, %.4f fine-tuned (epoch %d): %s.",
            start,
            best,
            fitted.best_epoch,
            verdict,
        )
    if outcome.model is None:
        model = _unchanged(task, tuning)
        model.history = fitted.history
    else:
        model = outcome.model
        counts = Counter(
            item.file.label
            for item, held in zip(outcome.items, outcome.held, strict=True)
            if not held
        )
        model.history = fitted.history
        model.held_out = outcome.held_out
        model.info = {
            "recipe": request.recipe,
            "pictures": {name: counts[name] for name in task.data.class_names},
            "unreadable": outcome.unreadable,
            "left_out": outcome.left_out,
            "data_fingerprint": fingerprint(outcome.items),
            "judged_on": f"{int(outcome.held.sum())} held-out pictures, which also chose the epoch",
            "metrics": outcome.metrics | _ranking(model, outcome.probabilities, outcome.labels),
            "tuning": request.tuning.record(),
            "best_epoch": fitted.best_epoch,
        }
    model.info["validation_loss"] = {"before": start, "after": best}
    return model


def _unchanged(task: _Task, tuning: TrainingSettings) -> Classifier:
    """Return what there was before fine-tuning: the model gone on from, or the head alone,
    learned from every image.
    """
    if tuning.continue_from is None:
        return _probe(task)
    return load(tuning.continue_from)


def _request(task: _Task, recipe: str, tuning: TrainingSettings) -> Any:
    kind = "scratch" if recipe == "scratch" else "finetune"
    network = task.how.backbone or (SCRATCH_NETWORK if kind == "scratch" else DEFAULT_BACKBONE)
    how = task.how
    settings = tuning.filled(kind, network)
    from .finetuning import Request  # takes seconds

    return Request(
        task.data,
        task.target,
        kind,
        network,
        settings,
        how.image_size,
        task.seed,
        task.clean,
        how.engine,
        how.dtype,
        how.progress,
    )


def _judge(model: Classifier, precision: float | None) -> None:
    """Note how the model did on images it had not seen, at its threshold, which a promise may
    choose.
    """
    held_out = model.held_out
    assert held_out is not None
    if precision is not None:
        promise = keep_promise(held_out, precision)
        model.info["threshold"] = promise.threshold
        model.info["promise"] = {**promise.record(), "sentence": promise.sentence()}
    threshold = model.info["threshold"]
    accepted = (
        held_out.probabilities >= (np.inf if threshold is None else threshold)
    ) & ~held_out.strangers
    right = held_out.right
    model.info["metrics"]["coverage"] = float(accepted.mean())
    model.info["metrics"]["selective_accuracy"] = (
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


def default_model_path(class_names: Iterable[str]) -> Path:
    """Return the folder, among the models `run` finds, named after the classes."""
    names = sorted(fold(name) for name in class_names)
    readable = re.sub(r"[^\w-]+", "_", "-".join(names))[:60]
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return models_folder() / f"{readable}-{digest}"


def register(model: Path) -> None:
    """Note a model outside the models folder, so that `run` finds it again."""
    if model.parent.resolve() == models_folder().resolve():
        return
    path = os.fsencode(model.resolve())
    note = models_folder() / "registered" / hashlib.sha256(path).hexdigest()[:24]
    with writing(note):
        write_atomic(note, path)


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
        Path(os.fsdecode(note.read_bytes()))
        for note in (root / "registered").glob("*")
        if not note.name.startswith(".")
    ]
    found = []
    for folder in folders:
        try:
            record = json.loads((folder / "wordsight.json").read_text(encoding="utf-8"))
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
        if supervision != WORDS and same_classes(names, wanted):
            return folder
    return None
