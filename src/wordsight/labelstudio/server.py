"""The HTTP around the backend: its addresses, its guard, and how refusals reach people."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..classification.model_folder import check_threshold
from ..core.home import expand, writing
from ..core.result_folder import hold
from ..errors import InvalidArgument, WordsightError
from ..webapp.guard import Guard, Message, Receive, Send, as_json
from ..webapp.server import (
    HOST,
    ending_as_ctrl_c,
    impatient_protocol,
    is_loopback,
    listening,
    names_of,
    new_token,
    port_of,
    run_server,
)
from .backend import Backend, Payload
from .pictures import Pictures, Places
from .starting import Start, start_with_model, start_with_words
from .studio import Studio

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger("wordsight")
PORT = 9090  # what Label Studio's documentation takes
MAX_REQUEST = 64 << 20  # bytes; requests hold the tasks of a whole project
USER = "wordsight"
READ = re.compile(r"/|/health|/versions|/metrics")
WRITE = re.compile(r"/(setup|predict|train|webhook)")
OPEN = {"/webhook"}  # Label Studio sends no password there, and nothing is told or taken from it
SAID = b"x-wordsight-said"  # header with what a refusal's status line is to say
MOST_SAID = 600  # characters of that line


class BackendGuard(Guard):
    """The guard before the backend: see `Guard`. The token is the password of basic
    authentication, which Label Studio offers for backends.
    """

    unknown = (
        "This backend needs its password: in Label Studio choose Basic Authentication, with the "
        f"user {USER} and the password that 'wordsight serve' printed."
    )

    def _may_enter(self, scope: Message, headers: dict[str, str]) -> bool:
        if scope["path"] in OPEN:
            return True
        kind, _, told = headers.get("authorization", "").partition(" ")
        try:
            shown = base64.b64decode(told, validate=True) if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(shown, f"{USER}:{self._token}".encode())

    async def _post(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await self._arrived(receive, send, MAX_REQUEST)
        if body is not None:
            await self._pass_whole(scope, body, receive, send)


@dataclass(frozen=True)
class ServeRequest:
    """What is to be served, and to whom; see `serve`.

    Attributes:
        model: model folder, or None for words.
        classes: words, or None for a model.
        output: folder of what is learned, a model for each project.
        threshold: probability from which a label is suggested; None: the model's own.
        url: Label Studio's address; None: what it says itself.
        token: a token of Label Studio; None: the one it sends itself.
        local_files: folder that it serves files of this machine from, or None.
        allow_hosts: further servers that pictures may be read from.
        host: address to listen on; from any but this machine's own a password is demanded.
        port: to listen on.
    """

    model: str | None = None
    classes: str | None = None
    output: Path = Path("label-studio")
    threshold: float | None = None
    url: str | None = None
    token: str | None = None
    local_files: Path | None = None
    allow_hosts: Sequence[str] = field(default_factory=list)
    host: str = HOST
    port: int = PORT

    def start(self) -> Start:
        """Return what answers before anything was annotated.

        Raises:
            InvalidArgument: if neither a model nor words were given, or both.
        """
        if (self.model is None) == (self.classes is None):
            raise InvalidArgument(
                "Give either a model (-m models/pets) or words (-c cat,dog) to begin with."
            )
        if self.model is not None:
            return start_with_model(self.model)
        return start_with_words(str(self.classes))


def serve(request: ServeRequest, say: Callable[[str], None] | None = None) -> None:
    """Answer Label Studio until Ctrl-C.

    Args:
        request: what to serve.
        say: called with what to do in Label Studio.

    Raises:
        InvalidArgument, NotFound, InvalidModel: if that can't be.
    """
    with listening(request.host, request.port) as sockets:
        _serve(request, sockets, say or log.info)


def _serve(
    request: ServeRequest, sockets: list[socket.socket], tell: Callable[[str], None]
) -> None:
    if request.threshold is not None:
        check_threshold(request.threshold)
    places = Places.of(request.local_files, request.allow_hosts)
    url = request.url or os.environ.get("LABEL_STUDIO_URL")
    studio = Studio(url, request.token or os.environ.get("LABEL_STUDIO_API_KEY"))
    start = request.start()
    output = expand(request.output)
    if start.model is not None and start.model.record.path is not None:
        _refuse_inside(output, start.model.record.path)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
    with ending_as_ctrl_c(), hold(output):
        backend = Backend(
            start, studio, Pictures(studio, places, start.embedder), output, request.threshold
        )
        password = None if is_loopback(request.host) else new_token()
        guard = BackendGuard(
            application(backend), names_of(request.host), password, output, READ, WRITE
        )
        _greet(request, port_of(sockets), password, start, studio, tell)
        try:
            run_server(guard, sockets, _telling_protocol())
        except KeyboardInterrupt:  # which is how it is ended
            pass
        finally:
            backend.close()
            studio.close()
        tell("Closed.")


def _greet(
    request: ServeRequest,
    port: int,
    password: str | None,
    start: Start,
    studio: Studio,
    tell: Callable[[str], None],
) -> None:
    """Print how to connect Label Studio, and which address, folder and password are used."""
    tell(
        f"In Label Studio connect {_address(request.host, port)} (Settings, Model, Connect "
        "Model). If it refuses the address as a reserved or local one, start it with "
        "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false. Ctrl-C ends it here."
    )
    if password is not None:
        tell(f"There choose Basic Authentication: user {USER}, password {password}")
    if studio.url is not None:
        tell(f"Label Studio is taken to be at {studio.url} (--label-studio-url).")
    note = None if start.model is None else start.model.threshold_for(request.threshold)[1]
    if note is not None:
        tell(note)
    tell(
        f"What is learned from annotations is kept in '{request.output}'; the model given stays as "
        "it is."
    )


def application(backend: Backend) -> Any:
    """Return the backend as an ASGI application, without its guard."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    def reading(answer: Callable[[], Payload]) -> Any:
        return lambda request: as_json(answer())

    def doing(act: Callable[[Payload], Payload]) -> Any:
        async def taken(request: Request) -> Response:
            from starlette.concurrency import run_in_threadpool

            try:
                given = json.loads(await request.body())
                if not isinstance(given, dict):
                    raise ValueError("an object is needed")
            except (ValueError, RecursionError) as error:
                return _refusal(400, f"This request can't be read: {error}.")
            try:
                return as_json(await run_in_threadpool(act, given))
            except WordsightError as error:
                log.warning("%s", error)
                return _refusal(422, str(error))
            except Exception as error:  # whatever it is, the next request is answered
                log.exception("%s failed: %s: %s", request.url.path, type(error).__name__, error)
                return _refusal(500, f"wordsight failed: {type(error).__name__}: {error}")

        return taken

    def health() -> Payload:
        return {"status": "UP", "model_class": "wordsight"}

    get: dict[str, Callable[[], Payload]] = {
        "/": health,
        "/health": health,
        "/versions": backend.versions,
        "/metrics": lambda: {},
    }
    post = {
        "/setup": backend.setup,
        "/predict": backend.predict,
        "/train": backend.train,
        "/webhook": backend.webhook,
    }
    return Starlette(
        routes=[
            *(Route(path, reading(answer)) for path, answer in get.items()),
            *(Route(path, doing(act), methods=["POST"]) for path, act in post.items()),
        ]
    )


def _refusal(status: int, sentence: str) -> Response:
    """Return an answer whose status line says the sentence, too: of a refusal, Label Studio shows
    nothing but that line.
    """
    line = " ".join(sentence.split()).encode("ascii", "replace").decode()[:MOST_SAID]
    headers = {SAID.decode(): "".join(sign for sign in line if sign.isprintable())}
    return as_json({"error": sentence, "detail": sentence}, status, headers)


def _telling_protocol() -> Any:
    """Return uvicorn's protocol with status lines that say what `_refusal` has them say."""
    import h11

    class Connection(h11.Connection):
        def send(self, event: Any) -> Any:
            if isinstance(event, h11.Response):
                said = [value for name, value in event.headers if name == SAID]
                if said:
                    kept = [pair for pair in event.headers if pair[0] != SAID]
                    event = h11.Response(
                        status_code=event.status_code, headers=kept, reason=said[0]
                    )
            return super().send(event)

    class Telling(impatient_protocol()):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.conn: Any = Connection(h11.SERVER)

    return Telling


def _address(host: str, port: int) -> str:
    """Return the address to connect, as far as it is known from here."""
    if host in ("0.0.0.0", "::"):
        host = "NAME-OF-THIS-MACHINE"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _refuse_inside(output: Path, model: Path) -> None:
    """Refuse to keep what is learned within the model that was given."""
    if output.resolve().is_relative_to(Path(model).resolve()):
        raise InvalidArgument(
            f"'{output}' is the model itself, which is never changed. Choose another folder with "
            "-o."
        )
