"""The rules for class names: parse them, compare them, refuse ambiguous ones, and name the
*catch-all*, the class that means "anything else".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from ..errors import InvalidArgument

_NOT = "not_"
NONE_OF_THESE = "none_of_these"  # a class of it is learned, but never given as a label
_NONE_WORDS = {"empty", "none", "other", "nothing", NONE_OF_THESE, "none of these"}


def parse_classes(classes: str | Iterable[str]) -> list[str]:
    """Return the class names of "cat, dog" or of a list, each once.

    Raises:
        InvalidArgument: if there is none, if one is empty, or if one is given twice.
    """
    words = [word.strip() for word in (classes.split(",") if isinstance(classes, str) else classes)]
    if not words or not all(words):
        raise InvalidArgument(
            f"Classes must be words with commas between, such as cat,dog; got '{classes}'."
        )
    seen: set[str] = set()
    for word in words:
        if fold(word) in seen:
            raise InvalidArgument(f"Class '{word}' is given twice. Name each class once.")
        seen.add(fold(word))
    return words


def split_none(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that name something, and those that mean "none of these": empty, none,
    other.
    """
    nothing = [word for word in words if fold(word) in _NONE_WORDS]
    return [word for word in words if word not in nothing], nothing


def fold(name: str) -> str:
    """Return a class name without the differences that do not matter: case, blanks, and how accents
    are stored.
    """
    return unicodedata.normalize("NFC", " ".join(name.split()).casefold())


def same_classes(first: Iterable[str], second: Iterable[str]) -> bool:
    """Whether two lists name the same classes, in any order, case and spacing, "none of these"
    apart.
    """
    return {fold(name) for name in first} - {NONE_OF_THESE} == {fold(name) for name in second} - {
        NONE_OF_THESE
    }


def check_class_names(class_names: Iterable[str]) -> None:
    """Refuse names that differ only by case or blanks.

    Raises:
        InvalidArgument: if two names do.
    """
    by_folded: dict[str, str] = {}
    for name in class_names:
        twin = by_folded.setdefault(fold(name), name)
        if twin != name:
            one, other = (" ".join(text.splitlines()) for text in (twin, name))
            raise InvalidArgument(
                f"Class names must differ by more than case and blanks: '{one}' and '{other}'. "
                "Merge the two."
            )


def catch_all_name(words: Sequence[str]) -> str:
    """Return what the catch-all beside these words is called: `not_<word>` beside one word,
    `other` beside several.
    """
    return f"{_NOT}{words[0]}" if len(words) == 1 else "other"


def with_catch_all(words: Sequence[str]) -> list[str]:
    """Return the classes of a model for these words: one word gets its catch-all beside it."""
    return [*words, catch_all_name(words)] if len(words) == 1 else list(words)


def is_catch_all(name: str) -> bool:
    """Whether a model takes a class of this name for its catch-all: `not_…` or `none_of_these`. A
    class called `other` is learned as any class is.
    """
    return name.startswith(_NOT) or name == NONE_OF_THESE


def catch_all_index(class_names: Sequence[str]) -> int | None:
    """Return the index of the only catch-all among several classes, or None."""
    found = [index for index, name in enumerate(class_names) if is_catch_all(name)]
    return found[0] if len(found) == 1 and len(class_names) > 1 else None
