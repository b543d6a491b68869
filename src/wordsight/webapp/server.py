"""Serve the page in the browser, at an address and behind a token, with a temporary folder for
uploads.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.home import cache_folder, keep
from ..core.result_folder import hold
from ..core.threads import blas_resting
from ..errors import InvalidArgument
from .guard import MAX_FILE, Guard

log = logging.getLogger("wordsight")
HOST, PORT = "127.0.0.1", 7860
TRIED_PORTS = 20
BACKLOG = 2048  # connections that wait, as uvicorn has it
CONNECTIONS = 500  # at once; systems often allow a process a thousand files
HEAD_S = 15  # in which a request's head has to arrive
UNREAD_S = 60  # in which some of an answer has to be read
VISITORS_DOING = (  # how log records of uvicorn begin
    "Invalid HTTP request",
    "Unsupported upgrade request",
    "No supported WebSocket library",
    "ASGI callable returned without",  # an answer that broke off
    "Cancel ",
)
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def app(
    model: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    host: str = HOST,
    port: int | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Open a page in the browser to try models, train them, review images and compare, until
    Ctrl-C.

    Args:
        model: a model folder that is offered first.
        data: a folder whose images are reviewed and compared; only its metadata.csv is written.
        host: address to listen on. From any but this machine's own a token is demanded: that of
            WORDSIGHT_TOKEN, or a new one.
        port: to listen on; by default 7860, or the next that is free.
        say: called with the address.

    Raises:
        InvalidArgument: if the extra `app` is missing, or the address can't be listened on.
        NotFound, InvalidModel: if there is no such model or folder.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InvalidArgument("The page in the browser needs Gradio: pip install 'wordsight[app]'.")
    serve(
        lambda hosts, token, uploads: guarded(model, data, uploads, hosts, token), host, port, say
    )


def serve(
    page: Callable[[set[str] | None, str | None, Path], Guard],
    host: str,
    port: int | None,
    say: Callable[[str], None] | None,
) -> None:
    """Serve a page until Ctrl-C.

    Args:
        page: makes it, from the names it may be called by, the token it demands and the folder for
            uploads; see `Guard`.
        host: address to listen on.
        port: to listen on, or None for the first that is free.
        say: called with the address.

    Raises:
        InvalidArgument: if the address can't be listened on.
    """
    token = None if is_loopback(host) else new_token()
    with listening(host, port) as sockets, ending_as_ctrl_c(), uploads_folder() as uploads:
        serving = page(names_of(host), token, uploads)
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{port_of(sockets)}/" + (
            f"?token={quote(token, safe='')}" if token else ""
        )
        (say or log.info)(f"Open {address} in your browser. Ctrl-C ends it.")
        try:
            run_server(serving, sockets)
        except KeyboardInterrupt:  # which is how it is ended
            (say or log.info)("Closed.")


def new_token() -> str:
    """Return the token of WORDSIGHT_TOKEN, or a new one.

    Raises:
        InvalidArgument: if it is too short, or holds what can't be typed into an address.
    """
    given = os.environ.get("WORDSIGHT_TOKEN")
    if given and not (
        len(given) >= 8 and given.isascii() and given.isprintable() and " " not in given
    ):
        raise InvalidArgument(
            "WORDSIGHT_TOKEN must have at least 8 letters, digits or signs of ASCII, without "
            "blanks. Unset it for a new one."
        )
    return given or secrets.token_urlsafe(24)


def guarded(
    model: str | os.PathLike | None,
    data: str | os.PathLike | None,
    uploads: Path,
    hosts: set[str] | None,
    token: str | None,
) -> Guard:
    """Return the page behind its guard, as an ASGI application."""
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(uploads),
        HF_HUB_DISABLE_TELEMETRY="1",
        GRADIO_NUM_WORKERS="1",
    )
    from .page import build_page, mounted
    from .workspace import Workspace

    page = build_page(Workspace(model, data))
    return Guard(mounted(page, [], [], MAX_FILE), hosts, token, uploads)


@contextmanager
def ending_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP as Ctrl-C, so that visitors' images are deleted."""
    handlers: dict[str, Any] = {
        "SIGTERM": signal.default_int_handler,
        "SIGHUP": lambda *_: signal.raise_signal(signal.SIGTERM),  # which the server knows
    }
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name, handler in handlers.items():
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            # nohup ignores it
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """Make a folder for uploads that only this user can read, and remove it at the end, as well
    as those that killed pages left.
    """
    made = []

    def make(root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.iterdir():
            # else it is of a page that is open
            with suppress(InvalidArgument, OSError), hold(left):
                shutil.rmtree(left, ignore_errors=True)
        made.append(Path(tempfile.mkdtemp(dir=root)))

    keep(cache_folder() / "uploads", make)
    folder = made[0]
    with hold(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run_server(serving: Any, sockets: list[socket.socket], protocol: Any = None) -> None:
    """Serve an ASGI application on sockets that listen, until Ctrl-C; `protocol` as
    `impatient_protocol` returns it.
    """
    import uvicorn

    logging.getLogger("uvicorn.error").addFilter(_is_no_visitors_doing)
    with blas_resting():
        uvicorn.Server(_settings(serving, protocol)).run(sockets)


def _settings(serving: Any, protocol: Any = None) -> Any:
    """Return uvicorn's configuration."""
    import uvicorn

    return uvicorn.Config(
        serving,
        http=protocol or impatient_protocol(),
        ws="none",
        timeout_keep_alive=HEAD_S,
        timeout_graceful_shutdown=1,
        log_level="warning",
        access_log=False,
        server_header=False,
    )


def impatient_protocol() -> Any:
    """Return a protocol of uvicorn's that closes connections which would keep others out."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Closes connections that would keep others out: those on which no request arrives or no
        answer is read in time, and, if there are too many, the one that has been idle longest.
        """

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_request()
            if len(self.connections) > CONNECTIONS:
                connections: set[Any] = self.connections
                idle = [one for one in connections if one.cycle is one.answered]
                first = min(idle, key=lambda one: one.idle_since)
                self.connections.discard(first)
                first.transport.abort()

        def on_response_complete(self) -> None:
            self._expect_request()
            super().on_response_complete()

        def pause_writing(self) -> None:
            super().pause_writing()
            self.unread = self.loop.call_later(UNREAD_S, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self.unread.cancel()

        def _expect_request(self) -> None:
            self.answered, self.idle_since = self.cycle, self.loop.time()
            self.loop.call_later(HEAD_S, self._give_up, self.cycle)

        def _give_up(self, answered: Any) -> None:
            if self.cycle is answered:
                self.transport.abort()

    return Impatient


def _is_no_visitors_doing(record: logging.LogRecord) -> bool:
    """Whether a log record reports more than requests that were none, and visitors who had the
    page open at the end.
    """
    cancelled = bool(record.exc_info) and isinstance(record.exc_info[1], asyncio.CancelledError)  # type: ignore[index]
    return not cancelled and not record.getMessage().startswith(VISITORS_DOING)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_of(host: str) -> set[str] | None:
    """Return the names that the page may be called by: those of this machine, or any behind a
    token.
    """
    return LOOPBACK | {host} if is_loopback(host) else None


@contextmanager
def listening(host: str, port: int | None) -> Iterator[list[socket.socket]]:
    """Listen on the port asked for, or on the first free one, from now on: nobody else can take it
    while a page is being made. Yields a socket for each address of the host.

    Raises:
        InvalidArgument: if no port can be had.
    """
    sockets = _opened(host, port)
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


def port_of(sockets: list[socket.socket]) -> int:
    """Return the port on which sockets listen."""
    return int(sockets[0].getsockname()[1])


def _opened(host: str, port: int | None) -> list[socket.socket]:
    if port is not None and not 1 <= port <= 65535:
        raise InvalidArgument(f"A port lies between 1 and 65535, got {port}.")
    wanted = range(PORT, PORT + TRIED_PORTS) if port is None else [port]
    for number in wanted:
        try:
            return _listening_on(host, number)
        except OSError as error:
            problem = error.strerror or str(error)
    raise InvalidArgument(
        f"Can't listen on {host}, port {wanted[0]}{'' if port else f' to {wanted[-1]}'}: "
        f"{problem}. Choose another with --port or --host."
    )


def _listening_on(host: str, port: int) -> list[socket.socket]:
    """Return a socket that listens for each address of a host.

    Raises:
        OSError: if one is taken, or there is none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    try:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            try:
                sockets.append(socket.create_server(address, family=family, backlog=BACKLOG))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # such as IPv6 where it is switched off
        if not sockets:
            raise missing
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets
