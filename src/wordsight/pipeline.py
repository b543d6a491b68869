"""Run: words and photos in, answers out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from .backbones.backbone import DEFAULT_BACKBONE, Backbone
from .classification.classifier import UNPROMISED, Classifier
from .classification.model_folder import check_threshold
from .classification.photos import predict
from .classification.results import Results
from .core.home import expand
from .core.progress import Progress, or_notebook, parse_duration
from .datasets.files import ImageFile, find_images
from .errors import InvalidArgument
from .heads.guarantee import check_precision
from .supervision.by_tower import check_words_model
from .supervision.choice import find_or_make
from .supervision.request import ClassifierRequest, Consent, announce, as_list
from .towers.tower import TextImageTower
from .traps.boxes import read_boxes
from .traps.photos import predict_boxes
from .words.class_names import parse_classes
from .words.roll_up import classes_below


def run(
    classes: str | Iterable[str],
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    *,
    output: str | os.PathLike | None = "results",
    threshold: float | None = None,
    precision: float | None = None,
    roll_up: str | Iterable[str] | None = None,
    data: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
    model: str | os.PathLike | Classifier | None = None,
    gather: bool | Consent = False,
    force: bool = False,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    boxes: str | os.PathLike | None = None,
    confidence: float | None = None,
    repeats: str | os.PathLike = "auto",
    draw: bool = True,
    events: str | float | None = None,
    words_model: str | TextImageTower | None = None,
    words_model_for: str = "unknown",
    progress: Progress | None = None,
) -> Results:
    """Recognise the words in the photos, with the first supervision that applies.

    1. labelled images given with `data`;
    2. a model already made for exactly these classes, or `model`;
    3. the backbone's own vocabulary, adapted to the photos themselves;
    4. images gathered for the words: with `gather` instead of 3, or where a word is unknown and
       the answer is yes.

    Which of them applied is logged, and printed in a notebook.

    Args:
        classes: "cat,dog" or a list; one word alone is a yes/no question. "empty", "none" and
            "other" mean none of the other words: no label.
        photos: folders, files or globs.
        output: folder of the results; None writes nothing.
        threshold: calibrated probability from which a label is given, 0–1; default 0.99.
        precision: instead of a threshold, the share of labels that must be right; see
            `Classifier.promise`. Takes labelled images.
        roll_up: words above several of the classes, to which labels may fall back, as in
            `wordsight.predict`. Where words alone are the classes, those above them are learned
            from the photos, too, as if they had been asked for.
        data: labelled images; several places are learned from together. Their other classes stand
            for "none of these".
        model: model folder, or what `load` returned.
        gather: True gathers images for the words, unless data or a model for them is there. A
            function is asked, with the question as its argument, before images are gathered for
            words that the backbone doesn't know.
        force: take a word of which the backbone knows only a few kinds ("person": ballplayer,
            groom, scuba diver) for these.
        backbone: a name, or what `wordsight.backbones.load_backbone` returned.
        boxes: MegaDetector's JSON: the words are looked for in its boxes of animals; see
            `wordsight.traps.predict_boxes`, also for `confidence` and `repeats`.
        confidence: of the detector, from which a box counts.
        repeats: what happens to boxes that recur at one place.
        draw: False writes tables only.
        events: as in `wordsight.predict`.
        words_model: a text–image model, prepared by `wordsight.towers.prepare`, that is asked about
            words of which the backbone knows nothing or too few kinds; it looks at 2,000 photos at
            most, and what is sure of these teaches the backbone's head.
        words_model_for: "unknown" words, or "all".
        progress: called with (done, total, what).

    Raises:
        InvalidArgument: if a class is given twice, nobody knows a word (`UnknownWord`), the model
            has other classes, …
        NotFound: if photos, data or model do not exist.
        NothingGathered: if too few images came.
    """
    request = ClassifierRequest(
        parse_classes(classes),
        data,
        model,
        gather,
        backbone,
        or_notebook(progress),
        announce,
        force,
        precision is not None,
        words_model=words_model,
        words_model_for=words_model_for,
    )
    check_words_model(request, boxes, roll_up)
    if threshold is not None:
        check_threshold(threshold)
    if threshold is not None and precision is not None:
        raise InvalidArgument(
            "Give either a threshold (-t) or a precision (--precision), not both."
        )
    if precision is not None:
        check_precision(precision)
    if roll_up is not None:
        below = classes_below(roll_up, request.words)
        if precision is not None:
            raise InvalidArgument(UNPROMISED)
        request = replace(request, roll_up=tuple(below))
    if events is not None:
        parse_duration(str(events), "--events")
    if data is not None and model is not None:
        raise InvalidArgument("Give either labelled pictures (--data) or a model (-m), not both.")
    sources = as_list(photos)
    # before any work: is there something to do?
    found = find_images(sources, exclude=None if output is None else expand(output))
    told: dict[str, Any] = {
        "output": output,
        "threshold": threshold,
        "precision": precision,
        "draw": draw,
        "events": events,
        "progress": request.progress,
    }
    if boxes is None:
        return predict(sources, _classifier(request, found.images), **told)
    detected = read_boxes(boxes, found.images, sources, confidence)
    classifier = _classifier(replace(request, boxes=detected), found.images)
    return predict_boxes(sources, classifier, detected, repeats=repeats, **told)


def _classifier(request: ClassifierRequest, images: list[ImageFile]) -> Classifier:
    """Return the classifier for some words, with labels that may fall back as asked for."""
    classifier = find_or_make(request, images)
    return classifier if classifier.above is not None else classifier.rolling_up(request.roll_up)
