"""Requests to Label Studio: bounded in size and time, with its token, and to its own address only.

Nothing here logs a token. A redirect to another address is not followed.
"""

from __future__ import annotations

import json
import re
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from ..core.home import is_offline
from ..errors import InvalidArgument, SourceUnavailable

DEFAULT_URL = "http://localhost:8080"  # where Label Studio listens by itself
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
MAX_JSON = 256 << 20  # bytes of one answer of the API
PAGE = 250  # tasks an answer
MAX_TASKS = 1_000_000
TIMEOUT = httpx.Timeout(15.0)  # to connect, and between two pieces of an answer
DEADLINE_S = 60.0  # for one whole answer
CHECK_S = 1.0  # for a token to be looked at; Label Studio gives a connection three seconds in all
MAX_REDIRECTS = 3
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_ANNOTATED = {
    "filters": {
        "conjunction": "and",
        "items": [
            {
                "filter": "filter:tasks:total_annotations",
                "operator": "greater",
                "type": "Number",
                "value": 0,
            }
        ],
    },
    "ordering": ["tasks:id"],
}
NO_TOKEN = (
    "Label Studio sent no access token, and none was given. Make a personal access token in Label "
    "Studio (Account & Settings, Personal Access Token), and start 'wordsight serve' with "
    "LABEL_STUDIO_API_KEY set to it, or with --token."
)
REFUSED = (
    "Label Studio at {url} refused the access token{whose}. Make a personal access token there "
    "(Account & Settings, Personal Access Token), and start 'wordsight serve' with "
    "LABEL_STUDIO_API_KEY set to it, or with --token."
)
SENT = " that it sent itself, which new versions no longer accept"


class TooSlow(SourceUnavailable):
    """A server did not answer in time; it may do so later."""


def check_url(url: str, what: str = "--label-studio-url") -> httpx.URL:
    """Return the address of a Label Studio, without a slash at its end.

    Raises:
        InvalidArgument: if it is none.
    """
    try:
        parsed = httpx.URL(url.strip().rstrip("/"))
        fine = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (httpx.InvalidURL, ValueError, TypeError):
        fine = False
    if not fine or parsed.userinfo or parsed.query or parsed.fragment:
        raise InvalidArgument(
            f"{what} takes the address of Label Studio, such as {DEFAULT_URL}; got "
            f"'{_without_password(url)}'."
        )
    return parsed


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Return scheme, host and port of an address; what two pages of one server share."""
    port = url.port or (443 if url.scheme == "https" else 80)
    return url.scheme, url.host.casefold(), port


class Studio:
    """A Label Studio, with a token. Safe from many threads.

    Args:
        url: its address; None: what it says itself, if that is on this machine.
        token: a personal access token or a legacy one; None: the one it sends itself.

    Attributes:
        url: its address, or None as long as it is not known.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        given = url or (DEFAULT_URL if token else None)
        self.url = None if given is None else check_url(given)
        self._fixed, self._own = given is not None, bool(token)
        self._token = _checked(token) if token else None
        self._access: str | None = None  # what a personal access token was exchanged for
        self._accepted: tuple[object, object] | None = None  # address and token found to be right
        self._lock = threading.Lock()
        certificates = httpx.create_ssl_context()
        certificates.load_default_certs()  # also those of SSL_CERT_FILE
        self._client = httpx.Client(
            verify=certificates, timeout=TIMEOUT, follow_redirects=False, trust_env=False
        )
        weakref.finalize(self, self._client.close)

    @property
    def has_token(self) -> bool:
        """Whether there is a token to ask with."""
        return self._token is not None

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def introduce(self, hostname: object, token: object) -> None:
        """Take the address and the token that Label Studio sends when it is connected; what was
        given at the start counts first.

        Raises:
            InvalidArgument: if the address is of another machine, and none was given.
        """
        if not self._fixed and isinstance(hostname, str) and hostname:
            url = check_url(hostname, "Label Studio's host name")
            if url.host.casefold() not in LOOPBACK:
                raise InvalidArgument(
                    f"Label Studio calls itself '{url}', which is not on this machine. Start "
                    f"'wordsight serve' with --label-studio-url {url} if that is right."
                )
            self.url = url
        if not self._own and isinstance(token, str) and token.strip():
            with self._lock:
                if token != self._token:
                    self._token, self._access = _checked(token), None

    def check(self) -> None:
        """Ask Label Studio whether it accepts the token, unless it did before.

        Raises:
            SourceUnavailable: if there is none, it is refused, or nothing answers there.
        """
        token = self._token
        if token is None:
            raise SourceUnavailable(NO_TOKEN)
        if self._accepted == (self.url, token):
            return
        url, timeout = self.address("/api/current-user/whoami"), httpx.Timeout(CHECK_S)
        try:
            status, _ = self.fetch(url, MAX_JSON, self._header(token, timeout), timeout=timeout)
        except TooSlow:
            return
        if status == 401:
            raise SourceUnavailable(self._refused())
        self._accepted = self.url, token

    def owns(self, url: httpx.URL) -> bool:
        """Whether an address is one of this Label Studio."""
        return self.url is not None and origin(url) == origin(self.url)

    def address(self, path: str) -> httpx.URL:
        """Return the whole address of a path such as `/data/upload/1/a.jpg`.

        Raises:
            SourceUnavailable: if Label Studio's address is not known.
        """
        if self.url is None:
            raise SourceUnavailable(
                "Label Studio's address is not known yet. Start 'wordsight serve' with "
                "--label-studio-url, or press Save again where the model is connected."
            )
        below = self.url.path.rstrip("/")
        if below and path.startswith(f"{below}/"):
            path = path[len(below) :]
        return httpx.URL(f"{self.url}{path}")

    def tasks(self, project: int) -> Iterator[dict]:
        """Yield a project's annotated tasks, with their annotations.

        Raises:
            SourceUnavailable: if they can't be had.
        """
        query = quote(json.dumps(_ANNOTATED))
        seen, number = 0, 0
        while seen < MAX_TASKS:
            number += 1
            path = (
                f"/api/tasks?project={project}&fields=all&resolve_uri=false"
                f"&page={number}&page_size={PAGE}&query={query}"
            )
            told = self._json(path)
            tasks = told.get("tasks") if isinstance(told, dict) else None
            if not isinstance(tasks, list):
                raise SourceUnavailable(
                    f"What answers at {self.url} is no Label Studio: it lists no tasks. Check "
                    "--label-studio-url."
                )
            yield from (task for task in tasks if isinstance(task, dict))
            seen += len(tasks)
            total = told.get("total")
            if not tasks or not isinstance(total, int) or seen >= total:
                return

    def _json(self, path: str) -> Any:
        data = self.get(self.address(path), MAX_JSON)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise SourceUnavailable(
                f"What answers at {self.url} is no Label Studio: its answer is no JSON. Check "
                "--label-studio-url."
            ) from None

    def get(self, url: httpx.URL, most: int) -> bytes:
        """Return what lies at an address of this Label Studio, asked for with the token.

        Args:
            url: see `owns`.
            most: bytes that it may have.

        Raises:
            SourceUnavailable: if it can't be had.
        """
        with self._lock:
            token = self._token
        if token is None:
            raise SourceUnavailable(NO_TOKEN)
        status, data = self.fetch(url, most, self._header(token))
        if status == 401 and _JWT.fullmatch(token):
            with self._lock:
                self._access = None
            status, data = self.fetch(url, most, self._header(token))
        if status in (401, 403):
            raise SourceUnavailable(
                self._refused()
                if status == 401
                else f"Label Studio at {self.url} doesn't allow this token's owner to see "
                f"{url.path}. Use the token of a member of the project."
            )
        if status != 200:
            raise SourceUnavailable(f"Label Studio answered {status} for {url.path}.")
        return data

    def _refused(self) -> str:
        return REFUSED.format(url=self.url, whose="" if self._own else SENT)

    def _header(self, token: str, timeout: httpx.Timeout | None = None) -> dict[str, str]:
        if not _JWT.fullmatch(token):
            return {"Authorization": f"Token {token}"}
        with self._lock:
            if self._access is None:
                self._access = self._exchanged(token, timeout)
            return {"Authorization": f"Bearer {self._access}"}

    def _exchanged(self, token: str, timeout: httpx.Timeout | None) -> str:
        """Return the short-lived token that a personal access token is good for."""
        body = json.dumps({"refresh": token}).encode()
        status, data = self.fetch(self.address("/api/token/refresh/"), 1 << 20, {}, body, timeout)
        try:
            access = json.loads(data)["access"] if status == 200 else None
        except (ValueError, KeyError, TypeError, RecursionError):
            access = None
        if not isinstance(access, str) or not _JWT.fullmatch(access):
            raise SourceUnavailable(self._refused())
        return access

    def fetch(
        self,
        url: httpx.URL,
        most: int,
        headers: dict[str, str],
        body: bytes | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> tuple[int, bytes]:
        """Return status and content of an answer. Redirects are followed on the same server only,
        so no header goes elsewhere.

        Raises:
            SourceUnavailable: if there is none, or it is too large or too slow.
        """
        if is_offline() and url.host.casefold() not in LOOPBACK:
            raise SourceUnavailable(
                f"{url.host} is not asked, for network access is forbidden (--offline)."
            )
        for _ in range(1 + MAX_REDIRECTS):
            status, data, target = self._once(url, most, headers, body, timeout or TIMEOUT)
            if target is None:
                return status, data
            try:
                next_url = httpx.URL(urljoin(str(url), target))
            except (httpx.InvalidURL, ValueError):
                next_url = httpx.URL("http://invalid/")
            if origin(next_url) != origin(url):
                raise SourceUnavailable(
                    f"{url.host}{url.path} leads on to another server ({next_url.host}), which is "
                    "not followed."
                )
            url = next_url
        raise SourceUnavailable(f"{url.host}{url.path} leads on and on.")

    def _once(
        self,
        url: httpx.URL,
        most: int,
        headers: dict[str, str],
        body: bytes | None,
        timeout: httpx.Timeout,
    ) -> tuple[int, bytes, str | None]:
        """Return status, content and where an answer leads, or None."""
        method, until = "GET" if body is None else "POST", time.monotonic() + DEADLINE_S
        sent = {**headers, "Accept-Encoding": "identity"}
        sent |= {} if body is None else {"Content-Type": "application/json"}
        try:
            with self._client.stream(
                method, url, headers=sent, content=body, timeout=timeout
            ) as answer:
                if answer.is_redirect:
                    return answer.status_code, b"", answer.headers.get("location", "")
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise SourceUnavailable(f"{url.host}{url.path} comes compressed.")
                data = bytearray()
                for piece in answer.iter_raw():
                    data += piece
                    if len(data) > most:
                        raise SourceUnavailable(
                            f"{url.host}{url.path} has more than {most >> 20} MiB."
                        )
                    if time.monotonic() > until:
                        raise SourceUnavailable(
                            f"{url.host}{url.path} took more than {DEADLINE_S:g} seconds."
                        )
                return answer.status_code, bytes(data), None
        except httpx.TimeoutException:
            raise TooSlow(f"{_place(url)} does not answer in time.") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise SourceUnavailable(
                f"{_place(url)} has a certificate that is not trusted here. Name its authority's "
                "file in SSL_CERT_FILE."
                if "CERTIFICATE_VERIFY" in str(error)
                else f"{_place(url)} can't be reached ({type(error).__name__}). Is it running, and "
                "is the address right?"
            ) from None


def _checked(token: str) -> str:
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token or len(token) > 8192:
        raise InvalidArgument(
            "A token of Label Studio is one word of letters, digits and dots. Copy it again from "
            "Account & Settings."
        )
    return token


def _place(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//…@", url)[:200]
