"""Where wordsight keeps its own files, and whether it may use the network."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from platformdirs import user_cache_path, user_data_path

from ..errors import InvalidArgument, OutputError

log = logging.getLogger("wordsight")
# virus scanners and indexers hold a new file open for a moment, and Windows replaces no open file
RETRIES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
BUILT = (".building-*", ".converting-*", ".*.part")  # hidden names in the cache
AN_HOUR_S = 3600
_scratch: list[Path] = []  # where this process keeps what the cache folder can't take
_told: set[Path] = set()  # cache folders that were said to take nothing


def cache_folder() -> Path:
    """Return the folder of things that can be made again (compiled backbones, embeddings)."""
    home = os.environ.get("WORDSIGHT_HOME")
    return (
        Path(home).expanduser() / "cache" if home else user_cache_path("wordsight", appauthor=False)
    )


def models_folder() -> Path:
    """Return the folder of the models that `run` makes."""
    return _data_folder() / "models"


def images_folder() -> Path:
    """Return the folder of the images that `run` gathers."""
    return _data_folder() / "pictures"


def towers_folder() -> Path:
    """Return the folder of the text–image towers prepared on this machine."""
    return _data_folder() / "towers"


def sorted_folder() -> Path:
    """Return the folder that the page in the browser sorts photos into."""
    return _data_folder() / "sorted"


def sources_folder() -> Path:
    """Return the folder of notes on where models' images lie."""
    return _data_folder() / "sources"


def keywords_folder() -> Path:
    """Return the folder of notes on keywords that were written into sidecars."""
    return _data_folder() / "keywords"


def _data_folder() -> Path:
    home = os.environ.get("WORDSIGHT_HOME")
    return Path(home).expanduser() if home else user_data_path("wordsight", appauthor=False)


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


def spelled(path: Path) -> Path:
    """Return a path as the disk spells it: where there is no such file, one whose name differs only
    in how accents are encoded (é as one sign or as two), as other systems write them.
    """
    if str(path).isascii() or os.path.lexists(path) or path.parent == path:
        return path
    folder = spelled(path.parent)
    try:
        found = _spellings(folder, os.stat(folder).st_mtime_ns)
    except (OSError, ValueError):  # a name that no file can have
        return path
    names = found.get(unicodedata.normalize("NFC", path.name), [])
    return folder / (names[0] if len(names) == 1 else path.name)


@functools.lru_cache(maxsize=64)
def _spellings(folder: Path, changed: int) -> dict[str, list[str]]:
    """Return the names in a folder by their composed form, as it was when last `changed`."""
    names: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        names.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return names


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
            for folder in (
                *(cache_folder(), models_folder(), images_folder()),
                *(sources_folder(), sorted_folder(), keywords_folder()),
                towers_folder(),
            )
        )
        step = (
            "Set WORDSIGHT_HOME to a folder that can be written"
            if ours
            else "Choose another folder with -o"
        )
        raise OutputError(
            f"Can't write to '{path}': {reason}. {step}, or free some space."
        ) from error


def keep(path: Path, write: Callable[[Path], None]) -> Path:
    """Write something to the cache folder or, where that can't be written, to a folder that goes
    with this process; return where it lies.

    Args:
        path: where it belongs in the cache; its name is unlike all others.
        write: writes it to the path it is given.

    Raises:
        OutputError: if it can't be written to the other folder, either.
    """
    try:
        with writing(path):
            write(path)
        return path
    except OutputError as error:
        say_unkept(error.__cause__ or error)
    if not _scratch:
        _scratch.append(Path(tempfile.mkdtemp(prefix="wordsight-")))
        atexit.register(shutil.rmtree, _scratch[0], ignore_errors=True)
    with writing(_scratch[0]):
        write(_scratch[0] / path.name)
    return _scratch[0] / path.name


def sweep(folder: Path) -> None:
    """Remove what killed processes were building in a folder of our cache; what is younger than an
    hour may still be built.
    """
    for kind in BUILT:
        for left in folder.glob(kind):
            with suppress(OSError):
                if left.stat().st_mtime < time.time() - AN_HOUR_S:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()


def places(path: Path) -> list[Path]:
    """Return where `keep` may have written something, the cache folder first."""
    return [path, *(folder / path.name for folder in _scratch)]


def say_unkept(reason: object) -> None:
    """Log once that the cache folder can't be written, and that nothing is kept there."""
    if cache_folder() not in _told:
        _told.add(cache_folder())
        log.warning(
            "Can't write to the cache folder '%s' (%s): nothing is kept there for the next run. "
            "Set WORDSIGHT_HOME to a folder that can be written.",
            cache_folder(),
            getattr(reason, "strerror", None) or reason,
        )


def write_atomic(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file so that readers see either the old content or the complete new one, even after
    a crash.

    Args:
        path: the file; its folder is made if need be.
        data: its content.
        sync: whether it is on the disk before it gets its name. Without, a power cut may leave it
            empty, but thousands of small files are written twenty times as fast; for what one run
            draws and the next one draws again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _atomic(path) as temporary, open(temporary, "xb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def atomic_text(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    """Open a text file for writing; it replaces `path` only when it is complete."""
    with (
        _atomic(path) as temporary,
        open(temporary, "x", newline="", encoding=encoding, errors="surrogateescape") as file,
    ):
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _atomic(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{secrets.token_hex(6)}.part")
    try:
        yield temporary
        replace_file(temporary, path)
    except BaseException:  # Ctrl-C too: no half file stays behind
        temporary.unlink(missing_ok=True)
        raise


def replace_file(source: Path, target: Path) -> None:
    """Rename a file or folder over what was there, if anything; on Windows, wait a second for
    others to close it.

    Raises:
        OSError: if it can't be done.
    """
    for pause in RETRIES_S if sys.platform == "win32" else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk, so that a power cut does not leave it empty."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def first_process() -> bool:
    """Whether this is the first of the processes that train together; True for a single one."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
