"""The rule for every folder that is written: whole or not at all, one run at a time, never over
what is not ours.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InvalidArgument
from .home import write_atomic, writing
from .names import portable
from .regular import read_text

MAX_MARKER = 1 << 26  # bytes
PREFIX = ".wordsight-"  # every marker's name begins so
LOCK = f"{PREFIX}lock"  # there while a run writes, and after one that was killed
IS_FILE = "'{folder}' is a file; results need a folder. Choose another with -o."
NOT_OURS = "'{path}' was there before and is no result of wordsight. Choose another folder with -o."
OTHER_FILES = "'{folder}' holds other files ('{name}'). Choose a new folder with -o."


class ResultFolder:
    """A folder to write results into, which may hold files of other people, too.

    What is ours is decided by `is_ours`, and nowhere else: by the marker, or by `judge`.

    Args:
        path: the folder; it need not exist.
        marker: name of the file in it that shows what is ours: it lists names, one a line. A marker
            that lists none makes every name ours.
        judge: whether a path in the folder is ours; for results that are known by their content.
        is_file: sentence for a path that is a file, with {folder}.
        not_ours: sentence for what is not ours, with {folder}, {path} and {name}.
    """

    def __init__(
        self,
        path: Path,
        marker: str = "",
        *,
        judge: Callable[[Path], bool] | None = None,
        is_file: str = IS_FILE,
        not_ours: str = NOT_OURS,
    ) -> None:
        self.path, self._marker = path, marker
        self._judge, self._is_file, self._not_ours = judge, is_file, not_ours

    def claim(self, names: Iterable[str] | None = None) -> None:
        """Refuse to write what is not ours.

        Args:
            names: what is to be written there; None: the folder becomes ours as a whole.

        Raises:
            InvalidArgument: if the path is a file, or one of the names is there and is not ours.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidArgument(self._is_file.format(folder=self.path))
        for name in self.names() if names is None else names:
            if os.path.lexists(self.path / name) and not self.is_ours(name):
                raise InvalidArgument(
                    self._not_ours.format(folder=self.path, path=self.path / name, name=name)
                )

    def names(self) -> list[str]:
        """Return what lies there in order, but for our lock."""
        return sorted(set(os.listdir(self.path)) - {LOCK}) if self.path.is_dir() else []

    def is_ours(self, name: str) -> bool:
        """Whether a file or folder there, by its path relative to the folder, is our own work."""
        if self._judge is not None:
            return self._judge(self.path / name)
        return self.listed is not None and (
            not self.listed or name.partition("/")[0] in self.listed
        )

    @functools.cached_property
    def listed(self) -> set[str] | None:
        """The names that the marker lists, as it was when first asked; None without a marker."""
        return listed_in(self.path / self._marker) if self._marker else None

    def mark(self, names: Iterable[str] = ()) -> None:
        """Write the marker, which makes these names ours; without names, every name."""
        lines = "".join(f"{name}\n" for name in sorted(names))
        write_atomic(self.path / self._marker, lines.encode())
        self.__dict__.pop("listed", None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder if need be, and hold it for this run.

        Raises:
            InvalidArgument: if another run holds it.
            OutputError: if it can't be made.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with hold(self.path):
            yield

    def replace(self, files: Mapping[str, bytes], names: Iterable[str]) -> None:
        """Write files in the order of `names`, each whole or not at all, and remove those of an
        earlier run that `files` lacks.
        """
        for name in names:
            if name in files:
                write_atomic(self.path / name, files[name])
            else:
                self.remove([name])

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that are ours, by their paths relative to the folder; no link or `..` leads
        out of it.
        """
        root = self.path.resolve()
        for name in names:
            path = self.path / name
            if (
                safe_name(name) == name
                and self.is_ours(name)
                and path.parent.resolve().is_relative_to(root)
                and not path.is_dir()
            ):
                path.unlink(missing_ok=True)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, so that two runs do not write into one another. The lock
    ends with the process, however that ends.

    Where no lock can be had (a read-only disk, a file system without locks), none is taken.

    Raises:
        InvalidArgument: if another run holds it.
    """
    from filelock import FileLock, Timeout

    # a run may end in another thread than it began in
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise InvalidArgument(
            f"Another run is writing to '{folder}'. Wait for it, or choose another folder with -o."
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows: it removes the file itself
                (folder / LOCK).unlink()
            lock.release()


@contextmanager
def building(target: Path, name: str | None = None) -> Iterator[Path]:
    """Make an empty hidden folder beside `target` to build in; what is left in it at the end is
    removed.

    Args:
        target: what is built. The folder of it is made if need be.
        name: of the hidden folder, where only one run builds at a time: what a killed run left is
            removed. Without a name it gets one of its own.

    Raises:
        OutputError: if it can't be made.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if name is None:
            hidden = Path(tempfile.mkdtemp(dir=target.parent, prefix=".building-"))
        else:
            hidden = target.with_name(name)
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def swap(built: Path, target: Path) -> None:
    """Put a finished folder in place of what was there. For a moment neither is there, but never
    half of one.
    """
    if not target.exists():
        os.rename(built, target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=".replaced-"))
    os.rename(target, old / "old")
    try:
        os.rename(built, target)
    except OSError:
        os.rename(old / "old", target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def listed_in(marker: Path) -> set[str] | None:
    """Return the names that a marker lists, or None where there is no marker that can be read."""
    try:
        return set(read_text(marker, most=MAX_MARKER).split("\n")) - {""}
    except (OSError, ValueError):
        return None


def drawn_names(folder: Path, names: Iterable[str]) -> set[str]:
    """Return which entries of a folder our runs drew there, by the markers among `names`."""
    markers = (folder / name for name in names if name.startswith(PREFIX))
    return set().union(*(listed_in(marker) or () for marker in markers))


def refuse_other_files(folder: object, names: Iterable[str]) -> None:
    """Refuse a folder, here or at an address, that holds files that are not ours.

    Raises:
        InvalidArgument: if there is such a file.
    """
    for name in sorted(names):
        raise InvalidArgument(OTHER_FILES.format(folder=folder, name=name))


def safe_name(name: str) -> str:
    """Return a relative path below which nothing can climb out, and that every system can write."""
    return "/".join(portable(part) for part in name.split("/") if part not in ("", ".", ".."))
