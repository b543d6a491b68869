"""A classifier from what a text–image model says of some words, and the backbone of others."""

from __future__ import annotations

import numpy as np

from ..classification.classifier import Classifier
from ..classification.record import WORDS_RECIPE, ModelRecord
from ..datasets.files import ImageFile
from ..errors import InvalidArgument
from ..heads.zero_shot import fit_words, joined, of_learned
from ..teaching.by_tower import teach_by_tower
from ..towers.names import check_name
from ..towers.tower import open_tower
from ..training.recipes import WORDS
from ..training.request import open_embedder
from ..words.class_names import with_catch_all
from ..words.verdicts import resolve_all
from .by_words import ADAPT_TO, keep_made
from .request import ClassifierRequest, embed_readable


def check_words_model(request: ClassifierRequest, boxes: object, roll_up: object) -> None:
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


def from_tower(request: ClassifierRequest, asked: list[str], images: list[ImageFile]) -> Classifier:
    """Make a head from what a text–image model says of some words, and the backbone of others."""
    words, say, wanted = request.words, request.say, request.words_model
    assert wanted is not None
    own = [word for word in words if word not in asked]
    senses = resolve_all(own, request.force) if own else []
    tower = open_tower(wanted) if isinstance(wanted, str) else wanted
    embedder = open_embedder(request.backbone)
    sample = images[:: -(-len(images) // ADAPT_TO)]  # evenly spaced
    read, found = embed_readable(embedder, sample, request.progress)
    embeddings = np.stack(found)
    places = [words.index(word) for word in asked]
    taught = teach_by_tower(
        tower,
        words,
        places,
        read,
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
    return keep_made(
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
