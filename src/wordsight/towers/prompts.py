"""What a tower is asked: prompts around a phrase, and the rivals that a word must beat."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..errors import UnknownWord
from ..words.vocabulary import (
    base_form,
    children_of,
    classes_under,
    imagenet_synsets,
    nouns,
    resolve,
    senses,
    synsets,
)

# The seven prompts that CLIP's authors found best for ImageNet (openai/CLIP, "Prompt engineering
# for ImageNet"); SigLIP 2 and Perception Encoder are evaluated with prompts of this set
TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
PHOTO = "a photo of a {}."  # of rivals, which are many
NOTHING = ("a photo", "a picture", "an image of something", "a blurry photo")
RIVALS, KIN = 300, 40  # and of these, near a word in meaning at most


def plain(word: str) -> str:
    """Return a word as a tower reads it: without the hint after `#`."""
    return " ".join(word.partition("#")[0].split())


def prompts(phrase: str) -> list[str]:
    """Return the prompts whose mean stands for a phrase."""
    return [template.format(plain(phrase)) for template in TEMPLATES]


@functools.cache
def _everyday() -> tuple[str, ...]:
    """Return the nouns that WordNet's tagged texts use most for things wordsight can see."""
    best: dict[str, int] = {}
    for synset in synsets().values():
        if not synset.size and synset.index is None:
            continue
        word, frequency = synset.words[0].lower(), synset.frequencies[0]
        best[word] = max(frequency, best.get(word, 0))
    return tuple(sorted(best, key=lambda word: (-best[word], word)))


def rivals(words: tuple[str, ...], there: Sequence[str] = (), count: int = RIVALS) -> list[str]:
    """Return common nouns that stand beside words in a photo's description: first what is near the
    words in meaning and what else the folder shows, since that is what they are taken for; none of
    them is a word itself, or above or below one in meaning.

    Args:
        words: what is looked for.
        there: names of what the folder's photos show.
        count: how many.
    """
    itself = {plain(word).casefold() for word in words}
    places = [_meanings(word) for word in words]
    for own, near in places:
        for wnid in own:
            itself |= _kin(wnid)
        for wnid in near:
            itself |= _kin(wnid, below=False)
    beside = [_around([*own, *near], itself) for own, near in places]
    # a few of each word in turn
    near = [group[at] for at in range(KIN) for group in beside if at < len(group)]
    common = [
        *near,
        *there,
        *_everyday(),
        *(synset.words[0].lower() for synset in imagenet_synsets()),
    ]
    return [word for word in dict.fromkeys(common) if word not in itself][:count]


def _meanings(word: str) -> tuple[list[str], list[str]]:
    """Return the ids of a word's meanings and, of a word that names none of the table's, of what is
    above it.
    """
    try:
        return [resolve(word).synset.wnid], []
    except UnknownWord:
        own = [sense.synset.wnid for sense in senses(plain(word))]
    base = base_form(plain(word), nouns().nearest)
    above = [] if base is None or nouns().nearest[base] == "-" else [nouns().nearest[base]]
    return own, above


def _around(places: list[str], itself: set[str]) -> list[str]:
    """Return names of what is near meanings: their own kinds, and those of what is above them, the
    nearest first, without those in `itself`.
    """
    found: list[str] = []
    level = places
    while level and len(found) < KIN:
        under = [child for one in level for child in (children_of(one) or [one])]
        under = [one for one in under if one in synsets()]
        # the most usual first
        under.sort(key=lambda one: -max(synsets()[one].frequencies, default=0))
        names = [synsets()[one].words[0].lower() for one in under]
        names += [synsets()[index].words[0].lower() for index in _classes(under)]
        found += [name for name in dict.fromkeys(names) if name not in {*found, *itself}]
        level = [parent for one in level for parent in synsets()[one].parents]
        level = [one for one in dict.fromkeys(level) if one in synsets()]
    return found[:KIN]


def _classes(places: list[str]) -> list[str]:
    """Return the ids of the ImageNet classes under meanings, spread over them."""
    ids = [synset.wnid for synset in imagenet_synsets()]
    groups = [classes_under(place) for place in places]
    longest = max(map(len, groups), default=0)
    return [ids[group[at]] for at in range(min(longest, 3)) for group in groups if at < len(group)]


def _kin(wnid: str, below: bool = True) -> set[str]:
    """Return all names of a meaning and of those above it and, if asked for, below it."""
    found, waiting = {wnid}, [wnid]
    while waiting:
        above = [one for one in synsets()[waiting.pop()].parents if one in synsets()]
        waiting += [one for one in above if one not in found]
        found |= set(above)
    if below:
        waiting = [wnid]
        while waiting:
            under = [one for one in children_of(waiting.pop()) if one not in found]
            waiting += under
            found |= set(under)
    return {word.lower() for one in found for word in synsets()[one].words}


def table_nouns(count: int) -> list[str]:
    """Return nouns for a table of text vectors: first those of the things wordsight knows and of
    all above them, the most used first; then of what lies near them in meaning, short names first,
    since WordNet's tagged texts use too few of these to be counted.
    """
    seen = [noun for noun, place in nouns().nearest.items() if place != "-"]
    first = [word.lower() for synset in synsets().values() for word in synset.words]
    everyday = list(_everyday())
    ordered = [*everyday, *first, *sorted(seen, key=lambda noun: (noun.count(" "), len(noun)))]
    return list(dict.fromkeys(ordered))[:count]
