"""What a source of images is: it turns a query into pages of candidates. How they are fetched
and judged is not its affair.
"""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from ...datasets.licenses import CODES, UNKNOWN, LicenseFilter
from ...errors import InvalidArgument
from .web import Web

ENTRY_POINTS = "wordsight.sources"


@dataclass(frozen=True)
class Candidate:
    """An image that a source offers, not fetched yet. Text that is none, or can't be written, is
    made so.

    Attributes:
        url: where the image itself is; unique within a class.
        license: a code of `wordsight.licenses`, "unknown" where the source doesn't say.
        license_url: text of the licence.
        creator: who made it.
        title: what its maker calls it.
        page_url: page that shows and describes it.
        attribution: the line that credits it.
        width: pixels, as the source claims; the image itself is measured.
        height: as width.
    """

    url: str
    license: str = UNKNOWN
    license_url: str = ""
    creator: str = ""
    title: str = ""
    page_url: str = ""
    attribution: str = ""
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self)[:7]:
            value = getattr(self, field.name)
            text = value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
            object.__setattr__(
                self, field.name, text if field.name == "url" else " ".join(text.split())
            )
        if not self.url:
            raise ValueError("a candidate needs an address")
        if self.license not in CODES:
            object.__setattr__(self, "license", UNKNOWN)
        for name in ("width", "height"):
            value = getattr(self, name)
            object.__setattr__(
                self, name, value if isinstance(value, int) and 0 < value < 1 << 31 else None
            )


@dataclass(frozen=True)
class SearchPage:
    """One answer of a source.

    Attributes:
        candidates: in the source's order.
        cursor: what to hand in for the next page; None where the source has no more for this query.
        note: what a person should know of it, such as why nothing was found.
    """

    candidates: list[Candidate]
    cursor: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Query:
    """What is searched for.

    Attributes:
        text: the words.
        label: the class the images are for.
        license: the licences wanted; a source may leave others out, and what it lets through is
            filtered again.
        min_size: shortest side wanted, in pixels; likewise.
    """

    text: str
    label: str
    license: LicenseFilter
    min_size: int


class Source(ABC):
    """A source of images. Subclass it, give it a `name`, write `search`, and register it.

    A package of your own registers one with an entry point in the group `wordsight.sources`, named
    like the source.

    Attributes:
        name: as in `--source NAME`; `NAME:ARGUMENT` hands the argument to the constructor.
        argument: what the argument is, such as "FILE"; empty for sources without.
        needs_network: False lets it work with `--offline`.
        widens: False where only the class itself can be asked for, not synonyms or kinds of it.
    """

    name = ""
    argument = ""
    needs_network = True
    widens = True

    @abstractmethod
    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return the page at `cursor` (None: the first) of what the query finds.

        Raises:
            SourceUnavailable: if the source can't go on; its message is the cause.
        """

    def read(self, candidate: Candidate) -> bytes | None:
        """Return the image's bytes where they don't come from the web; None has them fetched from
        its address.

        Called from several threads. Whatever it raises is a reason to leave the image out.
        """
        return None

    def check(self, classes: Sequence[str]) -> None:
        """Look whether the source can serve these classes at all, before any work.

        Raises:
            InvalidArgument, NotFound: if it can't.
        """
        return None

    def allowed_sites(self) -> set[str]:
        """Return the "host:port" that may be contacted even at a private address: those the
        user set, and no others.
        """
        return set()

    def at_once(self) -> tuple[set[str], int] | None:
        """Return the "host:port" that together get at most so many requests at once, or None."""
        return None


_registry: dict[str, Callable[[str], Source]] = {}


def register_source(cls: type[Source]) -> type[Source]:
    """Register a source class under its name (a decorator)."""
    _registry[cls.name] = cls
    return cls


def list_sources() -> list[str]:
    """Return the names of all sources, those of other packages included."""
    return sorted(
        {*_registry, *(entry.name for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))}
    )


def open_source(text: str) -> Source:
    """Return the source that `NAME` or `NAME:ARGUMENT` names.

    Raises:
        InvalidArgument: if there is none, its argument is missing, or it can't be loaded.
    """
    name, _, argument = text.partition(":")
    factory = _registry.get(name) or _from_entry_point(name)
    wants = getattr(factory, "argument", "")
    if wants and not argument:
        raise InvalidArgument(
            f"Source '{name}' needs its {wants.lower()}: --source {name}:{wants}."
        )
    if argument and not wants:
        raise InvalidArgument(f"Source '{name}' takes no argument; got '{text}'.")
    return factory(argument) if wants else factory()  # type: ignore[call-arg]


def _from_entry_point(name: str) -> Callable[[str], Source]:
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            try:
                return entry.load()
            except Exception as error:
                # somebody else's code: whatever goes wrong in it is told with its name
                raise InvalidArgument(
                    f"Source '{name}' of '{entry.value}' can't be loaded: {error}."
                ) from error
    raise InvalidArgument(f"Unknown source '{name}'. Choose of: {', '.join(list_sources())}.")
