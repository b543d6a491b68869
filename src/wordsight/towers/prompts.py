"""What a tower is asked: prompts around a phrase, and the rivals that a word must beat."""

from __future__ import annotations

import functools

from ..words.vocabulary import base_form, children_of, imagenet_synsets, nouns, senses, synsets

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
RIVALS = 300


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


def rivals(words: tuple[str, ...], count: int = RIVALS) -> list[str]:
    """Return common nouns that stand beside words in a photo's description, without the words
    themselves and what is above or below them in meaning.

    Args:
        words: what is looked for.
        count: how many.
    """
    near = {plain(word).casefold() for word in words}
    for word in words:
        for sense in senses(plain(word)):
            near |= _kin(sense.synset.wnid)
        base = base_form(plain(word), nouns().nearest)
        if base is not None and nouns().nearest[base] != "-":
            near |= _kin(nouns().nearest[base], below=False)
    names = [synset.words[0].lower() for synset in imagenet_synsets()]
    common = [*_everyday(), *names]
    return [word for word in dict.fromkeys(common) if word not in near][:count]


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
