"""Wikimedia Commons: free images with their makers and licences. No key needed.

Source: https://www.mediawiki.org/wiki/API:Search. `WORDSIGHT_COMMONS_URL` names another server (up
to and with `/w/api.php`). Commons serves those who say who they are far more: set
`WORDSIGHT_CONTACT` to an e-mail address.
"""

from __future__ import annotations

import contextlib
import json
import os
from html.parser import HTMLParser
from typing import Any

from ...datasets.licenses import UNKNOWN, license_code, license_from_url, strictest
from ...errors import SourceUnavailable
from .base import Candidate, Query, SearchPage, Source, register_source
from .web import Web, site

API = "https://commons.wikimedia.org/w/api.php"
WIDTHS = (640, 1280, 1920, 3840)  # of the previews, pixels
MAX_AT_ONCE = 3
MAX_OFFSET = 10_000  # results a search gives at most


@register_source
class Commons(Source):
    """Wikimedia Commons' file search."""

    name = "commons"

    def __init__(self) -> None:
        self.api = os.environ.get("WORDSIGHT_COMMONS_URL", "").strip() or API

    def allowed_sites(self) -> set[str]:
        """Return the server the user named."""
        return {site(self.api)} if self.api != API else set()

    def at_once(self) -> tuple[set[str], int]:
        """Return Commons' own limit, which holds for its API and its images together."""
        return {site(self.api), "upload.wikimedia.org:443"}, MAX_AT_ONCE

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return one page; `cursor` is what the API wants to hear again, in JSON."""
        width = next((width for width in WIDTHS if width >= 2 * query.min_size), WIDTHS[-1])
        parameters = {
            "action": "query",
            "format": "json",
            "formatversion": "2",
            "generator": "search",
            "gsrsearch": f"{query.text} filetype:bitmap",
            "gsrnamespace": "6",
            "gsrlimit": "50",
            "gsroffset": "0",
            "prop": "imageinfo",
            "iiprop": "url|size|mime|sha1|extmetadata",
            "iiurlwidth": str(width),
            "iiextmetadatafilter": "LicenseShortName|LicenseUrl|Artist|Credit|UsageTerms",
        }
        parameters.update(json.loads(cursor) if cursor else {})
        answer = await web.get_json(self.api, parameters)
        content = answer.content
        if not isinstance(content, dict) or answer.status != 200 or "error" in content:
            problem = content.get("error") if isinstance(content, dict) else None
            reason = (
                plain_text(_text(problem.get("info")))
                if isinstance(problem, dict)
                else f"status {answer.status}"
            )
            raise SourceUnavailable(f"Wikimedia Commons answered: {reason[:200]}")
        found = content.get("query", {"pages": []})  # no hit: no such key
        pages = found.get("pages") if isinstance(found, dict) else None
        if not isinstance(pages, list) or not (
            {"query", "batchcomplete", "continue"} & content.keys()
        ):
            raise SourceUnavailable("Wikimedia Commons answered without pages.")
        ordered = sorted(
            (page for page in pages if isinstance(page, dict)),
            key=lambda page: index if isinstance(index := page.get("index"), int) else 0,
        )
        going_on = content.get("continue")
        following = (
            {str(name): str(value) for name, value in going_on.items()}
            if isinstance(going_on, dict)
            else None
        )
        deep = following is not None and _whole(following.get("gsroffset", "0")) >= MAX_OFFSET
        candidates = [candidate for page in ordered if (candidate := _candidate(page))]
        return SearchPage(
            candidates, json.dumps(following, sort_keys=True) if following and not deep else None
        )


def _candidate(page: dict[str, Any]) -> Candidate | None:
    every = page.get("imageinfo")
    information = every[0] if isinstance(every, list) and every else None
    if not isinstance(information, dict):
        return None  # such pages exist
    url = _text(information.get("thumburl")) or _text(information.get("url"))
    if not url:
        return None
    said = information.get("extmetadata")
    values = (
        {
            name: plain_text(_text(value.get("value")))
            for name, value in said.items()
            if isinstance(value, dict)
        }
        if isinstance(said, dict)
        else {}
    )
    short, terms = values.get("LicenseShortName", ""), values.get("UsageTerms", "")
    license_url = values.get("LicenseUrl", "")
    title = _text(page.get("title")).removeprefix("File:").rpartition(".")[0]
    creator = values.get("Artist", "") or values.get("Credit", "")
    return Candidate(
        url=url,
        license=strictest(
            (
                license_code(short),
                license_code(terms) if not short else UNKNOWN,
                license_from_url(license_url),
            )
        ),
        license_url=license_url,
        creator=creator,
        title=title,
        page_url=_text(information.get("descriptionurl")),
        attribution=f'"{title}" by {creator or "an unknown maker"}, '
        f"{short or terms or 'licence unknown'}, via Wikimedia Commons",
        width=_whole(information.get("thumbwidth")) or None,
        height=_whole(information.get("thumbheight")) or None,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> int:
    return (
        int(value)
        if isinstance(value, int | str) and str(value).isdigit() and len(str(value)) < 10
        else 0
    )


def plain_text(html: str) -> str:
    """Return the text of a piece of HTML on one line, without scripts and styles."""
    reader = _TextReader()
    # its way of saying that a declaration is broken; the text before it counts
    with contextlib.suppress(AssertionError):
        reader.feed(html)
        reader.close()
    return " ".join("".join(reader.parts).split())


class _TextReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self._hidden += tag in ("script", "style")
        self.parts.append(" " if tag in ("br", "p", "div", "li", "td", "tr") else "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)
