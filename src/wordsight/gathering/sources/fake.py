"""A source that answers from memory: for tests of what is built on sources, ours and yours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import SourceUnavailable
from .base import Candidate, Query, SearchPage, Source
from .web import Web


class FakeSource(Source):
    """Serves images you hand in, page by page, without a network.

    Args:
        images: query text -> images, as bytes of image files, in order.
        license: their licence code.
        page_size: images a page.
        fails_after: pages after which it is out of order, as a real service may be; None never.

    Attributes:
        queries: texts searched for so far, one a page.

    Example:
        >>> source = FakeSource({"cat": [jpeg_bytes]})  # doctest: +SKIP
        >>> wordsight.gather("cat", "data/cats", sources=[source], limit=1)  # doctest: +SKIP
    """

    name = "fake"
    needs_network = False

    def __init__(
        self,
        images: Mapping[str, Sequence[bytes]],
        license: str = "cc0",
        page_size: int = 20,
        fails_after: int | None = None,
    ) -> None:
        self.images, self.license, self.page_size, self.fails_after = (
            images,
            license,
            page_size,
            fails_after,
        )
        self.queries: list[str] = []

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return the pictures handed in under exactly this text."""
        self.queries.append(query.text)
        if self.fails_after is not None and len(self.queries) > self.fails_after:
            raise SourceUnavailable("The fake source is out of order, as it was told to be.")
        start = int(cursor or 0)
        later = start + self.page_size
        every = self.images.get(query.text, ())
        offered = [
            Candidate(
                url=f"fake:{query.text}/{start + i}",
                license=self.license,
                creator="nobody",
                page_url=f"fake:page/{start + i}",
            )
            for i in range(len(every[start:later]))
        ]
        return SearchPage(offered, str(later) if later < len(every) else None)

    def read(self, candidate: Candidate) -> bytes | None:
        """Return the bytes handed in."""
        text, _, number = candidate.url.removeprefix("fake:").rpartition("/")
        return self.images[text][int(number)]
