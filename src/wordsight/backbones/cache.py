"""Embeddings on disk, by content of the image and key of the backbone: one SQLite file for all
projects.

Safe with several processes and threads at once and against sudden death (SQLite's write-ahead log);
the oldest entries make room when it grows beyond its limit. Each entry has a hash, so a damaged
one is dropped and computed anew, and so is everything if the file as a whole is damaged. Where it
can't be written, nothing is kept: a cache never fails a run.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
import threading
import weakref
from pathlib import Path

import numpy as np

from ..core.home import cache_folder, say_unkept
from ..errors import OutputError

log = logging.getLogger("wordsight")

MAX_BYTES = 2 << 30
FLUSH_EVERY = 256
HASH_BYTES = 16  # of an entry's hash, at its end


class EmbeddingCache:
    """Embeddings by (sha256 of the file, key of the backbone and dtype).

    Args:
        path: the SQLite file; by default `embeddings.sqlite` in the cache folder.
        max_bytes: size beyond which the oldest entries are dropped.
    """

    def __init__(self, path: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.path = path or cache_folder() / "embeddings.sqlite"
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._pending: dict[tuple[bytes, str], bytes] = {}
        self._database: sqlite3.Connection | None = None
        self._said = False
        try:
            self._database = self._open()
        except (sqlite3.Error, OSError) as error:
            self._start_afresh(error)

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self.path, timeout=30, check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, database.close)  # Python 3.13 warns of files left open
        try:
            database.execute("PRAGMA journal_mode=WAL")
            # after a power cut the newest entries may be gone, never wrong
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("DROP TABLE IF EXISTS embeddings")  # of 0.1.0, without hashes
            database.execute(
                "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, key TEXT NOT "
                "NULL, sha BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (key, sha))"
            )
        except sqlite3.Error:
            database.close()  # at once: the file may be replaced next
            raise
        return database

    def _start_afresh(self, error: Exception) -> None:
        """Replace a damaged file by an empty one: it is only a cache. One that is locked or
        read-only is left alone.
        """
        if isinstance(error, sqlite3.OperationalError) or not isinstance(
            error, sqlite3.DatabaseError
        ):
            say_unkept(error)
            return
        log.warning("The cache '%s' is damaged (%s), so it starts afresh.", self.path, error)
        if self._database is not None:
            self._database.close()
            self._database = None
        try:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._database = self._open()
        except (sqlite3.Error, OSError) as again:
            say_unkept(again)

    def get(self, sha: bytes, key: str) -> np.ndarray | None:
        """Return the embedding (C,) float32, or None."""
        value = self.get_bytes(sha, key)
        return None if value is None else np.frombuffer(value, dtype="<f4")

    def put(self, sha: bytes, key: str, embedding: np.ndarray) -> None:
        """Keep an embedding; it reaches the disk within 256 entries, or at `flush`."""
        self.put_bytes(sha, key, embedding.astype("<f4").tobytes())

    def get_bytes(self, sha: bytes, key: str) -> bytes | None:
        """Return whatever else is kept of an image, or None."""
        with self._lock:
            value = self._pending.get((sha, key))
            if value is None and self._database is not None:
                try:
                    row = self._database.execute(
                        "SELECT value FROM entries WHERE key = ? AND sha = ?", (key, sha)
                    ).fetchone()
                    value = None if row is None else self._checked(sha, key, row[0])
                except sqlite3.Error as error:
                    self._start_afresh(error)
        return value

    def _checked(self, sha: bytes, key: str, row: object) -> bytes | None:
        """Return what an entry holds, or None if it is damaged; it is replaced when it has been
        computed anew.
        """
        if isinstance(row, bytes):
            value = row[:-HASH_BYTES]
            if row == value + _hash(sha, key, value):
                return value
        if not self._said:
            self._said = True
            log.warning("The cache '%s' has damaged entries, which are made anew.", self.path)
        return None

    def put_bytes(self, sha: bytes, key: str, value: bytes) -> None:
        """Keep something else of an image, as `put`."""
        with self._lock:
            self._pending[sha, key] = value
            if len(self._pending) >= FLUSH_EVERY:
                self._flush()

    def flush(self) -> None:
        """Write what is pending, and drop the oldest entries if the file is too large."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        rows = [
            (key, sha, value + _hash(sha, key, value))
            for (sha, key), value in self._pending.items()
        ]
        self._pending.clear()
        if self._database is None or not rows:
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(
                    "INSERT OR REPLACE INTO entries (key, sha, value) VALUES (?, ?, ?)", rows
                )
                while self._used_bytes() > self.max_bytes and len(self) > 0:
                    self._database.execute(
                        "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER "
                        "BY id LIMIT 512)"
                    )
                self._database.execute("COMMIT")
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            self._start_afresh(error)

    def _used_bytes(self) -> int:
        assert self._database is not None
        pages, free, size = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def __len__(self) -> int:
        if self._database is None:
            return 0
        try:
            return self._database.execute("SELECT COUNT(*) FROM entries").fetchone()[0]
        except sqlite3.Error as error:
            self._start_afresh(error)
            return 0

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.flush()
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def clear(self) -> int:
        """Delete every entry and give the space back; return how many there were."""
        with self._lock:
            self._pending.clear()
            if self._database is None:
                return 0
            count = len(self)
            try:
                self._database.execute("DELETE FROM entries")
                self._database.execute("VACUUM")
            except sqlite3.OperationalError as error:
                raise OutputError(
                    f"Can't clear '{self.path}': {error}. Try again when no other run uses it."
                ) from None
            except sqlite3.DatabaseError as error:
                self._start_afresh(error)
            return count


def _hash(sha: bytes, key: str, value: bytes) -> bytes:
    """Return the hash of an entry, which says that it is whole and belongs where it was found."""
    return hashlib.sha256(b"|".join((sha, key.encode(), value))).digest()[:HASH_BYTES]
