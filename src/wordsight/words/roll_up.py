"""Which classes lie below a word, so that a label may fall back to it: coyote or dog, a canine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import InvalidArgument, UnknownWord, some_of
from .class_names import fold, is_catch_all, parse_classes, split_none
from .vocabulary import Sense, ancestors, base_form, nouns, resolve, senses, synsets

FEWEST = 2  # classes below a word, for it to say more than they do
OFFERED = 6  # words that a sentence offers instead
MOST_WORDS = 4  # at the end of a name, that may be a name themselves
_DENIALS = {"no", "non", "not", "without"}


def classes_below(
    words: str | Iterable[str], class_names: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Return the classes that WordNet has below each word: word -> their indices, two or more; the
    words of the fewest classes first. A class whose name has several meanings counts with any.

    Args:
        words: "canine,feline" or a list.
        class_names: of a model; "none of these" and the like are below nothing.

    Raises:
        InvalidArgument: if a word is above fewer than two classes, is one of them, or has two
            meanings above different ones.
    """
    above = [_above(name) for name in class_names]
    found: dict[str, tuple[int, str, tuple[int, ...]]] = {}
    known = {fold(name): name for name in class_names}
    for word in parse_classes(words):
        if fold(word) in known:
            raise InvalidArgument(
                f"'{word}' can't be rolled up to: it is a class itself. Name words that are above "
                "two or more classes."
            )
        sense, below = _chosen(word, class_names, above)
        found[word] = (sense.synset.size, sense.synset.wnid, below)
    ordered = sorted(found, key=lambda word: (len(found[word][2]), found[word][0]))
    return {word: found[word][2] for word in ordered}


def _chosen(
    word: str, class_names: Sequence[str], above: Sequence[set[str]]
) -> tuple[Sense, tuple[int, ...]]:
    """Return the meaning of a word that is above classes, and these.

    Raises:
        InvalidArgument: if none is above enough, or several are.
    """
    places = [(sense, _below(sense.synset.wnid, above)) for sense in _meanings(word)]
    fitting = [(sense, below) for sense, below in places if len(below) >= FEWEST]
    if len({below for _, below in fitting}) > 1:
        told = "; ".join(
            f"'{sense.name}' (above {_named(below, class_names)})" for sense, below in fitting
        )
        raise InvalidArgument(f"'{word}' has several meanings. Choose with: {told}.")
    if fitting:
        return fitting[0]
    one = next((below for _, below in places if below), ())
    only = f"only above {class_names[one[0]]}" if one else "above none of the classes"
    offered = _offered(class_names, above)
    then = f"Words that are: {', '.join(offered)}" if offered else "WordNet has no such word here"
    raise InvalidArgument(
        f"'{word}' can't be rolled up to: in wordsight's WordNet it is {only}, and it must be "
        f"above two or more of {some_of(class_names)}. {then}."
    )


def _meanings(word: str) -> list[Sense]:
    """Return the meanings of a word that have classes, or the one that a hint chooses."""
    plain, hash_sign, _ = word.partition("#")
    if not hash_sign:
        return [sense for sense in senses(plain) if sense.classes]
    try:
        return [resolve(word)]
    except UnknownWord as error:
        raise InvalidArgument(str(error)) from None


def _below(wnid: str, above: Sequence[set[str]]) -> tuple[int, ...]:
    return tuple(index for index, places in enumerate(above) if wnid in places)


def _named(below: Sequence[int], class_names: Sequence[str]) -> str:
    return some_of([class_names[index] for index in below])


def _above(name: str) -> set[str]:
    """Return the ids of all meanings at and above a class name."""
    if is_catch_all(name) or split_none([name])[1]:
        return set()
    found: set[str] = set()
    for wnid in _places(name):
        found |= {wnid, *(synset.wnid for synset in ancestors(synsets()[wnid]))}
    return found


def _places(name: str) -> list[str]:
    """Return where WordNet has a class name. Of a phrase that it doesn't have, its last words count
    ("white tailed deer"), unless the first denies them ("no animal").
    """
    words = name.replace("_", " ").split()
    for begin in [0, *range(max(1, len(words) - MOST_WORDS), len(words))]:
        if any(word.casefold() in _DENIALS for word in words[:begin]):
            return []
        found = _places_of(" ".join(words[begin:]))
        if found is not None:
            return found
    return []


def _places_of(phrase: str) -> list[str] | None:
    """Return the usual meaning of a phrase, all that have classes where none is usual, or the
    nearest meaning above it that has some; None where WordNet doesn't have it.
    """
    try:
        return [resolve(phrase).synset.wnid]
    except UnknownWord:
        pass
    plain = phrase.partition("#")[0]
    found = [sense.synset.wnid for sense in senses(plain) if sense.classes]
    if found:
        return found
    base = base_form(plain, nouns().nearest)
    if base is None:
        return None
    place = nouns().nearest[base]
    return [] if place == "-" else [place]


def _offered(class_names: Sequence[str], above: Sequence[set[str]]) -> list[str]:
    """Return words that are above two or more classes, the narrowest first, and of those above the
    same classes one.
    """
    shared = [synsets()[wnid] for wnid in set().union(*above) if len(_below(wnid, above)) >= FEWEST]
    taken = {fold(name) for name in class_names}
    narrowest: dict[tuple[int, ...], str] = {}
    for synset in sorted(shared, key=lambda synset: (synset.size, synset.wnid)):
        word = next((word for word in synset.words if fold(word) not in taken), None)
        if word is not None:
            narrowest.setdefault(_below(synset.wnid, above), word)
    return list(narrowest.values())[:OFFERED]
