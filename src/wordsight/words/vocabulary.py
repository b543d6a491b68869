"""From words to ImageNet classes, through WordNet.

The table `wordnet.tsv` holds every ImageNet-1k class, all meanings above one in WordNet, and the
other senses of their names; `nouns.txt.gz` holds all other nouns. `scripts/make_vocabulary.py` made
both. `verdicts` tells what a word is worth.
"""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Container
from dataclasses import dataclass
from importlib import resources

from ..core.names import in_short
from ..errors import UnknownWord

# a word's first sense is taken without a question if it is this many times as frequent as the next
# known one
DOMINANT = 3


@dataclass(frozen=True)
class Synset:
    """One meaning.

    Attributes:
        wnid: WordNet 3.0 id, such as "n02084071".
        index: position in ImageNet-1k's class order, or None.
        words: names of this meaning, the most usual first.
        ranks: for each name, which of its senses this is, counted from 1.
        frequencies: for each name, how often WordNet's tagged texts use it in this sense.
        parents: ids of the meanings directly above.
        gloss: definition.
        kinds: how many of the meanings directly below it have classes, and how many there are; None
            where no class is under it.
        size: how many meanings are below it in all.
        well_known: whether the classes are enough to know what the words name.
    """

    wnid: str
    index: int | None
    words: tuple[str, ...]
    ranks: tuple[int, ...]
    frequencies: tuple[int, ...]
    parents: tuple[str, ...]
    gloss: str
    kinds: tuple[int, int] | None = None
    size: int = 0
    well_known: bool = False


@dataclass(frozen=True)
class Sense:
    """A meaning of a word that the user typed, and what the backbone knows under it.

    Attributes:
        name: `word#hint`, which chooses this sense.
        synset: the meaning.
        classes: ImageNet-1k indices under it, in order; empty if the backbone knows none.
    """

    name: str
    synset: Synset
    classes: tuple[int, ...]


@functools.cache
def synsets() -> dict[str, Synset]:
    """Return all meanings of the table, by id."""
    table = {}
    text = resources.files("wordsight.words").joinpath("wordnet.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        wnid, index, ranks, frequencies, parents, words, gloss, kinds = line.split("\t")
        with_some, below, size, verdict = kinds.split(",") if kinds else ("0", "0", "0", "")
        table[wnid] = Synset(
            wnid,
            int(index) if index else None,
            tuple(words.split("|")),
            tuple(map(int, ranks.split(","))),
            tuple(map(int, frequencies.split(","))),
            tuple(parents.split(",")),
            gloss,
            (int(with_some), int(below)) if kinds else None,
            int(size),
            verdict == "known",
        )
    return table


@dataclass(frozen=True)
class Nouns:
    """The nouns that name no class, and other spellings.

    Attributes:
        nearest: noun -> id of the nearest meaning above it that has classes, or "-" where that is
            too general to say anything of it.
        plurals: irregular plural -> singular.
        names: everyday word -> id of the class or meaning it stands for.
        asked: words whose meaning must be chosen.
    """

    nearest: dict[str, str]
    plurals: dict[str, str]
    names: dict[str, str]
    asked: set[str]


@functools.cache
def nouns() -> Nouns:
    """Return the table of all other nouns."""
    packed = resources.files("wordsight.words").joinpath("nouns.txt.gz").read_bytes()
    table = Nouns({}, {}, {}, set())
    for line in gzip.decompress(packed).decode().splitlines():
        if line.startswith("#"):
            continue
        place, _, listed = line.partition("\t")
        first, *others = listed.split("|")
        if place == "plural":
            table.plurals[first] = others[0]
        elif place == "name":
            table.names[first] = others[0]
        elif place == "ask":
            table.asked.add(first)
        else:
            table.nearest.update(dict.fromkeys((first, *others), place))
    return table


def imagenet_synsets() -> list[Synset]:
    """Return the 1,000 ImageNet classes in their order."""
    return sorted(
        (s for s in synsets().values() if s.index is not None), key=lambda s: s.index or 0
    )


def senses(word: str) -> list[Sense]:
    """Return every meaning of a word (singular or plural, any case), those that the backbone knows
    first.
    """
    base = base_form(word, _by_word())
    if base is None:
        return []
    found = [synsets()[wnid] for wnid in _by_word()[base]]
    with_classes = [(synset, classes_under(synset.wnid)) for synset in found]
    with_classes.sort(key=lambda pair: (not pair[1], _rank(pair[0], base)))
    hints = _hints([synset for synset, _ in with_classes], base)
    return [
        Sense(f"{base}#{hint}", synset, classes)
        for (synset, classes), hint in zip(with_classes, hints, strict=True)
    ]


def resolve(word: str) -> Sense:
    """Return the one meaning of a word that the backbone knows.

    `word#hint` chooses among several meanings. The hint is a name of the meaning or of one above
    it, a word of its definition, or its WordNet id. Without a hint, the first sense is taken if the
    backbone knows it and it is clearly the usual one.

    Raises:
        UnknownWord: if nothing is known under the word (the message names close words), or several
            meanings are (the message lists them).
    """
    plain, _, hint = word.partition("#")
    every = senses(plain)
    known = [sense for sense in every if sense.classes]
    everyday = base_form(plain, nouns().names)
    if everyday is not None and not hint:
        synset = synsets()[nouns().names[everyday]]
        return Sense(f"{everyday}#{synset.wnid}", synset, classes_under(synset.wnid))
    if not known:
        raise UnknownWord(f"The backbone doesn't know '{plain}'.")
    if hint:
        chosen = [sense for sense in every if _fits(sense, hint)]
        exact = [
            sense
            for sense in chosen
            if sense.name.partition("#")[2].casefold() == hint.strip().casefold()
        ]
        chosen = exact or chosen
        if len(chosen) == 1 and chosen[0].classes:
            return chosen[0]
        which = "no known sense" if not any(sense.classes for sense in chosen) else "several senses"
        raise UnknownWord(f"'{word}' fits {which}. {_choices(known)}")
    base = base_form(plain, _by_word())
    assert base is not None
    first = min(every, key=lambda sense: _rank(sense.synset, base))
    if len(every) == 1:
        return first
    if base in nouns().asked:
        pass
    elif first.classes:
        frequency = _frequency(first.synset, base)
        rivals = [_frequency(sense.synset, base) for sense in known if sense is not first]
        if not rivals or frequency >= DOMINANT * max(1, *rivals):
            return first
    elif len(known) == 1 and all(
        _frequency(sense.synset, base) <= _frequency(known[0].synset, base) for sense in every
    ):
        return known[0]
    others = [sense for sense in every if not sense.classes]
    unknown = (
        f" Not known to the backbone: {', '.join(repr(sense.name) for sense in others[:3])}."
        if others
        else ""
    )
    raise UnknownWord(f"'{plain}' has several meanings. {_choices(known)}{unknown}")


def children_of(wnid: str) -> list[str]:
    """Return the ids of the meanings directly below a meaning."""
    return _children().get(wnid, [])


def _choices(known: list[Sense]) -> str:
    listed = "; ".join(
        f"'{sense.name}' ({', '.join(sense.synset.words[:2])}: {in_short(sense.synset.gloss, 60)})"
        for sense in known[:6]
    )
    return f"Choose with: {listed}."


@functools.cache
def _by_word() -> dict[str, list[str]]:
    index: dict[str, list[str]] = {}
    for wnid, synset in synsets().items():
        for word in synset.words:
            index.setdefault(word.casefold(), [])
            if wnid not in index[word.casefold()]:
                index[word.casefold()].append(wnid)
    return index


@functools.cache
def _children() -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for wnid, synset in synsets().items():
        for parent in synset.parents:
            children.setdefault(parent, []).append(wnid)
    return children


@functools.cache
def classes_under(wnid: str) -> tuple[int, ...]:
    """Return the ImageNet-1k indices at and under a meaning, in order."""
    found, seen, stack = set(), set(), [wnid]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        index = synsets()[current].index
        if index is not None:
            found.add(index)
        stack += _children().get(current, ())
    return tuple(sorted(found))


# spelled in Britain, and in America; WordNet has most words in both
_SPELLINGS = (("grey", "gray"), ("our", "or"), ("tre", "ter"), ("yre", "ire"), ("ould", "old"))
_ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""), ("men", "man"))


def base_form(word: str, table: Container[str]) -> str | None:
    """Return a table's form of a word: as it is, its singular, or its other spelling; None if it
    has none of them.
    """
    word = " ".join(re.sub(r"[_\s]+", " ", word).split()).casefold()
    candidates = [word, word.replace("-", " "), word.replace(" ", "-"), word.replace(" ", "")]
    head, blank, last = word.rpartition(" ")
    if last in nouns().plurals:
        candidates.append(head + blank + nouns().plurals[last])
    candidates += [
        head + blank + last[: -len(old)] + new
        for old, new in _ENDINGS
        if last.endswith(old) and len(last) > len(old) + 1
    ]
    candidates += [
        one.replace(old, new)
        for pair in _SPELLINGS
        for old, new in (pair, pair[::-1])
        for one in candidates
        if old in one
    ]
    return next((candidate for candidate in candidates if candidate in table), None)


def _position(synset: Synset, base: str) -> int:
    return [word.casefold() for word in synset.words].index(base)


def _rank(synset: Synset, base: str) -> int:
    return synset.ranks[_position(synset, base)]


def _frequency(synset: Synset, base: str) -> int:
    return synset.frequencies[_position(synset, base)]


def ancestors(synset: Synset) -> list[Synset]:
    """Return all meanings above a meaning, the nearest first."""
    found: list[Synset] = []
    level = [synset]
    while level:
        above = [
            synsets()[parent]
            for current in level
            for parent in current.parents
            if parent in synsets()
        ]
        level = [item for item in dict.fromkeys(above) if item not in found]
        found += level
    return found


def _hints(found: list[Synset], base: str) -> list[str]:
    """Return, for each meaning, the nearest single word that belongs to it and to none of the
    others.
    """
    names = [
        {word.casefold() for s in [synset, *ancestors(synset)] for word in s.words}
        for synset in found
    ]
    hints = []
    for i, synset in enumerate(found):
        others = (
            set().union(*(names[j] for j in range(len(found)) if j != i))
            if len(found) > 1
            else set()
        )
        candidates = [word.casefold() for s in [*ancestors(synset), synset] for word in s.words]
        own = [word for word in candidates if word not in others and word != base]
        hints.append(next((word for word in own if word.isalpha()), own[0] if own else synset.wnid))
    return hints


def _fits(sense: Sense, hint: str) -> bool:
    hint = hint.strip().casefold()
    if hint in (sense.synset.wnid, sense.name.partition("#")[2].casefold()):
        return True
    words = {word.casefold() for s in [sense.synset, *ancestors(sense.synset)] for word in s.words}
    return hint in words or hint in re.findall(r"\w+", sense.synset.gloss.casefold())
