"""Serve the page in the browser, at an address and behind a token, with a temporary folder for
uploads.
"""

from __future__ import annotations

import asyncio
import importlib.util
import ipaddress
import logging
import os
import secrets
import shutil
import tempfile
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
CONNECTIONS = 500  # at once; systems often allow a process a thousand files
HEAD_S = 15  # in which a request's head has to arrive
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
    chosen = _free_port(host, port)
    token = None if _is_loopback(host) else _token()
    with uploads_folder() as uploads:
        serving = guarded(model, data, uploads, _names(host), token)
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{chosen}/" + (
            f"?token={quote(token, safe='')}" if token else ""
        )
        (say or log.info)(f"Open {address} in your browser. Ctrl-C ends it.")
        try:
            _serve(serving, host, chosen)
        except KeyboardInterrupt:  # which is how it is ended
            (say or log.info)("Closed.")


def _token() -> str:
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


def _serve(serving: Any, host: str, port: int) -> None:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Closes connections on which no request arrives, and those beyond a number: they would
        keep others out.
        """

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                transport.abort()
            else:
                self.loop.call_later(HEAD_S, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.abort()

    logging.getLogger("uvicorn.error").addFilter(_unless_cancelled)
    quiet = {"log_level": "warning", "access_log": False, "server_header": False}
    settings = uvicorn.Config(
        serving,
        host,
        port,
        http=Impatient,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=1,
        **quiet,  # type: ignore[arg-type]
    )
    with blas_resting():
        uvicorn.Server(settings).run()


def _unless_cancelled(record: logging.LogRecord) -> bool:
    """Whether a log record reports more than visitors who had the page open at the end."""
    cancelled = bool(record.exc_info) and isinstance(record.exc_info[1], asyncio.CancelledError)  # type: ignore[index]
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str) -> set[str] | None:
    """Return the names that the page may be called by: those of this machine, or any behind a
    token.
    """
    return LOOPBACK | {host} if _is_loopback(host) else None


def _free_port(host: str, port: int | None) -> int:
    """Return the port asked for, or the first free one.

    Raises:
        InvalidArgument: if none can be had.
    """
    if port is not None and not 1 <= port <= 65535:
        raise InvalidArgument(f"A port lies between 1 and 65535, got {port}.")
    wanted = range(PORT, PORT + TRIED_PORTS) if port is None else [port]
    for number in wanted:
        try:
            asyncio.run(_try_port(host, number))
        except OSError as error:
            problem = error.strerror or str(error)
            continue
        return number
    raise InvalidArgument(
        f"Can't listen on {host}, port {wanted[0]}{'' if port else f' to {wanted[-1]}'}: "
        f"{problem}. Choose another with --port or --host."
    )


async def _try_port(host: str, port: int) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), host, port)
    server.close()
    await server.wait_closed()
