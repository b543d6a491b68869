"""The only way to the network: polite, bounded, and never into a private one (`transport`).

Requests are bounded in all and per site; what a site says of its limits (`Retry-After`, 429,
refusals) is obeyed.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import httpcore
import httpx

from ... import __version__
from ...errors import OutputError, SourceUnavailable
from .transport import FetchError, GuardedTransport

MAX_IMAGE_BYTES = 32 << 20
MAX_JSON_BYTES = 4 << 20  # which Python may need a hundred MiB for
AT_ONCE, AT_ONCE_PER_SITE = 32, 8  # requests under way
ATTEMPTS = 3  # of one request, the first included
MAX_REDIRECTS = 5
# refusals in a row after which an API, or a site's images, are left alone for this run
STRIKES = 4
WAIT_S = 5.0  # doubled with each refusal, where a site says "too many" and not for how long
MAX_WAIT_S = 120.0  # a site that asks for a longer pause is left alone for this run
TIMEOUT = httpx.Timeout(10.0)  # to connect, and between two pieces of an answer
DEADLINE_S = 60.0  # for one whole image
SLOWEST_BYTES_PER_S, SLOW_AFTER_S = 1024, 5.0
_REFUSALS = {"noai", "noimageai", "noindex", "noimageindex", "none"}  # of the X-Robots-Tag header
_TRANSPORT_ERRORS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
)

_TRY_AGAIN = {"no connection", "broken off", "server error", "rate limited"}


@dataclass(frozen=True)
class Answer:
    """An answer in JSON: status code, content, headers (names in lower case)."""

    status: int
    content: Any
    headers: Mapping[str, str]


def site(url: str) -> str:
    """Return "host:port" of an address, "" where it has none."""
    try:
        parsed = httpx.URL(url)
        host, port = parsed.host, parsed.port or {"http": 80, "https": 443}.get(parsed.scheme, 0)
    except (httpx.InvalidURL, ValueError, TypeError):  # ValueError: names that IDNA forbids, too
        return ""
    return f"{host.casefold()}:{port}" if host and port < 1 << 16 else ""


def user_agent() -> str:
    """Return our user agent, with the user's contact (`WORDSIGHT_CONTACT`)."""
    contact = "".join(
        c for c in os.environ.get("WORDSIGHT_CONTACT", "") if c.isascii() and c.isprintable()
    ).strip()
    return f"wordsight/{__version__} ({contact or 'no contact given'}) httpx/{httpx.__version__}"


@dataclass
class _Limits:
    """What an API, or a site's images, asked of us."""

    resume_at: float = 0.0  # monotonic; before it nothing is asked
    closed: str = ""  # why nothing is asked any more in this run
    strikes: int = 0  # refusals since something was answered, those of one pause counted once


@dataclass
class Web:
    """A polite client for one run; open it with `async with`.

    Attributes:
        allowed: "host:port" that may be contacted even at a private address.
        together: groups of "host:port" and how many requests at once each group gets in all.
        say: called with one line when a site makes us wait.
    """

    allowed: set[str] = field(default_factory=set)
    together: list[tuple[set[str], int]] = field(default_factory=list)
    say: Callable[[str], None] = lambda line: None

    async def __aenter__(self) -> Web:
        self._slots = anyio.Semaphore(AT_ONCE)
        self._site_slots: dict[str, anyio.Semaphore] = {}
        # by address of an API, or by site for its images
        self._limits: dict[str, _Limits] = defaultdict(_Limits)
        for names, count in self.together:
            self._site_slots.update(dict.fromkeys(names, anyio.Semaphore(count)))
        headers = {"User-Agent": user_agent(), "Accept-Encoding": "identity"}
        self._client = httpx.AsyncClient(
            transport=GuardedTransport(self.allowed, AT_ONCE),
            headers=headers,
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._client.aclose()

    async def get_json(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask an API. Waits where it asks to, repeats what fails by chance; any other status is
        returned.

        Raises:
            SourceUnavailable: if no usable answer comes.
        """
        return await self._ask("GET", url, headers, params=params)

    async def post_form(self, url: str, form: Mapping[str, str]) -> Answer:
        """Send a form to an API, as `get_json`."""
        return await self._ask("POST", url, None, data=form)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | None, **content: Any
    ) -> Answer:
        async def once() -> Answer:
            async with self._response(
                method, url, headers or {}, 0, self._limits[url], **content
            ) as response:
                _refuse_compressed(response)
                body = bytearray()
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > MAX_JSON_BYTES:
                        raise FetchError(
                            "too large", f"more than {MAX_JSON_BYTES >> 20} MiB of JSON"
                        )
                return Answer(
                    response.status_code,
                    _json(bytes(body), response),
                    {k.lower(): v for k, v in response.headers.items()},
                )

        try:
            return await self._patiently(once, attempts=ATTEMPTS + 2)
        except FetchError as error:
            raise SourceUnavailable(f"{site(url).rpartition(':')[0] or url}: {error}") from None

    async def download(self, url: str, path: Path, max_bytes: int = MAX_IMAGE_BYTES) -> str:
        """Stream a picture to a file and return the sha256 of its bytes, in hex.

        Raises:
            FetchError: if it can't be had; a half file may be left at `path`.
            OutputError: if the file can't be written.
        """

        async def once() -> str:
            async with self._response(
                "GET", url, {"Accept": "image/*,*/*;q=0.5"}, MAX_REDIRECTS, None
            ) as response:
                _check_image_headers(response, max_bytes)
                return await _stream(response, path, max_bytes)

        return await self._patiently(once, attempts=ATTEMPTS)

    async def _patiently(self, once: Callable, attempts: int) -> Any:
        refused = failed = 0
        while True:
            try:
                return await once()
            except FetchError as error:
                refused += error.reason == "rate limited"
                failed += error.reason != "rate limited"
                if error.reason not in _TRY_AGAIN or failed >= attempts or refused > STRIKES:
                    raise
                if error.reason != "rate limited":  # for that, the whole site already waits
                    await anyio.sleep(0.4 * 2 ** (failed - 1) * random.uniform(0.5, 1.5))

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        redirects: int,
        limits: _Limits | None,
        **content: Any,
    ) -> AsyncIterator[httpx.Response]:
        """Yield the final answer to a request, with its body still to come. Without limits of
        an API, those of each site hold.
        """
        seen: set[str] = set()
        try:
            while True:
                if not url.lower().startswith(("http://", "https://")) or not site(url):
                    raise FetchError("not http(s)", url[:200])
                if url in seen or len(seen) > redirects:
                    raise FetchError("redirect loop", url[:200])
                seen.add(url)
                async with self._turn(url, limits or self._limits[site(url)]):
                    with anyio.fail_after(DEADLINE_S):
                        async with self._client.stream(
                            method, url, headers=dict(headers), **content
                        ) as response:
                            if (
                                response.status_code in (301, 302, 303, 307, 308)
                                and redirects
                                and "location" in response.headers
                            ):
                                url = str(response.url.join(response.headers["location"]))
                                continue
                            self._obey(url, limits or self._limits[site(url)], response)
                            yield response
                            return
        except TimeoutError:
            raise FetchError("timed out", f"not done after {DEADLINE_S:.0f} s") from None
        except OutputError:
            raise
        except (*_TRANSPORT_ERRORS, OSError) as error:
            raise _fetch_error(error) from None

    @asynccontextmanager
    async def _turn(self, url: str, limits: _Limits) -> AsyncIterator[None]:
        """Wait until this site may be asked."""
        async with self._site_slots.setdefault(site(url), anyio.Semaphore(AT_ONCE_PER_SITE)):
            while (wait := limits.resume_at - time.monotonic()) > 0 and not limits.closed:
                await anyio.sleep(wait + random.uniform(0, 0.1))
            if limits.closed:
                raise FetchError("rate limited", limits.closed)
            async with self._slots:
                yield

    def _obey(self, url: str, limits: _Limits, response: httpx.Response) -> None:
        """Raise, and pause, if the answer says so.

        Raises:
            FetchError: for 429, or a server error.
        """
        status = response.status_code
        if status == 429 or status == 503:
            limits.strikes += limits.resume_at <= time.monotonic()
            wait = retry_after_s(response.headers.get("retry-after"))
            if wait is None:
                wait = WAIT_S * 2 ** (limits.strikes - 1) if status == 429 else 0.0
            self._pause(url, limits, wait)
            if limits.strikes >= STRIKES and not limits.closed:
                limits.closed = f"{site(url).rpartition(':')[0]} refuses again and again"
        else:
            limits.strikes = 0
        if status == 429:
            raise FetchError("rate limited", limits.closed or "status 429")
        if status >= 500:
            raise FetchError("server error", f"status {status}")

    def pause(self, url: str, seconds: float) -> None:
        """Ask nothing of the API at this address for a while; for the rest of the run where
        that is longer than two minutes.
        """
        self._pause(url, self._limits[url], seconds)

    def _pause(self, url: str, limits: _Limits, seconds: float) -> None:
        host = site(url).rpartition(":")[0]
        if seconds > MAX_WAIT_S:
            limits.closed = f"{host} asks to wait {_duration(seconds)}"
        elif seconds > 0:
            if seconds >= 5 and limits.resume_at < time.monotonic():
                self.say(f"{host} allows no more for now; going on in {seconds:.0f} s.")
            limits.resume_at = max(limits.resume_at, time.monotonic() + seconds)


def _check_image_headers(response: httpx.Response, max_bytes: int) -> None:
    status = response.status_code
    if status in (401, 403, 451):
        raise FetchError("refused by the site", f"status {status}")
    if status in (404, 410):
        raise FetchError("not found", f"status {status}")
    if status != 200:
        raise FetchError("not answered", f"status {status}")
    for line in response.headers.get_list("x-robots-tag"):
        agent, _, rest = line.rpartition(":")
        for_us = agent.strip().casefold() in ("", "wordsight")
        if for_us and _REFUSALS & {part.strip().casefold() for part in (rest or line).split(",")}:
            raise FetchError("refused by the site", f"X-Robots-Tag: {line[:80]}")
    _refuse_compressed(response)
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise FetchError("too large", f"{int(length) >> 20} MiB announced")


def _refuse_compressed(response: httpx.Response) -> None:
    """Refuse an answer that would have to be unpacked, to any size.

    Raises:
        FetchError: if it is compressed.
    """
    encoding = response.headers.get("content-encoding", "").strip().casefold()
    if encoding not in ("", "identity"):
        raise FetchError("compressed", f"as {encoding[:40]}, which was not asked for")


async def _stream(response: httpx.Response, path: Path, max_bytes: int) -> str:
    digest, count, start = hashlib.sha256(), 0, time.monotonic()
    with open(path, "wb") as file:
        async for piece in response.aiter_raw():
            count += len(piece)
            if count > max_bytes:
                raise FetchError("too large", f"more than {max_bytes >> 20} MiB")
            elapsed = time.monotonic() - start
            if elapsed > SLOW_AFTER_S and count < SLOWEST_BYTES_PER_S * elapsed:
                raise FetchError("too slow", f"{count} bytes in {elapsed:.0f} s")
            digest.update(piece)
            _write(file, piece)
        _write(file)
    return digest.hexdigest()


def _write(file: BinaryIO, piece: bytes = b"") -> None:
    """Write a piece; nothing means that all is written. Our own disk's errors are not the
    network's.
    """
    try:
        file.write(piece) if piece else file.flush()
    except OSError as error:
        raise OutputError(
            f"Can't write to '{file.name}': {error.strerror}. Choose another folder with -o, or "
            "free some space."
        ) from error


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks to wait, a number or a date; None
    where it says nothing.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _fetch_error(error: Exception) -> FetchError:
    text = " ".join(str(error).split())[:120] or type(error).__name__
    if isinstance(error, httpx.TimeoutException | httpcore.TimeoutException):
        return FetchError("timed out", type(error).__name__)
    if isinstance(error, httpx.ConnectError | httpcore.ConnectError):
        return FetchError("no connection", text)
    if isinstance(
        error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpcore.UnsupportedProtocol
    ):
        return FetchError("not http(s)", text)
    return FetchError("broken off", text)


def _json(body: bytes, response: httpx.Response) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        kind = response.headers.get("content-type", "nothing").partition(";")[0]
        raise FetchError(
            "not answered", f"status {response.status_code} with {kind} instead of JSON"
        ) from None


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
