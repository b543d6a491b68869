"""The search for candidates of a class: page by page from every source in turn, in an order that is
the same after a restart. It downloads no images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable

from ..datasets.licenses import LicenseFilter
from ..errors import SourceUnavailable
from .ledger import Ledger, Row
from .request import Want
from .sources import Query, Source, Web

Say = Callable[[str], None]
BARREN = 5  # pages in a row without anything new, after which a query is given up
FAILURES = 2  # failures in a row, after which a source is given up for this run
DRY = 10  # queries in a row without anything new, after which a source is given up


class Search:
    """The sources of one run, and what failed there.

    Args:
        ledger: records every page.
        sources: by name.
        license: which licences are wanted.
        min_size: shortest side wanted, pixels.
        say: called with one line for each problem of a source.
    """

    def __init__(
        self,
        ledger: Ledger,
        sources: dict[str, Source],
        license: LicenseFilter,
        min_size: int,
        say: Say,
    ) -> None:
        self.ledger, self.sources, self.say = ledger, sources, say
        self.license, self.min_size = license, min_size
        self.failures: Counter[str] = Counter()
        self.problems: dict[str, dict[str, str]] = {}  # class -> source -> its last message

    async def batches(self, want: Want, web: Web) -> AsyncIterator[list[Row]]:
        """Yield the candidates of a class: first those of earlier runs, then page by page, from
        every source in turn.
        """
        yield [row for row in self.ledger.waiting(want.label) if row.source in self.sources]
        streams = {
            name: self._pages(name, source, want, web) for name, source in self.sources.items()
        }
        while streams:
            # so that the order is the same after a restart
            name = min(streams, key=lambda name: self.ledger.page_count(want.label, name))
            rows = await anext(streams[name], None)
            if rows is None:
                del streams[name]
            else:
                yield rows

    async def _pages(
        self, name: str, source: Source, want: Want, web: Web
    ) -> AsyncIterator[list[Row]]:
        """Yield the new candidates of each page of a source for a class, query by query."""
        dry = 0
        for text in want.texts if source.widens else [want.label]:
            if dry >= DRY:
                return
            dry += 1
            begun, cursor = self.ledger.cursor(want.label, name, text)
            barren = 0
            while (
                (not begun or cursor is not None)
                and self.failures[name] < FAILURES
                and barren < BARREN
            ):
                try:
                    page = await source.search(
                        Query(text, want.label, self.license, self.min_size), cursor, web
                    )
                    offers = [
                        (offer, self.license.allows(offer.license))
                        for offer in page.candidates[: want.per_text]
                    ]
                except Exception as error:
                    # a source may be anybody's code and raise anything; the others continue
                    self.failures[name] += 1
                    self._note(
                        want,
                        name,
                        str(error)
                        if isinstance(error, SourceUnavailable)
                        else f"failed with {type(error).__name__}: {error}",
                    )
                    break
                self.failures[name] = 0
                begun, cursor = True, None if want.per_text else page.cursor
                rows = self.ledger.add_page(want.label, name, text, cursor, offers)
                barren = 0 if rows else barren + 1
                dry = 0 if rows else dry
                if page.note:
                    self._note(want, name, page.note)
                yield rows

    def _note(self, want: Want, name: str, line: str) -> None:
        """Report a source's problem, once per class, and keep it for the result."""
        line = " ".join(line.split())[:300]
        if self.problems.setdefault(want.label, {}).get(name) != line:
            self.say(f"{name}: {line}")
        self.problems[want.label][name] = line
