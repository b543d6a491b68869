"""The pictures of tasks: where each may be read from, and what it is known by afterwards."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, unquote

import httpx
import numpy as np

from ..backbones.embedder import Embedder, EncodedImage
from ..core.home import expand, spelled
from ..core.names import is_relative, on_foreign_share
from ..core.regular import read_regular
from ..errors import InvalidArgument, NotFound, SourceUnavailable, UnreadableImage
from ..images.taken import taken_at, time_of
from .studio import Studio

MAX_PICTURE = 64 << 20  # bytes
MAX_ADDRESS = 4096  # characters
LOCAL = "/data/local-files/"
FETCHED = "fetched from Label Studio"  # what the cache files an address's sha256 under
TAKEN = "taken"  # and when the camera took it
IN_A_CLOUD = ("s3:", "gs:", "azure-blob:", "azure:", "r2:", "hdfs:", "redis:")


@dataclass(frozen=True)
class Places:
    """Where pictures may come from, beside Label Studio itself.

    Attributes:
        local: folder that Label Studio serves files of this machine from, or None.
        hosts: further servers that may be asked, "name" or "name:port".
    """

    local: Path | None = None
    hosts: frozenset[str] = frozenset()

    @property
    def none(self) -> bool:
        """Whether pictures come from Label Studio alone."""
        return self.local is None and not self.hosts

    @classmethod
    def of(cls, local: Path | None, hosts: Iterable[str]) -> Places:
        """Return the places for what a person gave.

        Raises:
            NotFound, InvalidArgument: if the folder is none, or a host is no name.
        """
        folder = None if local is None else expand(local)
        if folder is not None and not folder.is_dir():
            raise NotFound(
                f"No such folder: '{local}'. --local-files takes Label Studio's "
                "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."
            )
        names = [host.strip().casefold() for host in hosts]
        for name in names:
            if not name or any(sign in name for sign in "/@?# "):
                raise InvalidArgument(
                    f"--allow-host takes the name of a server, such as images.example.org; got "
                    f"'{name}'."
                )
        return cls(None if folder is None else folder.resolve(), frozenset(names))


class Picture:
    """One task's picture. It is fetched and decoded only where its embedding isn't known, or more
    of it is needed. One thread uses it.

    Attributes:
        address: what the task calls it.
    """

    def __init__(self, pictures: Pictures, address: str) -> None:
        self.address, self._pictures = address, pictures

    @functools.cached_property
    def encoded(self) -> EncodedImage:
        """The picture itself; raises as `Pictures.open` does."""
        return self._pictures.open(self.address)

    @functools.cached_property
    def embedding(self) -> np.ndarray:
        """(C,) float32.

        Raises:
            SourceUnavailable, UnreadableImage: see `Pictures.open`.
        """
        known = self._pictures.known(self.address)
        return self.encoded.embedding if known is None else known

    @property
    def taken(self) -> datetime | None:
        """When the camera took it; None where that is not known. Ask for its embedding first."""
        return self._pictures.taken(self.address)

    @property
    def folder(self) -> str:
        """What its address says of where it lies."""
        return unquote(self.address).rpartition("/")[0]


class Pictures:
    """Reads tasks' pictures, and notes in the cache which embedding belongs to which address, so
    that nothing is fetched again to learn from it. Safe from many threads.

    Args:
        studio: what serves most of them.
        places: where else they may come from.
        embedder: what encodes them.

    Attributes:
        places: where else they may come from.
    """

    def __init__(self, studio: Studio, places: Places, embedder: Embedder) -> None:
        self._studio, self.places, self._embedder = studio, places, embedder

    def of(self, task: dict, key: str) -> Picture:
        """Return a task's picture, which its data names under a key.

        Raises:
            UnreadableImage: if it names none.
        """
        data = task.get("data")
        address = data.get(key) if isinstance(data, dict) else None
        if not isinstance(address, str) or not address.strip():
            raise UnreadableImage(f"it names no picture under '{key}'")
        return Picture(self, address.strip())

    def open(self, address: str) -> EncodedImage:
        """Return the picture at an address.

        Raises:
            SourceUnavailable: if it can't be had, now or from where it is.
            UnreadableImage: if it is not to be read at all.
        """
        path = self._local(address)
        data = self._fetched(address) if path is None else _read(path)
        sha = hashlib.sha256(data).digest()
        if path is None:
            self._embedder.cache.put_bytes(self._key(address), FETCHED, sha)
            time = time_of(data)
            told = b"" if time is None else time.isoformat().encode()
            self._embedder.cache.put_bytes(self._key(address), TAKEN, told)
        return EncodedImage(self._embedder, data, sha, True)

    def known(self, address: str) -> np.ndarray | None:
        """Return the embedding (C,) of a picture that was fetched before, or None. Files of this
        machine are read anew.
        """
        if self._local(address) is not None:
            return None
        sha = self._embedder.cache.get_bytes(self._key(address), FETCHED)
        return None if sha is None else self._embedder.kept(sha)

    def taken(self, address: str) -> datetime | None:
        """Return when the camera took a picture that was opened before, or None."""
        path = self._local(address)
        if path is not None:
            return taken_at(path)
        told = self._embedder.cache.get_bytes(self._key(address), TAKEN)
        return datetime.fromisoformat(told.decode()) if told else None

    def _key(self, address: str) -> bytes:
        """Return what an address of this Label Studio is known by."""
        return hashlib.sha256(f"{self._studio.url} {address}".encode()).digest()

    def _local(self, address: str) -> Path | None:
        """Return the file on this machine that an address stands for, or None where it has to be
        fetched.
        """
        root = self.places.local
        if root is None or not address.startswith(LOCAL):
            return None
        named = parse_qs(httpx.URL(address).query.decode("latin-1")).get("d", [""])[0]
        if not named or "\0" in named or not is_relative(named.lstrip("/")):
            return None
        path = spelled(root / named.lstrip("/"))
        try:
            inside = not on_foreign_share(path, [root]) and path.resolve().is_relative_to(root)
            return path if inside and path.is_file() else None
        except (OSError, ValueError):  # a name that can't be one
            return None

    def _fetched(self, address: str) -> bytes:
        scheme = address.partition("://")[0].casefold() if "://" in address else ""
        if len(address) > MAX_ADDRESS:
            raise UnreadableImage("its address is too long")
        if f"{scheme}:" in IN_A_CLOUD:
            raise SourceUnavailable(
                f"it lies in a cloud storage ({scheme}://), which wordsight does not read; import "
                "the pictures into Label Studio, or serve them by --local-files"
            )
        if scheme == "":
            return self._from_studio(address)
        if scheme not in ("http", "https"):
            raise UnreadableImage(f"its address begins with {scheme}://, which is not read")
        try:
            url = httpx.URL(address)
        except (httpx.InvalidURL, ValueError):
            raise UnreadableImage("its address can't be read") from None
        if self._studio.owns(url):
            return self._studio.get(url, MAX_PICTURE)
        host = url.host.casefold()
        if not {host, f"{host}:{url.port or ''}"} & self.places.hosts:
            raise SourceUnavailable(
                f"it lies on {url.host}, which is not Label Studio's own server; add --allow-host "
                f"{url.host} to read from there"
            )
        status, data = self._studio.fetch(url, MAX_PICTURE, {})
        if status != 200:
            raise SourceUnavailable(f"{url.host} answered {status}")
        return data

    def _from_studio(self, address: str) -> bytes:
        """Return a picture that is named by a path on Label Studio's own server."""
        path = address if address.startswith("/") else f"/{address}"
        below = "" if self._studio.url is None else self._studio.url.path.rstrip("/")
        plain = path.removeprefix(below)
        if not plain.startswith(("/data/", "/tasks/", "/static/")) or ".." in unquote(
            plain
        ).replace("\\", "/").split("/"):
            raise UnreadableImage(
                f"'{address[:80]}' is neither a whole address nor a path that Label Studio serves "
                "(/data/upload/…, /data/local-files/?d=…)"
            )
        return self._studio.get(self._studio.address(path), MAX_PICTURE)


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_PICTURE)
    except OSError as error:
        raise UnreadableImage(error.strerror or type(error).__name__) from None
