"""Web search without an API, by packages that read search pages (extra `search`). They know no
licence and break often.

`ddgs` asks several search engines, `icrawler` asks Bing. Nothing found is an error with its cause,
never an empty success.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from typing import Any

import anyio

from ...datasets.licenses import UNKNOWN
from ...errors import InvalidArgument, SourceUnavailable
from .base import Candidate, Query, SearchPage, Source, register_source
from .web import Web

MAX_PAGES = 10
BING_DEPTH = 1000
NO_LICENCES = "knows no licences, so --license leaves nothing of it"


def _needs(package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise InvalidArgument(
            f"Source '{package}' needs its package: pip install 'wordsight[search]'."
        ) from None


class _WebSearch(Source):
    def check(self, classes: Any) -> None:
        """Look whether the package is installed."""
        _needs(self.name)


@register_source
class Ddgs(_WebSearch):
    """Search engines through the package `ddgs`."""

    name = "ddgs"

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return one page of what the engines find."""
        if not query.license.allows(UNKNOWN):
            return SearchPage([], note=NO_LICENCES)
        package, number = _needs("ddgs"), int(cursor or 1)

        def ask() -> list[dict]:
            return package.DDGS().images(query.text, page=number, safesearch="on")

        try:
            found = await anyio.to_thread.run_sync(ask)
        except Exception as error:  # whatever the package raises, it is the cause to tell
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if "no results" in reason.casefold():
                return SearchPage(
                    [], note="" if number > 1 else f"found nothing for '{query.text}': {reason}"
                )
            raise SourceUnavailable(f"ddgs can't search '{query.text}': {reason}") from error
        if not found and number == 1:
            return SearchPage([], note=f"found nothing for '{query.text}' and gave no reason")
        candidates = [_from_ddgs(item) for item in found if isinstance(item.get("image"), str)]
        return SearchPage(candidates, str(number + 1) if found and number < MAX_PAGES else None)


@register_source
class Icrawler(_WebSearch):
    """Bing through the package `icrawler`; only its search, the images are fetched by us."""

    name = "icrawler"

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return all that Bing finds, up to 1,000."""
        if not query.license.allows(UNKNOWN):
            return SearchPage([], note=NO_LICENCES)
        found: list[str] = await anyio.to_thread.run_sync(_addresses_from_bing, query.text)
        if not found:
            return SearchPage(
                [],
                note=f"found nothing for '{query.text}'; Bing may have changed its pages, or "
                "refuses "
                "this machine",
            )
        return SearchPage([Candidate(url=url) for url in found])


def _from_ddgs(item: dict) -> Candidate:
    sizes = [
        int(item[name]) if str(item.get(name, "")).isdigit() else None
        for name in ("width", "height")
    ]
    return Candidate(
        url=item["image"],
        title=str(item.get("title") or ""),
        page_url=str(item.get("url") or ""),
        width=sizes[0],
        height=sizes[1],
    )


def _addresses_from_bing(text: str) -> list[str]:
    _needs("icrawler")
    from icrawler import Downloader
    from icrawler.builtin import BingImageCrawler

    addresses: list[str] = []

    class Collector(Downloader):
        def download(
            self,
            task: dict,
            default_ext: str,
            timeout: int = 5,
            max_retry: int = 3,
            overwrite: bool = False,
            **options: Any,
        ) -> None:
            addresses.append(task["file_url"])
            with self.lock:
                self.fetched_num += 1

        def worker_exec(self, *arguments: Any, **options: Any) -> None:
            # its queue raises when it runs dry; what was collected counts
            with contextlib.suppress(Exception):
                super().worker_exec(*arguments, **options)

    with tempfile.TemporaryDirectory() as nowhere:
        crawler = BingImageCrawler(
            downloader_cls=Collector, storage={"root_dir": nowhere}, log_level=logging.CRITICAL
        )
        crawler.crawl(text, filters={"type": "photo"}, max_num=BING_DEPTH)
    return list(dict.fromkeys(addresses))
