"""The model that answers before anything was annotated: one that was given, or words."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backbones.backbone import DEFAULT_BACKBONE
from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..classification.classifier import Classifier, load
from ..classification.record import WORDS_RECIPE, ModelRecord
from ..heads.zero_shot import untaught
from ..words.class_names import check_class_names, parse_classes, split_none, with_catch_all
from ..words.verdicts import KNOWN, judge, resolve_all

log = logging.getLogger("wordsight")


@dataclass(frozen=True)
class Start:
    """What answers before anything was annotated.

    Attributes:
        name: what its versions are called.
        model: the model, or None where no word is known.
        embedder: encodes pictures for it, and for what is learned.
    """

    name: str
    model: Classifier | None
    embedder: Embedder

    @property
    def version(self) -> str:
        """Name and digits of what it answers by: other answers, another version."""
        if self.model is None:
            return self.name
        digest = hashlib.sha256(self.embedder.key.encode())
        heads = [self.model.head.weight, self.model.head.bias]
        if self.model.words is not None:
            heads += [np.array([index for group in self.model.words.groups for index in group])]
        for array in heads:
            digest.update(np.ascontiguousarray(array).tobytes())
        return f"{self.name}-{digest.hexdigest()[:6]}"


def start_with_model(path: str) -> Start:
    """Return a model folder as what to start with.

    Raises:
        NotFound, InvalidModel, BackboneUnavailable: see `load`.
    """
    model = load(path)
    return Start(Path(path).expanduser().resolve().name, model, model.embedder)


def start_with_words(classes: str) -> Start:
    """Return words as what to start with; what is said of words that are not known is logged.

    Raises:
        InvalidArgument: if there is no word, or two overlap.
    """
    words, _ = split_none(parse_classes(classes))
    check_class_names(words)
    embedder = Embedder(load_backbone(DEFAULT_BACKBONE))
    verdicts = [judge(word) for word in words]
    known = [one.word for one in verdicts if one.verdict == KNOWN]
    for one in verdicts:
        if one.verdict != KNOWN:
            log.info(
                "'%s' is not known well enough (%s): it is suggested once it was learned from "
                "annotations.",
                one.word,
                one.verdict,
            )
    model = None
    if known:
        senses = resolve_all(known)
        weight, bias = embedder.backbone.imagenet_head()
        head = untaught(weight, bias, tuple(sense.classes for sense in senses))
        names = [word.partition("#")[0].strip() for word in known]  # without the hint
        model = Classifier(
            with_catch_all(names),
            head.rows(),
            embedder.backbone,
            words=head,
            catch_all=1 if len(known) == 1 else None,
            record=ModelRecord(
                recipe=WORDS_RECIPE,
                supervision="words alone",
                senses=[sense.name for sense in senses],
                dtype=embedder.dtype,
            ),
        )
        model.embedder = embedder
    return Start("-".join(words)[:60].replace(" ", "_"), model, embedder)
