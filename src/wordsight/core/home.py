"""Where wordsight keeps its own files, and whether it may use the network."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from platformdirs import user_cache_path, user_data_path

from ..errors import InvalidArgument, OutputError


def cache_folder() -> Path:
    """Return the folder of things that can be made again (compiled backbones, embeddings)."""
    home = os.environ.get("WORDSIGHT_HOME")
    return (
        Path(home).expanduser() / "cache" if home else user_cache_path("wordsight", appauthor=False)
    )


def models_folder() -> Path:
    """Return the folder of the models that `run` makes."""
    home = os.environ.get("WORDSIGHT_HOME")
    return (
        Path(home).expanduser() / "models"
        if home
        else user_data_path("wordsight", appauthor=False) / "models"
    )


def images_folder() -> Path:
    """Return the folder of the images that `run` gathers."""
    home = os.environ.get("WORDSIGHT_HOME")
    return (
        Path(home).expanduser() / "pictures"
        if home
        else user_data_path("wordsight", appauthor=False) / "pictures"
    )


def expand(path: str | os.PathLike) -> Path:
    """Return a path with `~` expanded.

    Raises:
        InvalidArgument: if the user is unknown, or the path is impossible.
    """
    if "://" in str(path):
        raise InvalidArgument(
            f"'{str(path)[:80]}' is an address; here a folder or file on disk is needed. --ray "
            "reaches addresses."
        )
    try:
        expanded = Path(path).expanduser()
        expanded.exists()
    except (RuntimeError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InvalidArgument(
            f"'{str(path)[:80]}' can't be a path here: {reason}. Give another."
        ) from None
    return expanded


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False for impossible names."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False for impossible names."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_offline() -> bool:
    """Whether network access is forbidden (`--offline` or `WORDSIGHT_OFFLINE=1`)."""
    return os.environ.get("WORDSIGHT_OFFLINE", "").lower() not in ("", "0", "false", "no")


@contextmanager
def writing(path: Path):
    """Turn any failure to write below `path` into one clear `OutputError`."""
    try:
        yield
    except Exception as error:
        # safetensors wraps the system's error in its own class, which is not worth importing
        wrapped = (
            re.search(r"I/O error: (.*?) \(os error", str(error))
            if type(error).__name__ == "SafetensorError"
            else None
        )
        if isinstance(error, OutputError) or not (isinstance(error, OSError) or wrapped):
            raise
        reason = (
            wrapped[1]
            if wrapped
            else getattr(error, "strerror", None) or str(error) or type(error).__name__
        )
        ours = any(
            path.is_relative_to(folder)
            for folder in (cache_folder(), models_folder(), images_folder())
        )
        step = (
            "Set WORDSIGHT_HOME to a folder that can be written"
            if ours
            else "Choose another folder with -o"
        )
        raise OutputError(
            f"Can't write to '{path}': {reason}. {step}, or free some space."
        ) from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that readers see either the old content or the complete new one, even after
    a crash.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _atomic(path) as temporary, open(temporary, "xb") as file:
        file.write(data)


@contextmanager
def atomic_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing; it replaces `path` only when it is complete."""
    with (
        _atomic(path) as temporary,
        open(temporary, "x", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        yield file


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: no half file stays behind
        temporary.unlink(missing_ok=True)
        raise


def first_process() -> bool:
    """Whether this is the first of the processes that train together; True for a single one."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
