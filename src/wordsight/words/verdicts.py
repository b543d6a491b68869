"""What a word is worth: whether the backbone knows it, knows too few of its kinds, must ask which
meaning is meant, or doesn't know it; and what it knows that is near in meaning.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidArgument, UnknownWord
from .vocabulary import (
    Sense,
    base_form,
    children_of,
    classes_under,
    imagenet_synsets,
    nouns,
    resolve,
    senses as senses_of,
    synsets,
)

KNOWN, NARROW, AMBIGUOUS, UNKNOWN = "known", "narrow", "ambiguous", "unknown"
NEIGHBOURS = 6
A_FEW = 3  # classes of a family that are named one by one
TOO_GENERAL = 800  # meanings under one that says nothing of what is under it
LISTED = 4  # kinds of a narrow word that a sentence names
EXAMPLES = (
    "Teach wordsight in a few key presses ('wordsight teach -c WORD -p PHOTOS'), show it examples "
    "(--data FOLDER), or let it gather pictures (--gather)"
)
SIMILAR = 0.8  # of two spellings, 0–1, for one to be a typing error


@dataclass(frozen=True)
class Verdict:
    """What a word is worth.

    Attributes:
        word: as it was typed.
        verdict: "known"; "narrow": only a few of its kinds are; "ambiguous": it has several
            meanings; "unknown".
        sense: the meaning taken, where the word is known or narrow.
        senses: all its meanings, those with classes first.
        neighbours: what is known that is near in meaning, the nearest first; empty where the word
            is known.
        spellings: words that it may be a typing error for.
        reason: a sentence; "" where the word is known.
    """

    word: str
    verdict: str
    sense: Sense | None = None
    senses: list[Sense] = field(default_factory=list)
    neighbours: list[str] = field(default_factory=list)
    spellings: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def classes(self) -> list[str]:
        """Names of the ImageNet classes it stands for."""
        return [] if self.sense is None else class_words(self.sense.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        names = imagenet_synsets()
        return {
            "word": self.word,
            "verdict": self.verdict,
            "classes": self.classes,
            "neighbours": self.neighbours,
            "spellings": self.spellings,
            "message": self.reason,
            "senses": [
                {
                    "name": sense.name,
                    "chosen": self.sense is not None and sense.name == self.sense.name,
                    "wnid": sense.synset.wnid,
                    "words": list(sense.synset.words),
                    "gloss": sense.synset.gloss,
                    "classes": [
                        [index, names[index].wnid, names[index].words[0]] for index in sense.classes
                    ],
                }
                for sense in self.senses
            ],
        }


def judge(word: str) -> Verdict:
    """Return what a word is worth; `word#hint` chooses among meanings."""
    plain = word.partition("#")[0].strip()
    senses = senses_of(plain)
    try:
        sense = resolve(word)
    except UnknownWord as error:
        if any(sense.classes for sense in senses):
            return Verdict(word, AMBIGUOUS, None, senses, reason=str(error))
        return _unknown(word, plain, senses)
    if sense.name not in [one.name for one in senses]:
        senses = [sense, *senses]
    if sense.synset.well_known:
        return Verdict(word, KNOWN, sense, senses)
    return Verdict(
        word,
        NARROW,
        sense,
        senses,
        _neighbours(sense.synset.wnid, set(sense.classes)),
        reason=_narrow_reason(plain, sense),
    )


def resolve_all(words: Sequence[str], force: bool = False) -> list[Sense]:
    """Return the meanings of words that a classifier is to be made of.

    Args:
        words: as they were typed.
        force: take a word of which only a few kinds are known for these.

    Raises:
        UnknownWord: if words are not known well enough, or must be chosen; all are named.
        InvalidArgument: if two words mean the same thing in part.
    """
    verdicts = [judge(word) for word in words]
    senses = [
        verdict.sense
        for verdict in verdicts
        if verdict.sense is not None and (force or verdict.verdict == KNOWN)
    ]
    if len(senses) < len(words):
        raise UnknownWord(_all_reasons(verdicts, force))
    for i, first in enumerate(senses):
        for j in range(i + 1, len(senses)):
            shared = sorted(set(first.classes) & set(senses[j].classes))
            if shared:
                raise InvalidArgument(
                    f"'{words[i]}' and '{words[j]}' overlap: {class_words(shared)[0]} is both. "
                    "Choose words that exclude each other."
                )
    return senses


def _all_reasons(verdicts: Sequence[Verdict], force: bool) -> str:
    """Return in sentences why words can't be used, and what to do next."""
    unknown = [v for v in verdicts if v.verdict == UNKNOWN]
    narrow = [v for v in verdicts if v.verdict == NARROW and not force]
    asked = [v for v in verdicts if v.verdict == AMBIGUOUS]
    parts = []
    if len(unknown) == 1:
        parts.append(unknown[0].reason)
    elif unknown:
        listed = [repr(verdict.word) for verdict in unknown]
        parts.append(f"wordsight doesn't know {', '.join(listed[:-1])} or {listed[-1]}.")
    parts += [v.reason for v in narrow]
    if unknown or narrow:
        parts.append(
            f"{EXAMPLES}, or take what it knows for the word (--force)."
            if narrow
            else f"{EXAMPLES}."
        )
    return " ".join([*parts, *(v.reason for v in asked)])


def class_words(indices: Sequence[int]) -> list[str]:
    """Return the usual name of each ImageNet-1k class."""
    return [imagenet_synsets()[index].words[0] for index in indices]


def _unknown(word: str, plain: str, senses: list[Sense]) -> Verdict:
    neighbours, spellings = _neighbours_of(plain), list[str]()
    reason = f"wordsight doesn't know '{plain}'."
    if neighbours:
        reason += f" Nearest in meaning, of what it knows: {', '.join(neighbours)}."
    elif not senses and base_form(plain, nouns().nearest) is None:
        spellings = _spellings(plain)
        if spellings:
            meant = " or ".join(f"'{one}'" for one in spellings)
            reason += f" Did you mean {meant}?"
    return Verdict(word, UNKNOWN, None, senses, neighbours, spellings, reason)


def _narrow_reason(plain: str, sense: Sense) -> str:
    kinds = class_words(sense.classes)
    more = f" and {len(kinds) - LISTED} more" if len(kinds) > LISTED else ""
    below = sense.synset.kinds[1] if sense.synset.kinds else 0
    of_many = f", of some {below} kinds" if below >= 2 * len(kinds) + 2 else ""
    return (
        f"Under '{plain}' wordsight knows only {', '.join(kinds[:LISTED])}{more}{of_many}; it "
        f"would miss the others."
    )


def _neighbours_of(plain: str) -> list[str]:
    """Return what is known near a word that names no class; of a phrase, near what its last words
    name.
    """
    words = plain.split()
    for begin in range(len(words)):
        part = " ".join(words[begin:])
        base = base_form(part, nouns().nearest)
        if base is not None:
            place = nouns().nearest[base]
            return [] if place == "-" else _neighbours(place, set())
        if begin:  # of "perfume bottle", bottle
            try:
                sense = resolve(part)
            except UnknownWord:
                continue
            return [part, *_neighbours(sense.synset.wnid, set(sense.classes))][:NEIGHBOURS]
    return []


def _neighbours(wnid: str, listed: set[int]) -> list[str]:
    """Return what is known at a meaning and around it, the nearest first.

    Args:
        wnid: the meaning.
        listed: classes that are not named.
    """
    found: list[str] = []
    level = [wnid]
    while level and len(found) < NEIGHBOURS:
        for one in level:
            families = [one] if synsets()[one].index is not None else children_of(one)
            for family in sorted(families, key=lambda family: len(classes_under(family))):
                new = [index for index in classes_under(family) if index not in listed]
                found += [name for name in _family(family, new) if name not in found]
                listed = listed | set(new)
        above = [parent for one in level for parent in synsets()[one].parents]
        level = [
            parent
            for parent in dict.fromkeys(above)
            if parent in synsets() and synsets()[parent].size <= TOO_GENERAL
        ]
    return found[:NEIGHBOURS]


def _family(wnid: str, classes: Sequence[int]) -> list[str]:
    """Return the names of a few classes, or the word for many where people use it."""
    if len(classes) > A_FEW and any(synsets()[wnid].frequencies):
        return [synsets()[wnid].words[0]]
    return class_words(classes[:A_FEW])


def _spellings(word: str) -> list[str]:
    """Return words that one which is no noun may be a typing error for: known ones first, else
    nouns of what one could see.
    """
    word = word.casefold()
    seen = {noun for noun, place in nouns().nearest.items() if place != "-"}
    for table in (_class_names() | set(nouns().names), seen):
        near = sorted(
            one for one in table if one[:1] == word[:1] and abs(len(one) - len(word)) <= 2
        )
        swapped = [one for one in near if sorted(one) == sorted(word)]
        close = difflib.get_close_matches(word, near, n=3, cutoff=SIMILAR)
        if swapped or close:
            return list(dict.fromkeys([*swapped, *close]))[:3]
    return []


def _class_names() -> set[str]:
    return {
        word.casefold()
        for wnid, synset in synsets().items()
        if classes_under(wnid)
        for word in synset.words
    }
