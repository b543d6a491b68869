"""A classifier from the backbone's own vocabulary, adapted to the photos."""

from __future__ import annotations

import logging

import numpy as np

from ..classification.classifier import Classifier
from ..classification.record import WORDS_RECIPE, ModelRecord
from ..datasets.files import ImageFile
from ..errors import OutputError
from ..heads.zero_shot import fit_words
from ..training.recipes import WORDS, default_model_path
from ..training.request import open_embedder
from ..words.class_names import with_catch_all
from ..words.roll_up import classes_below
from ..words.verdicts import class_words
from ..words.vocabulary import Sense
from .request import ClassifierRequest

log = logging.getLogger("wordsight")
ADAPT_TO = 10_000  # photos; more teach nothing new and take memory


def from_words(
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
    return keep_made(classifier)


def keep_made(classifier: Classifier) -> Classifier:
    """Save a classifier of words among the models made here, if it can be written."""
    path = default_model_path(classifier.class_names, "-words")
    try:
        classifier.save(path)
        classifier.record.path = path
    except OutputError as error:
        log.warning("%s Until then 'run' makes this model anew each time.", error)
    return classifier
