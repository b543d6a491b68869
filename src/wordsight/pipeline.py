"""Run: words and photos in, answers out. Finds or makes the classifier, and says which way it
took.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .backbones.backbone import DEFAULT_BACKBONE, Backbone
from .backbones.embedder import Embedder
from .classification.classifier import UNPROMISED, Classifier, load
from .classification.model_folder import check_threshold
from .classification.photos import predict
from .classification.record import WORDS_RECIPE, ModelRecord
from .classification.results import Results
from .cleaning.cleaner import clean
from .core.home import expand, images_folder, is_offline
from .core.notebook import in_notebook
from .core.progress import Progress, or_notebook, parse_duration
from .datasets.annotations import read_together
from .datasets.files import ImageFile, find_images
from .datasets.labelled import LabelledSet, read_labelled, select_classes
from .errors import InvalidArgument, NothingGathered, OutputError
from .gathering.collector import gather as gather_images
from .heads.guarantee import check_precision
from .heads.zero_shot import fit_words, joined, of_learned
from .teaching.by_tower import teach_by_tower
from .towers.names import check_name
from .towers.tower import TextImageTower, open_tower
from .training.recipes import WORDS, default_model_path, find_model, train_labelled
from .training.request import TrainingRequest, embed_all, open_embedder
from .traps.boxes import DetectorBoxes, read_boxes
from .traps.crops import crop_embeddings
from .traps.photos import predict_boxes
from .words.class_names import (
    fold,
    is_catch_all,
    parse_classes,
    same_classes,
    split_none,
    with_catch_all,
)
from .words.roll_up import classes_below
from .words.verdicts import AMBIGUOUS, KNOWN, NARROW, class_words, judge, resolve_all
from .words.vocabulary import Sense

log = logging.getLogger("wordsight")
Say = Callable[[str], None]
Consent = Callable[[str], bool]  # asks a person yes or no
GATHERED = "gathered pictures"
GATHER_LIMIT = 600  # images a class
TOO_FEW = 10
ADAPT_TO = 10_000  # photos; more teach nothing new and take memory


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
        _announce,
        force,
        precision is not None,
        words_model=words_model,
        words_model_for=words_model_for,
    )
    _check_words_model(request, boxes, roll_up)
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
    sources = _places(photos)
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


def _announce(sentence: str) -> None:
    """Log a sentence, and print it in a notebook."""
    log.info(sentence)
    if in_notebook():
        print(sentence)


@dataclass(frozen=True)
class ClassifierRequest:
    """The classifier that `run` needs; fields as in `run`.

    Attributes:
        words: what is to be recognised.
        say: called with one sentence on which way was taken.
        promised: whether a precision is to be promised, which takes labelled images.
        boxes: of a detector, in which the words are looked for; None: in whole photos.
        roll_up: words to which labels may fall back, or None.
        words_model, words_model_for: see `run`.
    """

    words: list[str]
    data: str | os.PathLike | Sequence[str | os.PathLike] | None = None
    model: str | os.PathLike | Classifier | None = None
    gather: bool | Consent = False
    backbone: str | Backbone = DEFAULT_BACKBONE
    progress: Progress | None = None
    say: Say = _announce
    force: bool = False
    promised: bool = False
    boxes: DetectorBoxes | None = None
    roll_up: tuple[str, ...] | None = None
    words_model: str | TextImageTower | None = None
    words_model_for: str = "unknown"

    def embeddings(self, embedder: Embedder, images: list[ImageFile]) -> list[np.ndarray]:
        """Return what a classifier made from words adapts to: the embedding (C,) of each image, or
        of each animal in a detector's boxes.

        Raises:
            InvalidArgument: if there is none.
        """
        if self.boxes is not None:
            told = self.boxes.images
            animals = {name: [box for box in told[name].boxes if box.is_animal] for name in told}
            jobs = [(file, animals[file.name]) for file in images if animals.get(file.name)]
            found = crop_embeddings(embedder, jobs, self.progress)
            if not found:
                raise InvalidArgument(
                    f"'{self.boxes.path}' has no box of an animal of a confidence of "
                    f"{self.boxes.confidence:g} or more in these photos, so there is nothing to "
                    "look for words in. --box-threshold takes less sure boxes."
                )
            return found
        items = embed_all(embedder, images, "photos read", self.progress)
        found = [item.embedding for item in items if item.embedding is not None]
        if not found:
            raise InvalidArgument(
                f"None of the {len(items)} pictures can be read; the first: "
                f"'{items[0].file.name}': {items[0].error}."
            )
        return found

    def load(self, path: str | os.PathLike) -> Classifier:
        """Load a model, to run where the backbone asked for would."""
        if isinstance(self.backbone, Backbone):
            return load(path, engine=self.backbone.engine, dtype=self.backbone.dtype)
        return load(path)

    def train(
        self,
        labelled: LabelledSet,
        supervision: str,
        cleaned: dict,
        places: list[str | os.PathLike],
    ) -> Classifier:
        """Train a probe on the labelled images of some places, kept among the models `run`
        finds.
        """
        return train_labelled(
            TrainingRequest(
                labelled,
                default_model_path(labelled.class_names),
                backbone=self.backbone,
                supervision=supervision,
                cleaned=cleaned,
                sources=[(str(expand(place).resolve()), None) for place in places],
                progress=self.progress,
            )
        )


def find_or_make(request: ClassifierRequest, images: list[ImageFile]) -> Classifier:
    """Return the classifier for some words, found or made.

    Args:
        request: the words, and what there is to learn from.
        images: the photos, which a classifier made from words alone adapts to.

    Raises:
        InvalidArgument, NotFound, NothingGathered: see `run`.
    """
    words, say = request.words, request.say
    if request.data is not None:
        labelled = select_classes(read_together(_places(request.data)), words)
        count = sum(image.split != "test" for image in labelled.images)
        where = ", ".join(f"'{place}'" for place in _places(request.data))
        say(f"Learning from your {count} labelled pictures in {where}.")
        classifier = request.train(labelled, "labelled pictures", {}, _places(request.data))
        for name, reason in classifier.record.unreadable:
            say(f"Left out, unreadable: {name}: {reason}")
        return classifier
    if request.model is not None:
        given = request.model
        classifier = given if isinstance(given, Classifier) else request.load(given)
        place = classifier.record.path if isinstance(given, Classifier) else given
        _check_model_classes(classifier, words, place)
        say(f"Using the model '{place}'.")
        return classifier
    words, nothing = split_none(words)
    if not words:
        raise InvalidArgument(
            f"'{nothing[0]}' means none of the other words, and there is no other. Name what the "
            "photos may show, such as -c cat,dog."
        )
    if nothing:
        say(f"'{nothing[0]}' means none of the other words: such photos get no label.")
    existing = find_model(request.words) or find_model(words)
    if existing is not None:
        classifier, wanted = request.load(existing), request.backbone
        asked = wanted.name if isinstance(wanted, Backbone) else wanted
        if asked in (DEFAULT_BACKBONE, classifier.backbone.name):
            say(f"Using the model made before for these classes: '{existing}'.")
            return classifier
    return _made(replace(request, words=words), images)


def _places(given: str | os.PathLike | Iterable[str | os.PathLike]) -> list[str | os.PathLike]:
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def _made(request: ClassifierRequest, images: list[ImageFile]) -> Classifier:
    """Make a classifier from the words alone, or from images gathered for them."""
    words, gather = request.words, request.gather
    if request.promised and not gather:
        raise InvalidArgument(
            "Words alone can promise no precision: that takes labelled pictures to check on. Give "
            "some with --data, or use -t."
        )
    fine = (KNOWN, AMBIGUOUS, NARROW) if request.force else (KNOWN, AMBIGUOUS)
    unknown = [word for word in words if judge(word).verdict not in fine]
    if request.words_model is not None and gather is not True:
        asked = words if request.words_model_for == "all" else unknown
        if asked:
            return _from_tower(request, asked, images)
        request.say(
            "The backbone knows the words, so the text–image model isn't needed "
            "(--words-model-for all asks it anyway)."
        )
    if callable(gather):
        gather = (
            bool(unknown)
            and not is_offline()
            and gather(
                f"wordsight doesn't know '{unknown[0]}' well enough. Search Openverse and "
                f"Wikimedia Commons for pictures of {', '.join(words)}, "
                f"up to {GATHER_LIMIT} each, and learn from them? This takes minutes."
            )
        )
    if gather:
        return _from_gathered(request)
    return _from_words(request, resolve_all(words, request.force), images)


def _from_gathered(request: ClassifierRequest) -> Classifier:
    """Gather images, and train on them."""
    words, say = request.words, request.say
    # as the folder is named, whatever the case they are typed in
    wanted = [fold(word) for word in words]
    names = with_catch_all(wanted)
    folder = images_folder() / default_model_path(names).name
    say(f"Gathering pictures of {', '.join(words)} into '{folder}'.")
    gathered = gather_images(
        wanted,
        folder,
        limit=GATHER_LIMIT,
        negatives=0 if len(words) > 1 else GATHER_LIMIT,
        progress=request.progress,
        say=say,
    )
    for name in names:
        if gathered.kept[name] < TOO_FEW:
            cause = next(cause for cause in gathered.causes if cause.startswith(f"{name}:"))
            raise NothingGathered(f"Too few pictures came to learn from. {cause}")
    say(
        "Gathered "
        + ", ".join(f"{count} of {name}" for name, count in gathered.kept.items())
        + f"; who made them is in '{folder / 'ATTRIBUTION.md'}'."
    )
    labelled, cleaned = _without_junk(folder, names, request)
    return request.train(select_classes(labelled, words), GATHERED, cleaned, [folder])


def _without_junk(
    folder: Path, names: list[str], request: ClassifierRequest
) -> tuple[LabelledSet, dict[str, int]]:
    """Return what was gathered without what cleaning finds, and that by reason; nothing is
    moved, and a report says what and why.
    """
    cleaned = clean(folder, backbone=request.backbone, progress=request.progress)
    found = [
        finding
        for finding in cleaned.findings
        # a catch-all has no outliers
        if not (is_catch_all(finding.label) and finding.reason == "outlier")
    ]
    junk = {finding.file_name for finding in found}
    labelled = read_labelled(folder)
    left = [image for image in labelled.images if image.name not in junk]
    counts = Counter(image.label for image in left)
    if min(counts[name] for name in names) < TOO_FEW:
        return labelled, {}  # so little is better learned from as it is
    if junk:
        request.say(
            f"Left out {len(labelled.images) - len(left)} that look like junk; see "
            f"'{cleaned.output}'."
        )
    return replace(labelled, images=left), dict(
        Counter(finding.reason for finding in found if finding.reason != "not_a_picture")
    )


def _check_model_classes(
    classifier: Classifier, words: list[str], model: str | os.PathLike | None
) -> None:
    known = classifier.class_names
    named, _ = split_none(words)
    if not any(
        same_classes(known, wanted)
        for wanted in (words, with_catch_all(words), named, with_catch_all(named))
    ):
        raise InvalidArgument(
            f"The model '{model}' knows {', '.join(classifier.class_names)}, not "
            f"{', '.join(words)}. Ask for its classes, or leave -m out."
        )


def _from_words(
    request: ClassifierRequest, senses: list[Sense], images: list[ImageFile]
) -> Classifier:
    """Make a head from the words and adapt it to the photos."""
    words, say = request.words, request.say
    meaning = ", ".join(
        f"{word} ({len(sense.classes)} ImageNet "
        f"{'class' if len(sense.classes) == 1 else 'classes'})"
        for word, sense in zip(words, senses, strict=True)
    )
    say(f"Using what the backbone knows: {meaning}. No training picture is needed.")
    embedder = open_embedder(request.backbone)
    weight, bias = embedder.backbone.imagenet_head()
    sample = images[:: -(-len(images) // ADAPT_TO)]  # evenly spaced
    embeddings = request.embeddings(embedder, sample)
    groups = [sense.classes for sense in senses]
    below = {} if request.roll_up is None else classes_below(request.roll_up, words)
    above = [tuple(sorted(i for word in chosen for i in groups[word])) for chosen in below.values()]
    both, counts = fit_words(np.stack(embeddings), weight, bias, (*groups, *above))
    fitted, fitted_above = both.split(len(words))
    names = with_catch_all(words)
    learned = {word: int(count) for word, count in zip(words, counts[: len(words)], strict=True)}
    adapted = [f"{count} as {word}" for word, count in learned.items() if count]
    if adapted:
        say(f"Adapted to your photos, of which some are sure: {', '.join(adapted)}.")
    record = ModelRecord(
        recipe=WORDS_RECIPE,
        supervision=WORDS,
        images=learned,
        senses=[s.name for s in senses],
        stand_ins={
            word: class_words(sense.classes)
            for word, sense in zip(words, senses, strict=True)
            if not sense.synset.well_known
        },
        dtype=embedder.dtype,
    )
    classifier = Classifier(
        names,
        fitted.rows(),
        embedder.backbone,
        words=fitted,
        catch_all=1 if len(words) == 1 else None,
        record=record,
        roll_up=below,
        above=fitted_above if below else None,
    )
    return _kept(classifier)


def _kept(classifier: Classifier) -> Classifier:
    """Save a classifier of words among the models made here, if it can be written."""
    path = default_model_path(classifier.class_names)
    path = path.with_name(path.name + "-words")
    try:
        classifier.save(path)
        classifier.record.path = path
    except OutputError as error:
        log.warning("%s Until then 'run' makes this model anew each time.", error)
    return classifier


def _check_words_model(request: ClassifierRequest, boxes: object, roll_up: object) -> None:
    """Refuse a text–image model together with what it can't be used for."""
    if request.words_model_for not in ("unknown", "all"):
        raise InvalidArgument(
            f"Unknown --words-model-for '{request.words_model_for}'. Choose unknown (words that "
            "the backbone doesn't know well enough) or all."
        )
    if request.words_model is None:
        return
    if isinstance(request.words_model, str):
        check_name(request.words_model)
    if boxes is not None or roll_up is not None:
        other = "--boxes" if boxes is not None else "--roll-up"
        raise InvalidArgument(
            f"A text–image model (--words-model) looks at whole photos and at the words asked for; "
            f"it can't be used with {other}. Leave one of them out."
        )


def _from_tower(
    request: ClassifierRequest, asked: list[str], images: list[ImageFile]
) -> Classifier:
    """Make a head from what a text–image model says of some words, and the backbone of others."""
    words, say, wanted = request.words, request.say, request.words_model
    assert wanted is not None
    own = [word for word in words if word not in asked]
    senses = resolve_all(own, request.force) if own else []
    tower = open_tower(wanted) if isinstance(wanted, str) else wanted
    embedder = open_embedder(request.backbone)
    sample = images[:: -(-len(images) // ADAPT_TO)]  # evenly spaced
    items = embed_all(embedder, sample, "photos read", request.progress)
    read = [item for item in items if item.embedding is not None]
    if not read:
        raise InvalidArgument(
            f"None of the {len(items)} pictures can be read; the first: "
            f"'{items[0].file.name}': {items[0].error}."
        )
    embeddings = np.stack([np.asarray(item.embedding) for item in read])
    places = [words.index(word) for word in asked]
    taught = teach_by_tower(
        tower,
        words,
        places,
        [item.file for item in read],
        embeddings,
        embedder.backbone,
        say,
        request.progress,
    )
    learned = taught.learned
    head, counts = (
        of_learned(learned.weight, learned.bias),
        dict(zip(asked, learned.counts, strict=True)),
    )
    if own:
        groups = tuple(sense.classes for sense in senses)
        known, sure = fit_words(embeddings, *embedder.backbone.imagenet_head(), groups)
        head = joined(known, head, places)
        counts |= dict(zip(own, sure, strict=True))
        say(f"The backbone knows {', '.join(own)} by itself.")
    names = with_catch_all(words)
    told = np.full((len(taught.files), len(words)), np.nan)
    told[:, places] = learned.probabilities
    if len(words) == 1:
        told = np.concatenate([told, 1 - told], axis=1)
    by_word = {word: sense.name for word, sense in zip(own, senses, strict=True)}
    return _kept(
        Classifier(
            names,
            head.rows(),
            embedder.backbone,
            words=head,
            catch_all=1 if len(words) == 1 else None,
            record=ModelRecord(
                recipe=WORDS_RECIPE,
                supervision=WORDS,
                images={word: int(counts[word]) for word in words},
                senses=[by_word.get(word, word) for word in words],
                dtype=embedder.dtype,
            ),
            seen={file.name: row for file, row in zip(taught.files, told, strict=True)},
        )
    )
