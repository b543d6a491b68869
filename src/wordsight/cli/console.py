"""Run commands: print messages, set the exit code, silence native libraries. Knows no command."""

from __future__ import annotations

import atexit
import contextlib
import difflib
import gc
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from ..errors import NothingGathered, WordsightError
from .printing import fail, say


def run_app(app: typer.Typer) -> None:
    """Run the command line and exit with the documented code: 0, 1, 2 or 130."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # started without one
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    # the last search for cycles would take a tenth of a second; the system frees memory, too
    atexit.register(gc.freeze)
    log = logging.getLogger("wordsight")
    log.setLevel(logging.INFO)
    sayer = _Sayer()
    log.addHandler(sayer)
    with _quiet_native_libraries():
        code = _run(app)
        if code == 130 and not sayer.interrupted:
            say("Interrupted. What was computed is kept: the same command goes on from there.")
    sys.exit(code)


def _run(app: typer.Typer) -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    except WordsightError as error:
        fail(str(error))
        return 1 if isinstance(error, NothingGathered) else 2
    except BrokenPipeError:  # whoever reads our output, such as `head`, has closed it
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(str(error), file=sys.stderr)
            return 2
        if isinstance(error, OSError):  # such as a full disk behind standard output
            fail(f"{error.strerror or error}.")
            return 2
        if hasattr(error, "format_message"):  # click's error for a wrong option or argument
            command = getattr(getattr(error, "ctx", None), "command_path", None) or "wordsight"
            fail(f"{_sentence(error)} See '{command} --help'.")
            return 2
        raise


def _sentence(error: Any) -> str:
    """Return what a wrong option or argument is about, as a sentence."""
    near = getattr(error, "possibilities", None)
    if near and getattr(error, "option_name", None):
        near = difflib.get_close_matches(error.option_name, near, 2)
        told = f" Did you mean {' or '.join(near)}?" if near else ""
        return f"No such option: {error.option_name}.{told}"
    message = error.format_message()
    return message if message.endswith("?") else f"{message.rstrip('.')}."


class _Sayer(logging.Handler):
    """Print the library's log messages, such as that a first use takes longer.

    Attributes:
        interrupted: whether the interrupted work has already logged how to continue.
    """

    interrupted = False

    def emit(self, record: logging.LogRecord) -> None:
        self.interrupted |= getattr(record, "interrupted", False)
        say(record.getMessage())


@contextlib.contextmanager
def _quiet_native_libraries():
    """Silence native libraries on standard error; they report every broken image there."""
    try:
        own = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    before = sys.stderr
    with (
        open(os.devnull, "wb") as nowhere,
        # in the console's own encoding, which lacks most characters on older systems
        open(own, "w", encoding=before.encoding, errors="backslashreplace", buffering=1) as stream,
    ):
        sys.stderr = stream
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            stream.flush()
            os.dup2(own, 2)
            sys.stderr = before


def go_offline(offline: bool) -> None:
    """Forbid network access for this process if `offline` is set."""
    if offline:
        os.environ["WORDSIGHT_OFFLINE"] = "1"


def consent() -> Callable[[str], bool] | None:
    """Return a function that asks the person at the terminal, or None without a terminal."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda question: typer.confirm(question, err=True)
