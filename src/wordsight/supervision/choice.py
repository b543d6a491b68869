"""Find or make the classifier for some words, with the first supervision that applies."""

from __future__ import annotations

import os
from dataclasses import replace

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..classification.classifier import Classifier
from ..core.home import is_offline
from ..datasets.annotations import read_together
from ..datasets.files import ImageFile
from ..datasets.labelled import select_classes
from ..errors import InvalidArgument
from ..training.recipes import find_model
from ..words.class_names import catch_all_name, same_classes, split_none, with_catch_all
from ..words.verdicts import AMBIGUOUS, KNOWN, NARROW, judge, resolve_all
from .by_tower import from_tower
from .by_words import from_words
from .gathered import GATHER_LIMIT, from_gathered
from .request import ClassifierRequest, as_list


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
        labelled = select_classes(read_together(as_list(request.data)), words)
        count = sum(image.split != "test" for image in labelled.images)
        where = ", ".join(f"'{place}'" for place in as_list(request.data))
        say(f"Learning from your {count} labelled pictures in {where}.")
        classifier = request.train(labelled, "labelled pictures", {}, as_list(request.data))
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
        get = "no label" if len(words) > 1 else f"the label '{catch_all_name(words)}'"
        say(f"'{nothing[0]}' means none of the other words: such photos get {get}.")
    existing = find_model(request.words) or find_model(words)
    if existing is not None:
        classifier, wanted = request.load(existing), request.backbone
        asked = wanted.name if isinstance(wanted, Backbone) else wanted
        if asked in (DEFAULT_BACKBONE, classifier.backbone.name):
            say(f"Using the model made before for these classes: '{existing}'.")
            return classifier
    return _made(replace(request, words=words), images)


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
            return from_tower(request, asked, images)
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
        return from_gathered(request)
    return from_words(request, resolve_all(words, request.force), images)


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
