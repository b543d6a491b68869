"""Folders on disk and in object stores, read and written alike (only fsspec importer)."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

from ..core.home import expand, is_offline, write_atomic, writing
from ..core.regular import open_regular, read_regular
from ..errors import InvalidArgument, NotFound, OutputError, WordsightError
from ..images.signatures import looks_like_image
from .files import ImageFile, find_images

# where a file that is written appears whole or not at all
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory")
# what sudden death leaves of a file that was being written here
UNFINISHED = re.compile(r"\.[0-9a-f]{12}\.part")


class Place:
    """A folder on disk, or anywhere fsspec reaches: `s3://bucket/photos`, `gs://…`, `memory://…`.

    Attributes:
        address: as given.
        local: the folder on disk, or None.

    Raises:
        InvalidArgument: if no installed library can open such an address.
    """

    def __init__(self, address: str | os.PathLike) -> None:
        self.address = os.fspath(address)
        self.local: Path | None = None
        kind = self.address.partition("://")[0] if "://" in self.address else ""
        if kind in ("", "file", "local"):
            self.local = expand(unquote(urlsplit(self.address).path) if kind else self.address)
            return
        if is_offline() and kind != "memory":
            raise InvalidArgument(f"'{self.address}' lies on the network, which --offline forbids.")
        self._keeps = kind in STORES
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(self.address)
        except Exception as error:
            # a package that is missing, a kind nobody knows, options that are needed: each library
            # has its own
            raise InvalidArgument(f"'{self.address}' can't be reached: {_said(error)}.") from None

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: if it is not there.
            WordsightError: if it can't be read now.
        """
        with self._reaching():
            return (
                read_regular(self.local / name)
                if self.local is not None
                else self._fs.cat_file(self._path(name))
            )

    def open(self, name: str) -> Any:
        """Open a file for reading here and there, so that not all of it is fetched.

        Raises:
            FileNotFoundError: if it is not there.
            WordsightError: if it can't be read now.
        """
        with self._reaching():
            return (
                open_regular(self.local / name)
                if self.local is not None
                else self._fs.open(self._path(name), "rb")
            )

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole or not at all.

        Raises:
            InvalidArgument: if this kind of place can't keep that promise.
            OutputError: if it can't be written.
        """
        if self.local is not None:
            with writing(self.local):
                write_atomic(self.local / name, data)
            return
        if not self._keeps:
            raise InvalidArgument(
                f"Results can't be written to '{self.address}': choose a folder on disk, or one "
                f"of {', '.join(STORES[:-1])}."
            )
        try:
            self._fs.pipe_file(self._path(name), data)
        except Exception as error:  # stores raise what their libraries do
            raise OutputError(f"Can't write to '{self.address}': {_said(error)}.") from error

    def exists(self, name: str) -> bool:
        """Whether a file exists."""
        if self.local is not None:
            return (self.local / name).is_file()
        with self._reaching():
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._path(name)))

    def remove(self, name: str) -> None:
        """Remove a file of ours.

        Raises:
            OutputError: if it can't be removed.
        """
        if self.local is not None:
            with writing(self.local):
                (self.local / name).unlink(missing_ok=True)
            return
        with self._reaching():
            self._fs.rm_file(self._path(name))

    def names(self) -> set[str]:
        """Return the names of the files right below, without what sudden death left unfinished."""
        if self.local is not None:
            found = {path.name for path in self.local.iterdir()} if self.local.is_dir() else set()
        else:
            with self._reaching():
                self._fs.invalidate_cache()
                listed = (
                    self._fs.ls(self._root, detail=False) if self._fs.exists(self._root) else []
                )
            # a "folder" is a file, too
            found = {
                posixpath.basename(path.rstrip("/"))
                for path in listed
                if path.rstrip("/") != self._root.rstrip("/")
            }
        return {name for name in found if not UNFINISHED.fullmatch(name)}

    def images(self, exclude: Path | None = None) -> Iterator[ImageFile]:
        """Yield every image below, in order of name; on disk as `find_pictures`, elsewhere by
        suffix.

        Raises:
            NotFound, InvalidArgument: if there is no such place, or no image.
            WordsightError: if a part of it can't be listed now.
        """
        if self.local is not None:
            yield from find_images([self.local], exclude).images
            return
        some = False
        try:
            with self._reaching():
                for folder, folders, files in self._fs.walk(
                    self._root, detail=True, on_error="raise"
                ):
                    kept = {
                        name: folders[name] for name in sorted(folders) if not name.startswith(".")
                    }
                    folders.clear()
                    folders.update(kept)  # it goes on with these, in this order
                    for name, about in sorted(files.items()):
                        if (
                            name
                            and not name.startswith(".")
                            and looks_like_image(posixpath.splitext(name)[1])
                        ):
                            some = True
                            relative = posixpath.relpath(posixpath.join(folder, name), self._root)
                            file = RemoteFile(self, relative, int(about.get("size") or 0))
                            yield ImageFile(file, relative)  # type: ignore[arg-type]
        except FileNotFoundError:
            raise NotFound(f"No such folder: '{self.address}'.") from None
        if not some:
            raise InvalidArgument(f"No pictures below '{self.address}'. Give a folder of photos.")

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what the libraries of stores raise into one sentence; a file that is not there
        stays what it is.
        """
        try:
            yield
        except (WordsightError, FileNotFoundError):
            raise
        except Exception as error:  # each store's library has errors of its own
            raise WordsightError(
                f"'{self.address}' can't be read: {_said(error)}. Try the same again."
            ) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__


@dataclass(frozen=True)
class RemoteFile:
    """What is asked of an image's path, for one in an object store: nothing is fetched but the
    file itself.
    """

    place: Place
    name: str
    size: int

    def is_file(self) -> bool:
        """It was listed as one."""
        return True

    exists = is_file

    def stat(self) -> Any:
        """Return its size, as listed."""
        return SimpleNamespace(st_size=self.size)

    def read_bytes(self, most: int) -> bytes:
        """Fetch it.

        Raises:
            OSError: if it is not there any more, or was listed with more than `most` bytes.
            WordsightError: if it can't be had now.
        """
        if self.size > most:
            raise OSError(errno.EFBIG, f"larger than {most >> 20} MiB, the most that is read")
        try:
            return self.place.read(self.name)
        except FileNotFoundError:
            raise OSError(0, "the file is gone") from None
