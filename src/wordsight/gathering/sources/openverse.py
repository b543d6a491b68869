"""Openverse: openly licensed images with their makers and licences. No key needed; with one, more
and faster.

Source: https://api.openverse.org/v1/. `WORDSIGHT_OPENVERSE_URL` names another server (the root,
before `/v1/images/`). `WORDSIGHT_OPENVERSE_CLIENT_ID` and `WORDSIGHT_OPENVERSE_CLIENT_SECRET` are a
key's two halves; they are neither kept nor logged.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ...datasets.licenses import COMMERCIAL, CREATIVE_COMMONS, UNKNOWN
from ...errors import SourceUnavailable
from .base import Candidate, Query, SearchPage, Source, register_source
from .web import Answer, Web, site

ROOT = "https://api.openverse.org"
DEPTH = 240  # results a query gives, whatever it has
PAGE_SIZE, PAGE_SIZE_WITH_KEY = 20, 50
MAX_QUERY = 200  # characters
# where a query has more than its depth, the same words by aspect ratio give others
SLICES = ("", "wide", "tall", "square")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@register_source
class Openverse(Source):
    """Openverse's image search."""

    name = "openverse"

    def __init__(self) -> None:
        self.root = os.environ.get("WORDSIGHT_OPENVERSE_URL", "").strip().rstrip("/") or ROOT
        self._key = (
            os.environ.get("WORDSIGHT_OPENVERSE_CLIENT_ID", ""),
            os.environ.get("WORDSIGHT_OPENVERSE_CLIENT_SECRET", ""),
        )
        self._token = ""
        self._asked: deque[float] = deque(maxlen=10_000)  # when, monotonic seconds
        self._seen: set[str] = set()

    def allowed_sites(self) -> set[str]:
        """Return the server the user named."""
        return {site(self.root)} if self.root != ROOT else set()

    async def search(self, query: Query, cursor: str | None, web: Web) -> SearchPage:
        """Return one page; `cursor` is "slice:page"."""
        if query.license.codes is not None and not query.license.codes & set(CREATIVE_COMMONS):
            return SearchPage([], note="has no pictures under these licences")
        slice_name, _, number = (cursor or ":1").partition(":")
        answer = await self._get(self._parameters(query, slice_name, int(number)), web)
        if answer.status == 404 and int(number) > 1:
            return SearchPage([], self._next_slice(slice_name))  # beyond its depth
        if answer.status != 200:
            raise SourceUnavailable(
                f"Openverse answered {answer.status}: {_problem(answer.content)}"
            )
        results = answer.content.get("results") if isinstance(answer.content, dict) else None
        if not isinstance(results, list):
            raise SourceUnavailable("Openverse answered without results.")
        candidates = [
            candidate
            for item in results
            if isinstance(item, dict) and (candidate := _candidate(item))
        ]
        unseen = {candidate.url for candidate in candidates} - self._seen
        self._seen |= unseen
        size, total = self._page_size(), _whole(answer.content.get("result_count"))
        last = min(_whole(answer.content.get("page_count")), DEPTH // size)
        if int(number) < last and results and (unseen or not slice_name):
            return SearchPage(candidates, f"{slice_name}:{int(number) + 1}")
        return SearchPage(
            candidates, self._next_slice(slice_name) if slice_name or total > DEPTH else None
        )

    def _page_size(self) -> int:
        return PAGE_SIZE_WITH_KEY if all(self._key) else PAGE_SIZE

    @staticmethod
    def _next_slice(name: str) -> str | None:
        later = SLICES[SLICES.index(name) + 1 :]
        return f"{later[0]}:1" if later else None

    def _parameters(self, query: Query, slice_name: str, page: int) -> dict[str, str]:
        size = str(self._page_size())
        parameters = {
            "q": query.text[:MAX_QUERY],
            "page": str(page),
            "page_size": size,
            "filter_dead": "true",
            "mature": "false",
        }
        if query.license.codes == COMMERCIAL:
            parameters["license_type"] = "commercial"
        elif query.license.codes is not None:
            parameters["license"] = ",".join(sorted(query.license.codes & set(CREATIVE_COMMONS)))
        if slice_name:
            parameters["aspect_ratio"] = slice_name
        return {name: value for name, value in parameters.items() if value}

    async def _get(self, parameters: Mapping[str, str], web: Web) -> Answer:
        url = f"{self.root}/v1/images/"
        for again in (True, False):
            if all(self._key) and not self._token:
                self._token = await self._new_token(web)
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            self._asked.append(time.monotonic())
            answer = await web.get_json(url, parameters, headers)
            wait = _wait_s(answer.headers, self._asked)
            if wait:
                web.pause(url, wait)
            if answer.status != 401 or not self._token or not again:
                break
            self._token = ""  # it has run out
        return answer

    async def _new_token(self, web: Web) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._key[0],
            "client_secret": self._key[1],
        }
        answer = await web.post_form(f"{self.root}/v1/auth_tokens/token/", form)
        token = answer.content.get("access_token") if isinstance(answer.content, dict) else None
        if answer.status != 200 or not isinstance(token, str):
            raise SourceUnavailable(
                "Openverse refuses the key in WORDSIGHT_OPENVERSE_CLIENT_ID and …_SECRET "
                f"(status {answer.status})."
            )
        return token


def _wait_s(headers: Mapping[str, str], asked: deque[float]) -> float:
    """Return how long to ask nothing, where a limit is used up: until the oldest request in its
    window leaves it.
    """
    wait = 0.0
    for name, value in headers.items():
        scope = name.removeprefix("x-ratelimit-available-")
        rate = re.match(
            r"\d+\s*/\s*(\d*)\s*([smhd])", headers.get(f"x-ratelimit-limit-{scope}", "").casefold()
        )
        if scope != name and value.strip() == "0" and rate:
            window, now = int(rate[1] or 1) * _UNIT_S[rate[2]], time.monotonic()
            oldest = next((moment for moment in asked if moment > now - window), now)
            wait = max(wait, oldest + window - now + 0.2)  # clocks differ a little
    return wait


def _candidate(item: dict[str, Any]) -> Candidate | None:
    url = _text(item.get("url"))
    if not url:
        return None
    return Candidate(
        url=url,
        license=code
        if (code := _text(item.get("license")).casefold()) in CREATIVE_COMMONS
        else UNKNOWN,
        license_url=_text(item.get("license_url")),
        creator=_text(item.get("creator")),
        title=_text(item.get("title")),
        page_url=_text(item.get("foreign_landing_url")),
        attribution=_text(item.get("attribution")),
        width=_whole(item.get("width")) or None,
        height=_whole(item.get("height")) or None,
    )


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _problem(content: Any) -> str:
    detail = content.get("detail") if isinstance(content, dict) else None
    return " ".join(str(detail).split())[:200] if detail else "no reason given"
