"""Run: words and photos in, answers out. Finds or makes the classifier, and says which way it
took.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .backbones.registry import DEFAULT_BACKBONE
from .classification.classifier import Classifier, load
from .classification.model_folder import DEFAULT_THRESHOLD, check_threshold
from .classification.predictions import Results
from .cleaning.cleaner import clean
from .core.home import expand, images_folder, is_offline
from .core.notebook import in_notebook
from .core.progress import or_notebook
from .datasets.annotations import read_labels
from .datasets.files import ImageFile, LabelledSet, find_images, read_labelled, select_classes
from .errors import InvalidArgument, NothingGathered, UnknownWord
from .gathering.collector import gather as gather_images
from .heads.zero_shot import Gate, fit_words_head
from .training.recipes import WORDS, Embedding, default_model_path, find_model, train_labelled
from .words.class_names import (
    fold,
    is_catch_all,
    parse_classes,
    same_classes,
    with_catch_all,
)
from .words.vocabulary import Sense, resolve, synsets
from .words.vocabulary import senses as senses_of

Say = Callable[[str], None]
Consent = Callable[[str], bool]  # asks a person yes or no
GATHERED = "gathered pictures"
GATHER_LIMIT = 600  # images a class
TOO_FEW = 10
ADAPT_TO = 10_000  # photos; more teach nothing new and take memory


def run(
    classes: str | Iterable[str],
    photos: str | os.PathLike | Iterable[str | os.PathLike],
    output: str | os.PathLike | None = "results",
    threshold: float | None = None,
    data: str | os.PathLike | None = None,
    model: str | os.PathLike | None = None,
    draw: bool = True,
    how: Embedding | None = None,
    say: Say | None = None,
    gather: bool = False,
    consent: Consent | None = None,
) -> Results:
    """Recognise the words in the photos, with the first supervision that applies.

    1. labelled images given with `data`;
    2. a model already made for exactly these classes, or `model`;
    3. the backbone's own vocabulary, adapted to the photos themselves;
    4. images gathered for the words: with `gather` instead of 3, or where a word is unknown and
       `consent` says yes.

    Args:
        classes: "cat,dog" or a list; one word alone is a yes/no question.
        photos: folders, files or globs.
        output: folder of the results; None writes nothing.
        threshold: calibrated probability from which a label is given, 0–1; default 0.99.
        data: labelled images.
        model: model folder.
        draw: False writes tables only.
        how: backbone, engine, dtype and progress.
        say: called with one line on which way was taken.
        gather: gather images for the words, unless data or a model for them is there.
        consent: asked before images are gathered for words the backbone doesn't know; None stands
            for no.

    Raises:
        InvalidArgument: a class twice, a word nobody knows (`UnknownWord`), a model for other
            classes, …
        NotFound: photos, data or model do not exist.
        NothingGathered: too few images came.
    """
    words = parse_classes(classes)
    how, say = (
        how or Embedding(progress=or_notebook(None)),
        say or (print if in_notebook() else lambda _: None),
    )
    if threshold is not None:
        check_threshold(threshold)
    if data is not None and model is not None:
        raise InvalidArgument("Give either labelled pictures (--data) or a model (-m), not both.")
    sources = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
    # before any work: is there something to do?
    found = find_images(sources, exclude=None if output is None else expand(output))
    classifier = _given(words, data, model, how, say) or _made(
        words, found.images, gather, consent, how, say
    )
    return classifier.predict(sources, threshold, output, draw, how.engine, how.dtype, how.progress)


def _given(
    words: list[str],
    data: str | os.PathLike | None,
    model: str | os.PathLike | None,
    how: Embedding,
    say: Say,
) -> Classifier | None:
    """Return the classifier of the user's own images or of a model that is there."""
    if data is not None:
        labelled = select_classes(read_labels(data), words)
        say(
            "Learning from your "
            f"{sum(image.split != 'test' for image in labelled.images)} labelled pictures "
            f"in '{data}'."
        )
        classifier = train_labelled(labelled, None, "probe", how)
        for name, reason in classifier.info["unreadable"]:
            say(f"Left out, unreadable: {name}: {reason}")
        return classifier
    if model is not None:
        classifier = load(model)
        _check_model_classes(classifier, words, model)
        say(f"Using the model '{model}'.")
        return classifier
    existing = find_model(words)
    if existing is not None and how.name in (DEFAULT_BACKBONE, load(existing).backbone.name):
        say(f"Using the model made before for these classes: '{existing}'.")
        return load(existing)
    return None


def _made(
    words: list[str],
    photos: list[ImageFile],
    gather: bool,
    consent: Consent | None,
    how: Embedding,
    say: Say,
) -> Classifier:
    """Make a classifier from the words alone, or from images gathered for them."""
    unknown = [
        word
        for word in words
        if not any(sense.classes for sense in senses_of(word.partition("#")[0]))
    ]
    if unknown and not gather and consent is not None and not is_offline():
        gather = consent(
            f"The backbone doesn't know '{unknown[0]}'. Search Openverse and Wikimedia "
            f"Commons for pictures of {', '.join(words)}, "
            f"up to {GATHER_LIMIT} each, and learn from them? This takes minutes."
        )
    if gather:
        return _from_gathered(words, how, say)
    return _from_words(words, _resolve_all(words), photos, how, say)


def _from_gathered(words: list[str], how: Embedding, say: Say) -> Classifier:
    """Gather images, and train on them."""
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
        progress=how.progress,
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
    labelled, cleaned = _without_junk(folder, names, how, say)
    return train_labelled(
        select_classes(labelled, words), None, "probe", how, supervision=GATHERED, cleaned=cleaned
    )


def _without_junk(
    folder: Path, names: list[str], how: Embedding, say: Say
) -> tuple[LabelledSet, dict[str, int]]:
    """Return what was gathered without what cleaning finds, and that by reason; nothing is
    moved, and a report says what and why.
    """
    cleaned = clean(
        folder, backbone=how.name, engine=how.engine, dtype=how.dtype, progress=how.progress
    )
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
        say(
            f"Left out {len(labelled.images) - len(left)} that look like junk; see "
            f"'{cleaned.output}'."
        )
    return replace(labelled, images=left), dict(
        Counter(finding.reason for finding in found if finding.reason != "not_a_picture")
    )


def _check_model_classes(
    classifier: Classifier, words: list[str], model: str | os.PathLike
) -> None:
    known = classifier.class_names
    if not (same_classes(known, words) or same_classes(known, with_catch_all(words))):
        raise InvalidArgument(
            f"The model '{model}' knows {', '.join(classifier.class_names)}, not "
            f"{', '.join(words)}. Ask for its classes, or leave -m out."
        )


def _resolve_all(words: list[str]) -> list[Sense]:
    senses = []
    for word in words:
        try:
            senses.append(resolve(word))
        except UnknownWord as error:
            known = any(sense.classes for sense in senses_of(word.partition("#")[0]))
            raise UnknownWord(
                f"{error}{'' if known else ' Or have pictures gathered for it: --gather.'}"
            ) from None
    for i, first in enumerate(senses):
        for j in range(i + 1, len(senses)):
            shared = set(first.classes) & set(senses[j].classes)
            if shared:
                index = min(shared)
                example = next(s.words[0] for s in synsets().values() if s.index == index)
                raise InvalidArgument(
                    f"'{words[i]}' and '{words[j]}' overlap: {example} is both. Choose words "
                    "that exclude each other."
                )
    return senses


def _from_words(
    words: list[str], senses: list[Sense], photos: list[ImageFile], how: Embedding, say: Say
) -> Classifier:
    """Make a head from the words and adapt it to the photos."""
    meaning = ", ".join(
        f"{word} ({len(sense.classes)} ImageNet "
        f"{'class' if len(sense.classes) == 1 else 'classes'})"
        for word, sense in zip(words, senses, strict=True)
    )
    say(f"Using what the backbone knows: {meaning}. No training picture is needed.")
    embedder = how.open()
    try:
        gate = Gate(*embedder.backbone.imagenet_head(), tuple(sense.classes for sense in senses))
        sample = photos[:: -(-len(photos) // ADAPT_TO)]  # evenly spaced
        items = how.embed_all(embedder, sample, "photos read")
    finally:
        embedder.cache.close()
    embeddings = [item.embedding for item in items if item.embedding is not None]
    if not embeddings:
        raise InvalidArgument(
            f"None of the {len(items)} pictures can be read; the first: '{items[0].file.name}': "
            f"{items[0].error}."
        )
    fitted = fit_words_head(np.stack(embeddings), gate)
    names = with_catch_all(words)
    learned = dict(zip(names, fitted.learned_from, strict=True))
    if any(fitted.learned_from):
        say(
            "Adapted to your photos: "
            + ", ".join(f"{count} as {name}" for name, count in learned.items())
            + "."
        )
    else:
        say(
            "Not every word is shown by enough photos to adapt to them; using the words as "
            "they are, which leaves more photos without a label. "
            "Labelled pictures (--data) or gathered ones (--gather) do better, and so does "
            "'wordsight recognize --group' where few photos show a word."
        )
    info = {
        "recipe": "words",
        "supervision": WORDS,
        "threshold": DEFAULT_THRESHOLD,
        "pictures": learned,
        "senses": [s.name for s in senses],
        "dtype": how.dtype,
    }
    classifier = Classifier(
        names,
        fitted.head,
        embedder.backbone,
        fitted.neighbourhood,
        fitted.gate,
        1 if len(words) == 1 else None,
        info,
    )
    path = default_model_path(names)
    path = path.with_name(path.name + "-words")
    classifier.save(path)
    classifier.info["path"] = str(path)
    return classifier
