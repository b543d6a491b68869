"""What to search for: the word, its synonyms and kinds; or words that have nothing to do with
it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..errors import InvalidArgument, UnknownWord
from ..words.vocabulary import Synset, children_of, imagenet_synsets, resolve, senses, synsets

MAX_TEXTS = 60
MAX_FAMILY = 600  # meanings under one parent


def search_texts(word: str) -> list[str]:
    """Return what to search for, the most exact first: the word, its synonyms, then its kinds, the
    nearest first.

    A kind is searched with the word beside it ("tabby cat"), for its name alone often means
    something else. A word of several meanings, or of none the vocabulary knows, is only searched as
    it is.
    """
    plain, _, hint = word.partition("#")
    plain = " ".join(plain.split())
    texts = [f"{plain} {hint}".strip() if not hint.startswith("n0") else plain]
    meaning = _meaning(word)
    if meaning is not None:
        names = {name.casefold() for name in meaning.words}
        texts += [name for name in meaning.words if len(senses(name)) == 1]
        for kind in _kinds(meaning):
            name = kind.words[0]
            texts.append(
                name if any(own in name.casefold() for own in names) else f"{name} {plain}"
            )
    return list({text.casefold(): text for text in reversed(texts)}.values())[::-1][:MAX_TEXTS]


def unrelated_texts(words: Sequence[str]) -> list[str]:
    """Return names of ImageNet classes that have nothing to do with the words, in an order that the
    words decide.

    Left out is whatever stands above or below any meaning of a word, or beside it under the same
    parent.

    Raises:
        InvalidArgument: if nothing is left, for the words mean nearly everything.
    """
    table = synsets()
    related: set[str] = set()
    for word in words:
        for sense in senses(word.partition("#")[0]):
            related |= _all_above(sense.synset.wnid) | _all_below(sense.synset.wnid)
            for parent in sense.synset.parents:
                family = _all_below(parent) if parent in table else set()
                if len(family) <= MAX_FAMILY:  # else it is no family, but half the world
                    related |= family
    named = {part for word in words for part in word.partition("#")[0].casefold().split()}
    left = [
        synset
        for synset in imagenet_synsets()
        if synset.wnid not in related and not named & _tokens(synset)
    ]
    if not left:
        raise InvalidArgument(
            f"Nothing is unrelated to {', '.join(words)}: the words mean too much. Leave "
            "--negatives out, or choose narrower words."
        )
    random.Random("\n".join(sorted(words))).shuffle(left)
    return [synset.words[0] for synset in left]


def _meaning(word: str) -> Synset | None:
    try:
        return resolve(word).synset
    except UnknownWord:
        every = senses(word.partition("#")[0])
        return every[0].synset if len(every) == 1 else None


def _kinds(meaning: Synset) -> list[Synset]:
    found: list[Synset] = []
    level = [meaning.wnid]
    while level:
        level = [child for wnid in level for child in children_of(wnid)]
        found += [synsets()[wnid] for wnid in level if synsets()[wnid] not in found]
    return found


def _all_below(wnid: str) -> set[str]:
    found, stack = {wnid}, [wnid]
    while stack:
        for child in children_of(stack.pop()):
            if child not in found:
                found.add(child)
                stack.append(child)
    return found


def _all_above(wnid: str) -> set[str]:
    found, stack = {wnid}, [wnid]
    while stack:
        for parent in synsets()[stack.pop()].parents:
            if parent in synsets() and parent not in found:
                found.add(parent)
                stack.append(parent)
    return found


def _tokens(synset: Synset) -> set[str]:
    return {part for word in synset.words for part in word.casefold().replace("-", " ").split()}
