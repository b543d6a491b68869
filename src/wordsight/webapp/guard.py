"""The guard before the page in the browser: it checks visitors, addresses, and the size and pace of
requests.

Pure ASGI, so it sees every byte before the page's framework does. It lets through only the
addresses that the page uses.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..core.regular import open_regular
from ..images.signatures import holds_image

log = logging.getLogger("wordsight")
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_FILE = 64 << 20  # bytes of one image
MAX_UPLOAD = 256 << 20  # of all images of one request
MAX_REQUEST = 1 << 20  # of any other request
MAX_KEPT = 4 << 30  # of everything uploaded and not yet forgotten
LEAST_FREE = 512 << 20  # of the disk, below which nothing more is taken
UPLOADS_AT_ONCE = 32
PAUSE_S = 15  # longest silence within a request
REQUEST_S = 300  # longest time a request may take to arrive
MEASURE_S = 5  # between looks at the disk
COOKIE = "wordsight-token"
API = "/gradio_api"
READ = re.compile(
    rf"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static|svelte)/.*|{API}/(info/?|startup-events|app_id/?|token/?|user/?"
    rf"|login_check/?|upload_progress|queue/data|heartbeat/[\w-]+|call/[\w-]+/[\w-]+|file=.*)"
)
WRITE = re.compile(rf"{API}/(upload|queue/join/?|run/predict/?|call/[\w-]+/?|reset/?|cancel)")
UPLOAD = f"{API}/upload"
HEADERS = (
    (b"content-security-policy", b"default-src 'self' data: blob:; script-src 'self' "
     b"'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
     b"frame-ancestors 'none'; base-uri 'self'; form-action 'self'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)  # fmt: skip


class Guard:
    """An ASGI application that guards another one.

    Attributes:
        unknown: sentence for a visitor without the token.

    Args:
        app: the guarded application.
        hosts: names and addresses by which the page may be called, without port; None: any, as
            behind a token.
        token: what a visitor must show, or None where the address can only be reached from this
            machine.
        uploads: folder that uploads arrive in.
        read: addresses that may be read.
        write: addresses that may be posted to.
    """

    unknown = (
        "This page needs its token: open the address that 'wordsight app' printed, with ?token= at "
        "its end."
    )

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        hosts: set[str] | None,
        token: str | None,
        uploads: Path,
        read: re.Pattern[str] = READ,
        write: re.Pattern[str] = WRITE,
    ) -> None:
        self._allowed = {"GET": read, "HEAD": read, "POST": write}
        self._app, self._hosts, self._token, self._uploads = app, hosts, token, uploads
        self._uploading = 0
        self._measured, self._full = 0.0, False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no sockets of another kind
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        send = _with_headers(send)
        refusal = self._refuse(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
        elif self._token is not None and not self._may_enter(scope, headers):
            await _answer(send, 401, self.unknown)
        elif self._token is not None and _query(scope).get("token"):
            await self._let_in(send)
        elif scope["path"] == UPLOAD:
            await self._upload(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on. What the page's framework can't answer gets a refusal."""
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:  # many kinds are raised for requests that no browser sends
            log.debug("The page can't answer %s.", scope["path"], exc_info=True)
            if not started:
                await _answer(send, 400, "The page can't answer this request.")

    def _refuse(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return why a request is refused for any visitor, or None."""
        host = headers.get("host", "")
        # another site's name that was pointed here (DNS rebinding)
        if self._hosts is not None and _name(host) not in self._hosts:
            return 421, "This page answers only to its own address."
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") == "cross-site" and not _is_visit(scope, headers)
        if foreign or origin not in (None, f"http://{host}", f"https://{host}"):
            return 403, "Another site's page may not use this one."
        allowed = self._allowed.get(scope["method"])
        if allowed is None or not allowed.fullmatch(scope["path"]):
            return 404, "There is nothing here."
        return None

    def _may_enter(self, scope: Message, headers: dict[str, str]) -> bool:
        shown = [
            _digest(headers.get("authorization", "").removeprefix("Bearer ")),
            _digest(_query(scope).get("token", "")),
        ]
        shown += [
            part.partition("=")[2]
            for part in headers.get("cookie", "").split("; ")
            if part.startswith(f"{COOKIE}=")
        ]
        return any(
            hmac.compare_digest(text.encode(), _digest(str(self._token)).encode()) for text in shown
        )

    async def _let_in(self, send: Send) -> None:
        """Store the token in a cookie, and redirect to the address without it."""
        # Lax: a browser also shows it when a person follows a link from elsewhere
        cookie = f"{COOKIE}={_digest(str(self._token))}; Path=/; HttpOnly; SameSite=Lax"
        answer = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": answer})
        await send({"type": "http.response.body", "body": b""})

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a small request on, if all files that it names were uploaded."""
        body = await self._arrived(receive, send, MAX_REQUEST)
        if body is None:
            return
        try:
            if body and not _only_uploads(json.loads(body), self._uploads):
                await _answer(
                    send,
                    400,
                    "Pictures are uploaded first: neither addresses nor other files of this "
                    "machine can be named.",
                )
                return
        except (ValueError, RecursionError):
            await _answer(send, 400, "This request is no JSON.")
            return
        await self._pass_whole(scope, body, receive, send)

    async def _arrived(self, receive: Receive, send: Send, most: int) -> bytes | None:
        """Return a request's body of at most so many bytes; None where it was refused."""
        body = bytearray()
        pace = _Pace(receive, most)
        while True:
            message = await pace()
            if message["type"] != "http.request":
                if pace.why is not None:
                    await _answer(send, *pace.why)
                return None
            body += message.get("body", b"")
            if not message.get("more_body"):
                return bytes(body)

    async def _pass_whole(self, scope: Message, body: bytes, receive: Receive, send: Send) -> None:
        """Pass a request on whose body has arrived."""
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._pass(scope, again, send)

    async def _upload(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass an upload on, at a bounded size and pace, and keep nothing of files that are no
        pictures.
        """
        if self._uploading >= UPLOADS_AT_ONCE:
            await _answer(send, 429, "Too many uploads at once. Try again in a moment.")
            return
        if self._disk_full():
            await _answer(send, 507, "There is no room for more pictures now. Try again later.")
            return
        pace = _Pace(receive, MAX_UPLOAD)
        held = _Held()
        self._uploading += 1
        try:
            # the answer is read here
            plain = [
                (name, value)
                for name, value in scope["headers"]
                if name.lower() != b"accept-encoding"
            ]
            await self._app({**scope, "headers": plain}, pace, held)
        except Exception:  # a client that left, or a body that is none: many kinds are raised
            held.status = 400
        finally:
            self._uploading -= 1
        refused = pace.why or (self._empty_others(held) if held.status == 200 else None)
        if refused is not None:
            await _answer(send, *refused)
        elif held.status != 200:
            known = held.status if held.status in (400, 413) else 400
            await _answer(
                send,
                known,
                f"A picture may have {MAX_FILE >> 20} MiB."
                if known == 413
                else "This is no upload of files.",
            )
        else:
            for message in held.messages:
                await send(message)

    def _empty_others(self, held: _Held) -> tuple[int, str] | None:
        """Empty uploaded files that are no images, so that they are listed as unreadable
        beside the others; refuse where all are such.
        """
        paths = [Path(name) for name in json.loads(held.body)]
        others = [
            path
            for path in paths
            if path.resolve().is_relative_to(self._uploads.resolve()) and not _is_image(path)
        ]
        for path in others:
            if len(others) == len(paths):
                # a folder of the bytes' hash, so nothing but these bytes lies in it
                shutil.rmtree(path.parent, ignore_errors=True)
            else:
                path.write_bytes(b"")
        return (
            (415, "Only pictures can be uploaded, such as JPEG or PNG.")
            if others and len(others) == len(paths)
            else None
        )

    def _disk_full(self) -> bool:
        now = time.monotonic()
        if now - self._measured > MEASURE_S:
            self._measured = now
            self._full = (
                _kept_bytes(self._uploads) > MAX_KEPT
                or shutil.disk_usage(self._uploads).free < LEAST_FREE
            )
        return self._full


class _Pace:
    """Receives a request at a bounded size and pace; what breaks them ends as if the client had
    gone away.

    Attributes:
        why: status and sentence of the refusal, or None.
    """

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._came, self._began = receive, most, 0, time.monotonic()
        self.why: tuple[int, str] | None = None
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        left = self._began + REQUEST_S - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(PAUSE_S, left)))
        except asyncio.TimeoutError:
            self.why = (408, "This took too long to arrive.")
            return {"type": "http.disconnect"}
        self._came += len(message.get("body", b""))
        self._complete = not message.get("more_body")
        if self._came > self._most:
            self.why = (413, f"At most {self._most >> 20} MiB are taken at once.")
            return {"type": "http.disconnect"}
        return message


class _Held:
    """Holds an answer back until it has been looked at."""

    def __init__(self) -> None:
        self.status, self.messages = 0, list[Message]()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
        await send(message)

    return sending


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    """Return an answer in JSON; in ASCII, as names of files may hold bytes that are no text."""
    from starlette.responses import Response

    data = json.dumps(content, allow_nan=False)
    return Response(data, status, headers, media_type="application/json")


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"error": text, "detail": text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _digest(token: str) -> str:
    """Return what a cookie keeps of a token: letters and digits, whatever the token holds."""
    return hashlib.sha256(token.encode()).hexdigest()


def _is_visit(scope: Message, headers: dict[str, str]) -> bool:
    """Whether a browser opens the page itself in a tab, as when a person follows a link."""
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _query(scope: Message) -> dict[str, str]:
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))


def _name(host: str) -> str:
    """Return a Host header without its port."""
    return (
        host.rpartition("]")[0].lstrip("[")
        if host.startswith("[")
        else host.partition(":")[0].lower()
    )


def _only_uploads(value: Any, uploads: Path) -> bool:
    """Whether every file in a request, at any depth, is in the folder of uploads. Addresses
    aren't.
    """
    root = uploads.resolve()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            path = item.get("path")
            if path is not None and not (
                isinstance(path, str)
                and "\0" not in path
                and Path(path).resolve().is_relative_to(root)
            ):
                return False
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return True


def _is_image(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return holds_image(path.suffix, file.read(4096))
    except OSError:
        return False


def _kept_bytes(folder: Path) -> int:
    """Return what lies in the folder of uploads, after forgetting what was left of uploads that
    broke off.
    """
    kept, folders = 0, [os.fspath(folder)]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    kept += status.st_size
                    # whole ones lie in folders
                    if here == os.fspath(folder) and time.time() - status.st_mtime > REQUEST_S:
                        os.unlink(entry.path)
        except OSError:
            continue  # gone meanwhile
    return kept
