"""What a gathering is asked for: classes and their folders, queries, sources, licences and size
of the images. Checked before any work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.home import is_offline
from ..core.names import is_device
from ..core.result_folder import NOT_OURS, ResultFolder
from ..datasets.licenses import LicenseFilter, parse_filter
from ..errors import InvalidArgument
from ..words.class_names import catch_all_name, fold, parse_classes
from .ledger import FILE
from .queries import search_texts, unrelated_texts
from .sources import Source, open_source

NEGATIVES_PER_WORD = 10
REPORTS = ("ATTRIBUTION.md", "funnel.json")
_FILES = ("metadata.csv", *REPORTS)
# folder names that `datasets` takes for splits
_SPLITS = "train|training|validation|valid|dev|val|test|testing|eval|evaluation"


@dataclass(frozen=True)
class GatherSettings:
    """What an image must be like to be gathered; the same for all runs over one folder.

    Attributes:
        license: "any", "commercial", or codes such as "by,cc0"; holds whatever a source answers.
        min_size: shortest side in pixels.
    """

    license: str = "any"
    min_size: int = 224

    def check(self) -> LicenseFilter:
        """Return the filter of licences.

        Raises:
            InvalidArgument: if a licence is unknown, or the size is out of range.
        """
        allowed = parse_filter(self.license)
        if not 1 <= self.min_size <= 10_000:
            raise InvalidArgument(
                f"The smallest size must be 1 to 10000 pixels, got {self.min_size}."
            )
        return allowed


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
        InvalidArgument: if it holds something else, or a report of ours that was changed.
    """
    gathered = (folder / FILE).exists()
    ours = ResultFolder(
        folder,
        "gathering",
        adopt=lambda path: gathered and path.parent == folder and _by_earlier_version(path),
        is_file="'{folder}' is a file. Choose a folder with -o.",
        not_ours=NOT_OURS
        if gathered
        else "'{folder}' holds files that were not gathered. Choose a new folder with -o, and "
        "train on both.",
    )
    # what else a gathered folder holds is never replaced
    ours.claim(REPORTS if gathered else (name for name in ours.names() if name[0] != "."))
    return ours


def _by_earlier_version(path: Path) -> bool:
    """Whether 0.1.0, which kept no record, wrote a file, by how it begins."""
    begins = {"ATTRIBUTION.md": b"# Attribution\n\n", "funnel.json": b'{\n "output": '}
    if path.is_symlink() or not path.is_file() or path.name not in begins:
        return False
    with open(path, "rb") as file:
        return file.read(40).startswith(begins[path.name])


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
