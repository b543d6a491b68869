"""What a gathering is asked for: classes and their folders, queries, sources. Checked before
any work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.home import is_offline
from ..core.names import is_device
from ..core.result_folder import ResultFolder
from ..errors import InvalidArgument
from ..words.class_names import catch_all_name, fold, parse_classes
from .ledger import FILE
from .queries import search_texts, unrelated_texts
from .sources import Source, open_source

NEGATIVES_PER_WORD = 10
_FILES = ("metadata.csv", "ATTRIBUTION.md", "funnel.json")
# folder names that `datasets` takes for splits
_SPLITS = "train|training|validation|valid|dev|val|test|testing|eval|evaluation"


@dataclass(frozen=True)
class Want:
    """One class: what to search for, how many images, and how many candidates of one query at
    most.
    """

    label: str
    texts: list[str]
    limit: int
    per_text: int | None = None


def plan_classes(classes: str | Iterable[str], limit: int, negatives: int) -> list[Want]:
    """Return what to gather for each class, and for that of anything else.

    Raises:
        InvalidArgument: if a class can't name a folder, or a number is out of bounds.
    """
    words = parse_classes(classes)
    for word in words:
        if (
            re.search(r"[\x00-\x1f\ud800-\udfff/\\:*?\"<>|]", word)
            or word.startswith(".")
            or len(word.encode("utf-8", "replace")) > 100
            or word in _FILES
        ):
            shown = word[:50].encode("utf-8", "replace").decode()
            raise InvalidArgument(
                f"'{shown}' can't name a folder: no / \\ : * ? \" < > |, no leading dot, at "
                "most 100 bytes of UTF-8."
            )
    if limit < 1 or negatives < 0:
        raise InvalidArgument(
            f"The limit must be at least 1 and negatives at least 0, got {limit} and {negatives}."
        )
    wants = [Want(word, search_texts(word), limit) for word in words]
    if negatives:
        catch_all = catch_all_name(words)
        if fold(catch_all) in {fold(word) for word in words}:
            raise InvalidArgument(
                f"The class of anything else is called '{catch_all}', which you ask for too. "
                "Rename yours, or leave --negatives out."
            )
        wants.append(Want(catch_all, unrelated_texts(words), negatives, NEGATIVES_PER_WORD))
    return wants


def open_sources(sources: Sequence[str | Source], labels: list[str]) -> dict[str, Source]:
    """Return the sources by a name of their own each.

    Raises:
        InvalidArgument, NotFound: if one is missing, can't serve the classes, or needs a network
            that is forbidden.
    """
    if not sources:
        raise InvalidArgument("Give at least one source, such as openverse.")
    opened: dict[str, Source] = {}
    for given in [sources] if isinstance(sources, str | Source) else sources:
        source = open_source(given) if isinstance(given, str) else given
        name = given if isinstance(given, str) else given.name
        if name in opened:
            raise InvalidArgument(f"Source '{name}' is given twice. Name each source once.")
        opened[name] = source
        if source.needs_network and is_offline():
            raise InvalidArgument(
                f"Gathering from {name} needs the network, which --offline (or "
                "WORDSIGHT_OFFLINE) forbids. Leave that out."
            )
        source.check(labels)
    return opened


def check_folder(folder: Path) -> ResultFolder:
    """Return a folder that may be gathered into.

    Raises:
        InvalidArgument: if it holds something else.
    """
    ours = ResultFolder(
        folder,
        judge=lambda _: (folder / FILE).exists(),
        is_file="'{folder}' is a file. Choose a folder with -o.",
        not_ours="'{folder}' holds files that were not gathered. Choose a new folder with -o, and "
        "train on both.",
    )
    ours.claim(name for name in ours.names() if not name.startswith("."))
    return ours


def folder_name(label: str) -> str:
    """Return the name of a class's folder: the class itself, but for what `datasets` reads as
    something else.

    It takes folders called `train` or `test tube` for splits and passes over those with a `#`.
    Windows has devices of names such as `aux`.
    """
    plain = label.replace("#", "+")
    if is_device(plain):
        return f"+{plain}+"
    return re.sub(rf"(?<![a-z])({_SPLITS})(?![a-z])", r"+\1+", plain, flags=re.IGNORECASE)
