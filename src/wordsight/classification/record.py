"""What a model notes about itself in its wordsight.json: a schema, checked when it is read. Which
files a model has is the business of `model_folder`.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..core.summary import Problems
from ..heads.guarantee import PrecisionGuarantee, check_precision

DEFAULT_THRESHOLD = 0.99
WORDS_RECIPE = "words"
_UNKNOWN = "unknown"
_ON_DISK = {"images": "pictures"}  # field -> key in the file, where they differ
# written even when empty, by all that learned from labelled images
_EVEN_EMPTY = (
    "pictures",
    "unreadable",
    "left_out",
    "unused",
    "metrics",
    "kept_for_test",
    "licences",
    "gathered",
    "cleaned",
)


@dataclass(frozen=True)
class ValidationLoss:
    """Log loss on held-out images, in nats.

    Attributes:
        before: with the network that training began with.
        after: in the best epoch.
    """

    before: float
    after: float


@dataclass(frozen=True)
class BoxRecord:
    """How a box head was trained, and how good it was on images that a head had not seen.

    Attributes:
        images: how many it learned from.
        held_out: how many judged it.
        mean_iou: mean overlap of its boxes with the true ones, 0–1.
        median_box_mean_iou: that of one box for all, the median of those learned from, 0–1.
        box_accuracy: share of boxes that overlap the true one by at least half, 0–1.
        median_box: that box, xyxy in fractions of an image.
        loss_weights: part of the loss -> its weight.
        history: a row an epoch: "epoch", "loss", "mean_iou" on the held-out images.
        unreadable: (file, reason) of images that could not be read.
        skipped: (row of the annotations, reason) of boxes that could not be used.
    """

    images: int
    held_out: int
    mean_iou: float
    median_box_mean_iou: float
    box_accuracy: float | None = None
    median_box: list[float] | None = None
    loss_weights: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self) -> str:
        """Return how good its boxes are, beside one box for all."""
        mean, simple = self.mean_iou, self.median_box_mean_iou
        worth = (
            ""
            if mean > simple
            else (
                " They are no better than that and not to be trusted: more annotated pictures are "
                "needed."
            )
        )
        return (
            f"Boxes, learned from {self.images} pictures; on {self.held_out} that a head had not "
            f"seen: mean IoU {mean:.3f}, always the median box {simple:.3f}.{worth}"
        )


@dataclass(frozen=True)
class ObjectRecord:
    """How an object head was trained, and how good it was on images that it had not seen.

    Attributes:
        class_names: what it finds, in the order of its scores.
        images: how many it learned from.
        objects: how many boxes they have.
        held_out: how many of the images judged a first head, which learned from the others only.
        average_precision: COCO's, by IoU: "0.3", "0.5" and the mean over "0.5:0.95".
        count_error: by how many objects its count of an image was wrong in the mean; None where
            nothing was held out.
        history: a row for each time it was judged: "step", "loss", "ap50" on the held-out images.
        unreadable: (file, reason) of images that could not be read.
        skipped: (row of the annotations, reason) of boxes that could not be used.
    """

    class_names: list[str]
    images: int
    objects: int
    held_out: int
    average_precision: dict[str, float] = field(default_factory=dict)
    count_error: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self) -> str:
        """Return what it learned from and how good it is."""
        told = f"Objects, learned from {self.objects} boxes on {self.images} pictures"
        known = self.average_precision
        if not {"0.5", "0.5:0.95"} <= known.keys():
            return f"{told}; not measured: no object was on the pictures kept for that."
        counted = (
            ""
            if self.count_error is None
            else f"; counts per picture wrong by {self.count_error:.2f} on average"
        )
        return (
            f"{told}; a first head, on {self.held_out} pictures it had not seen: AP "
            f"{known['0.5']:.3f} at IoU 0.5, {known['0.5:0.95']:.3f} over 0.5:0.95{counted}."
        )


@dataclass
class ModelRecord:
    """What a model notes about itself: how it was made, from what, and how good it was.

    Attributes:
        recipe: "probe", "finetune" or "scratch"; "words" for a model made without labelled images.
        supervision: where the labels came from.
        threshold: calibrated probability from which a label is given, 0–1; None gives no label,
            because the images could not support the precision asked for.
        images: class name -> how many images it learned from; on disk "pictures".
        unreadable: (file, reason) of images that could not be read.
        left_out: (file, reason) of images that the cheap checks took out.
        unused: (entry, reason) of listed images that could not be taken.
        data_fingerprint: SHA-256 of the names, labels and contents learned from.
        method: head of a probe, "lda" or "logistic".
        regularisation: its shrinkage (lda, 0–1) or inverse penalty (logistic).
        judged_on: which images the metrics were measured on, in words.
        metrics: name -> figure on them: "accuracy", 0–1; "log_loss", in nats; "coverage", share
            that gets a label; "selective_accuracy", share of these labels that is right; of one
            class against the rest "auroc" and "average_precision", too.
        seed: of everything random.
        dtype: of the embeddings learned from: "f32", "bf16" or "int8".
        kept_for_test: images that a `split` column gives to "test", not learned from.
        licences: licence code -> images under it, where the data set records licences.
        gathered: "classes" -> class name -> "stages" and "reasons" -> name -> how many candidates;
            None where the images were not gathered.
        cleaned: reason -> images taken out before training.
        senses: WordNet synset of each word, of a model made from words.
        stand_ins: word -> the kinds it stands for, where only these few are known.
        promise: the precision that the threshold keeps, or None where none was asked for.
        event_power: that the odds of answers to events of several photos are raised to, 0–1,
            learned from events that were held out; None where they were too few.
        boxes: how the box head did, or None where there is none.
        objects: how the object head did, or None where there is none.
        mask_threshold: share of a heat map's peak, 0–1, from which masks and boxes are cut; None
            where it learned from too few annotated images to choose one.
        tuning: name -> value of the settings by which a network's weights were trained.
        best_epoch: the epoch whose weights were kept, from 1; 0 for those it started with.
        validation_loss: before and after fine-tuning.
        fine_tuning: why the recipe "auto" did not fine-tune; or how good boxes were on the
            fine-tuned network and on the frozen one, and which is kept.
        path: the model's folder; not in the file.
        other: what the file holds besides, such as keys of a later version; kept as it is.
    """

    recipe: str = _UNKNOWN
    supervision: str = _UNKNOWN
    threshold: float | None = DEFAULT_THRESHOLD
    images: dict[str, int] = field(default_factory=dict)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)
    data_fingerprint: str | None = None
    method: str | None = None
    regularisation: float | None = None
    judged_on: str = "pictures it had not seen"
    metrics: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    dtype: str | None = None
    kept_for_test: int = 0
    licences: dict[str, int] = field(default_factory=dict)
    gathered: dict[str, dict[str, dict[str, dict[str, int]]]] | None = None
    cleaned: dict[str, int] = field(default_factory=dict)
    senses: list[str] = field(default_factory=list)
    stand_ins: dict[str, list[str]] = field(default_factory=dict)
    promise: PrecisionGuarantee | None = None
    event_power: float | None = None
    boxes: BoxRecord | None = None
    objects: ObjectRecord | None = None
    mask_threshold: float | None = None
    tuning: dict[str, Any] = field(default_factory=dict)
    best_epoch: int | None = None
    validation_loss: ValidationLoss | None = None
    fine_tuning: str | None = None
    path: Path | None = None
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all it was given could be used, and the promise be made if one was asked for."""
        promise = self.promise
        missing = bool(self.unreadable or self.unused or self._unused_boxes())
        return not missing and (promise is None or promise.threshold is not None)

    def notes(self) -> list[str]:
        """Return how good it is, what fine-tuning and boxes gained, and where it is."""
        notes, loss = self._measured(), self.validation_loss
        if loss is not None and self.recipe == "probe" and self.fine_tuning is None:
            notes.append(
                "Fine-tuning did not lower the validation loss, so the head alone is kept: "
                f"{loss.before:.4f} before, {loss.after:.4f} after."
            )
        elif loss is not None and self.recipe in ("finetune", "probe"):
            notes.append(
                f"Validation loss: {loss.before:.4f} with the head alone, {loss.after:.4f} "
                "fine-tuned."
            )
        if loss is not None and self.fine_tuning is not None:
            notes.append(self.fine_tuning)
        if self.boxes is not None:
            notes.append(self.boxes.sentence())
        if self.objects is not None:
            notes.append(self.objects.sentence())
        if self.kept_for_test:
            notes.append(f"Kept for testing, not learned from: {self.kept_for_test} pictures.")
        return notes if self.path is None else [*notes, f"Model: {self.path}"]

    def stand_in_note(self) -> str | None:
        """Return for which words only a few kinds are known and looked for; None for none."""
        if not self.stand_ins:
            return None
        told = "; ".join(
            f"'{word}' stands for {', '.join(kinds)} only" for word, kinds in self.stand_ins.items()
        )
        return f"{told}: other kinds are missed."

    def _measured(self) -> list[str]:
        metrics = self.metrics
        if "accuracy" not in metrics:  # made from words
            return []
        notes = [f"On {self.judged_on}: {metrics['accuracy']:.1%} right."]
        if {"auroc", "average_precision"} <= metrics.keys():
            notes.append(
                f"AUROC {metrics['auroc']:.4f}, average precision "
                f"{metrics['average_precision']:.4f}."
            )
        if self.threshold is not None and {"coverage", "selective_accuracy"} <= metrics.keys():
            share, right = metrics["coverage"], metrics["selective_accuracy"]
            notes.append(labels_of(self.threshold, share, right))
        return notes if self.promise is None else [*notes, self.promise.sentence()]

    def problems(self) -> list[Problems]:
        """Return what it was given and did not learn from."""
        where = "the model's wordsight.json"
        return [
            Problems("Not used", self._unused_boxes(), where),
            Problems("Left out", self.left_out, f"{where} (--no-clean keeps them)"),
            Problems("Left out, unreadable", self.unreadable, where),
            Problems("Not used", self.unused, where),
        ]

    def _unused_boxes(self) -> list[tuple[str, str]]:
        """Return what no box or object could be learned from, and why."""
        return [
            entry
            for head in (self.boxes, self.objects)
            if head is not None
            for entry in (*head.skipped, *head.unreadable)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything under the keys of the file, ready for JSON; what was never noted is
        left out.
        """
        known = _renamed(asdict(self))
        other = known.pop("other")
        if self.path is not None:
            known["path"] = str(self.path)
        if self.promise is not None:
            known["promise"]["sentence"] = self.promise.sentence()
            if not self.promise.events:
                del known["promise"]["events"]
        if self.boxes is not None:
            known["boxes"] = _renamed(known["boxes"])
        if self.objects is not None:
            known["objects"] = _renamed(known["objects"])
        labelled = self.recipe not in (_UNKNOWN, WORDS_RECIPE)
        defaults = _renamed(asdict(ModelRecord()))
        return other | {
            key: value
            for key, value in known.items()
            if key == "threshold" or value != defaults[key] or (labelled and key in _EVEN_EMPTY)
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelRecord:
        """Return the record that `to_dict` wrote, now or in an older version: missing keys have
        their defaults, unknown ones go to `other`.

        Raises:
            ValueError: if a value is of a wrong kind or out of range.
            KeyError: if a part lacks what it can't do without.
        """
        keys = {_ON_DISK.get(one.name, one.name) for one in fields(cls)} - {"other"}
        record = typed(cls, {key: value for key, value in data.items() if key in keys}, "info")
        record.other = {key: value for key, value in data.items() if key not in keys}
        _check(record)
        return record


def labels_of(threshold: float, share: float, right: float) -> str:
    """Return in words what share of pictures gets a label, and how many of these are right."""
    if not share:
        return f"At threshold {threshold:.4g} it labels none of them."
    how = "all correctly" if right == 1 else f"{right:.2%} of those correctly"
    return f"At threshold {threshold:.4g} it labels {share:.1%} of them, {how}."


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    return {_ON_DISK.get(name, name): value for name, value in values.items()}


def typed(kind: Any, value: Any, key: str) -> Any:
    """Return a JSON value as what a type hint asks for.

    Args:
        kind: the hint, such as `list[str]`, `float | None` or a dataclass.
        value: what the file holds.
        key: its key there, for the message.

    Raises:
        ValueError: if it is of another kind.
        KeyError: if it lacks a field.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is UnionType:
        (inner,) = (part for part in parts if part is not NoneType)
        return None if value is None else typed(inner, value, key)
    if is_dataclass(kind) and isinstance(value, dict):
        return _read_fields(kind, value)
    if origin is dict and isinstance(value, dict):
        return {name: typed(parts[1], part, key) for name, part in value.items()}
    if origin is list and isinstance(value, list):
        return [typed(parts[0], part, key) for part in value]
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(parts):
        return tuple(typed(part, item, key) for part, item in zip(parts, value, strict=True))
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and type(value) is int:
        float(value)  # one too large is refused here
        return value
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"'{key}' in its wordsight.json is of a wrong kind")


def _read_fields(kind: Any, value: dict[str, Any]) -> Any:
    """Return a dataclass from its keys in the file; unknown ones are passed over."""
    hints = get_type_hints(kind)
    found = {}
    for one in fields(kind):
        key = _ON_DISK.get(one.name, one.name)
        if key in value or (one.default is MISSING and one.default_factory is MISSING):
            found[one.name] = typed(hints[one.name], value[key], key)
    return kind(**found)


def _check(record: ModelRecord) -> None:
    """Refuse what is of the right kind and still can't be shown or used.

    Raises:
        ValueError: if a value is out of range.
    """
    promise, boxes, gathered = record.promise, record.boxes, record.gathered
    _in_range("mask_threshold", record.mask_threshold)
    _in_range("event_power", record.event_power)
    if promise is not None:
        check_precision(promise.precision)
        _in_range("threshold", promise.threshold)
        if not 0 < promise.confidence < 1:
            raise ValueError("'confidence' in its wordsight.json is out of range")
    if boxes is not None and (
        (boxes.median_box is not None and len(boxes.median_box) != 4)
        or not all({"epoch", "mean_iou"} <= row.keys() for row in boxes.history)
    ):
        raise ValueError("'boxes' in its wordsight.json is of a wrong kind")
    objects = record.objects
    if objects is not None and not all({"step", "ap50"} <= row.keys() for row in objects.history):
        raise ValueError("'objects' in its wordsight.json is of a wrong kind")
    if gathered is not None and not (
        "classes" in gathered
        and all({"stages", "reasons"} <= funnel.keys() for funnel in gathered["classes"].values())
    ):
        raise ValueError("'gathered' in its wordsight.json is of a wrong kind")


def _in_range(key: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"'{key}' in its wordsight.json is out of range")
