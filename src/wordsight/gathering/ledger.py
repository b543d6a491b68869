"""What a gathering has asked, found and decided, in one SQLite file beside the images: so that it
can go on at any moment.

Every step is one transaction, so sudden death leaves either the state before a step or the one
after it.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.records import HIDDEN, PREFIX
from ..core.result_folder import IN_THE_WAY
from ..errors import InvalidArgument
from ..images.fingerprints import Look
from .sources import Candidate, site

FILE = ".wordsight-gather.sqlite"
FORMAT = "1"
LICENSE = "licence not wanted"
WAITING = "waiting"  # the setting that names the hidden folder
_OURS = {"settings", "pages", "candidates"}
_TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pages (
  id INTEGER PRIMARY KEY, label TEXT NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL,
  next TEXT, found INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS candidates (
  id INTEGER PRIMARY KEY, label TEXT NOT NULL, source TEXT NOT NULL, text TEXT NOT NULL,
  url TEXT NOT NULL, site TEXT NOT NULL, offer TEXT NOT NULL,
  state TEXT NOT NULL, reason TEXT, detail TEXT,
  downloaded_sha TEXT, sha TEXT, suffix TEXT, bytes INTEGER, width INTEGER, height INTEGER,
  bits BLOB, thumbnail BLOB, name TEXT, fetched_at TEXT,
  UNIQUE (label, url));
CREATE INDEX IF NOT EXISTS by_state ON candidates (label, state);
CREATE INDEX IF NOT EXISTS by_url ON candidates (url);
"""


@dataclass(frozen=True)
class Fetched:
    """An image that was fetched, measured and found good in itself.

    Attributes:
        downloaded_sha: sha256 of the bytes that came.
        sha: sha256 of the file that is kept.
        suffix: of the file, with dot.
        bytes: size of the file.
        width: pixels.
        height: pixels.
        look: what it looks like.
        at: when it came, ISO 8601 in UTC.
    """

    downloaded_sha: str
    sha: str
    suffix: str
    bytes: int
    width: int
    height: int
    look: Look
    at: str


@dataclass(frozen=True)
class Row:
    """A candidate in the ledger.

    Attributes:
        number: order of arrival; decisions are taken in this order.
        label: class.
        source: name of the source.
        text: the query that found it.
        offer: what the source says of it.
        fetched: its measures, where it is fetched and waits to be decided.
    """

    number: int
    label: str
    source: str
    text: str
    offer: Candidate
    fetched: Fetched | None = None


class Ledger:
    """The state of one output folder.

    Args:
        folder: the output folder.

    Raises:
        InvalidArgument: if the file there is damaged, another version's or somebody else's.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._check()
        try:
            self._database = sqlite3.connect(
                self.path, timeout=30, check_same_thread=False, isolation_level=None
            )
            weakref.finalize(self, self._database.close)  # Python 3.13 warns of files left open
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_TABLES)
            version = self.setting("format") or FORMAT
        except sqlite3.DatabaseError as error:
            raise InvalidArgument(
                f"'{self.path}', which remembers what was gathered, can't be used: {error}. "
                "Choose another folder with -o."
            ) from None
        if version != FORMAT:
            raise InvalidArgument(
                f"'{folder}' was gathered by another version of wordsight. Choose another "
                "folder with -o."
            )
        self.set("format", FORMAT)

    def _check(self) -> None:
        """Refuse a file, or one of those that SQLite would write beside it, that is not ours.

        Raises:
            InvalidArgument: if there is such a file.
        """
        there = os.path.lexists(self.path)
        if not there:
            for beside in ("-journal", "-wal", "-shm"):
                if os.path.lexists(f"{self.path}{beside}"):
                    raise InvalidArgument(IN_THE_WAY.format(path=f"{self.path}{beside}"))
            return
        reason = "it is no file of ours"
        try:
            if not self.path.is_symlink() and set(_tables(self.path)) <= _OURS:
                return
        except (sqlite3.Error, OSError) as error:
            reason = str(error)
        raise InvalidArgument(
            f"'{self.path}', which remembers what was gathered, can't be used: {reason}. "
            "Choose another folder with -o."
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _step(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:  # Ctrl-C too: no half step stays open
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def setting(self, name: str) -> str | None:
        """Return a remembered setting."""
        row = self._database.execute(
            "SELECT value FROM settings WHERE name = ?", (name,)
        ).fetchone()
        return row[0] if row else None

    def set(self, name: str, value: str) -> None:
        """Remember a setting."""
        self._database.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def start_afresh(self) -> None:
        """Forget everything."""
        with self._step():
            for table in ("pages", "candidates"):
                self._database.execute(f"DELETE FROM {table}")
            self._database.execute("DELETE FROM settings WHERE name != ?", (WAITING,))
            self._database.execute("INSERT INTO settings VALUES ('format', ?)", (FORMAT,))

    # Searching

    def cursor(self, label: str, source: str, text: str) -> tuple[bool, str | None]:
        """Return whether a query was begun, and where it goes on (None: at its end, or not
        begun).
        """
        row = self._database.execute(
            "SELECT next FROM pages WHERE label = ? AND source = ? AND text = ? ORDER BY "
            "id DESC LIMIT 1",
            (label, source, text),
        ).fetchone()
        return row is not None, row[0] if row else None

    def page_count(self, label: str, source: str) -> int:
        """Return how many pages a source gave for a class."""
        return self._database.execute(
            "SELECT COUNT(*) FROM pages WHERE label = ? AND source = ?", (label, source)
        ).fetchone()[0]

    def add_page(
        self,
        label: str,
        source: str,
        text: str,
        following: str | None,
        offers: list[tuple[Candidate, bool]],
    ) -> list[Row]:
        """Note a page: its candidates, with whether their licence is wanted. Return those that
        are new and to be fetched.
        """
        rows = []
        with self._step():
            self._database.execute(
                "INSERT INTO pages (label, source, text, next, found) VALUES (?, ?, ?, ?, ?)",
                (label, source, text, following, len(offers)),
            )
            for offer, wanted in offers:
                state, reason, detail = (
                    ("new", None, None) if wanted else ("failed", LICENSE, offer.license)
                )
                elsewhere = self._database.execute(
                    "SELECT label FROM candidates WHERE url = ? AND label != ? AND state = 'kept'",
                    (offer.url, label),
                ).fetchone()
                if wanted and elsewhere:
                    state, reason, detail = (
                        "failed",
                        "duplicate",
                        f"same address as in {elsewhere[0]}",
                    )
                inserted = self._database.execute(
                    "INSERT OR IGNORE INTO candidates (label, source, text, url, site, "
                    "offer, state, reason, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        label,
                        source,
                        text,
                        offer.url,
                        site(offer.url) or offer.url.partition(":")[0],
                        json.dumps(asdict(offer)),
                        state,
                        reason,
                        detail,
                    ),
                )
                if inserted.rowcount and state == "new":
                    rows.append(Row(int(inserted.lastrowid or 0), label, source, text, offer))
        return rows

    def waiting(self, label: str) -> list[Row]:
        """Return the candidates of a class that are not decided yet, in order."""
        found = self._database.execute(
            "SELECT id, source, text, offer, state, downloaded_sha, sha, suffix, bytes, "
            "width, height, bits, thumbnail, fetched_at FROM candidates"
            " WHERE label = ? AND state IN ('new', 'fetched') ORDER BY id",
            (label,),
        )
        return [
            Row(
                number,
                label,
                source,
                text,
                Candidate(**json.loads(offer)),
                _fetched(measures) if state == "fetched" else None,
            )
            for number, source, text, offer, state, *measures in found
        ]

    def waiting_folder(self) -> str:
        """Return the name of the hidden folder that images wait in, which is nobody else's."""
        name = self.setting(WAITING)
        if name is None or not HIDDEN.fullmatch(name):
            name = f"{PREFIX}{secrets.token_hex(6)}"
            self.set(WAITING, name)
        return name

    def waiting_files(self) -> dict[int, str]:
        """Return the numbers of all images that lie in their waiting place, and the sha256 of
        their files.
        """
        return dict(
            self._database.execute("SELECT id, sha FROM candidates WHERE state = 'fetched'")
        )

    # Fetching and deciding

    def fail(self, number: int, reason: str, detail: str) -> None:
        """Note that a candidate is no good, and why."""
        self._database.execute(
            "UPDATE candidates SET state = 'failed', reason = ?, detail = ? WHERE id = ?",
            (reason, detail[:300], number),
        )

    def fetch(self, number: int, fetched: Fetched) -> None:
        """Note that an image lies in its waiting place."""
        f = fetched
        self._database.execute(
            "UPDATE candidates SET state = 'fetched', downloaded_sha = ?, sha = ?, suffix "
            "= ?, bytes = ?, width = ?, height = ?, bits = ?, thumbnail = ?,"
            " fetched_at = ? WHERE id = ?",
            (
                f.downloaded_sha,
                f.sha,
                f.suffix,
                f.bytes,
                f.width,
                f.height,
                f.look.bits,
                f.look.thumbnail,
                f.at,
                number,
            ),
        )

    def keep(self, number: int, name: str) -> None:
        """Note that an image lies in its final place."""
        self._database.execute(
            "UPDATE candidates SET state = 'kept', name = ? WHERE id = ?", (name, number)
        )

    def forget(self, numbers: list[int]) -> None:
        """Note that candidates are not fetched after all."""
        with self._step():
            self._database.executemany(
                "UPDATE candidates SET state = 'new' WHERE id = ?",
                [(number,) for number in numbers],
            )

    def ask_again(self, label: str, texts: list[str]) -> None:
        """Forget that these queries of a class were asked, so that what has come since is found."""
        with self._step():
            self._database.executemany(
                "DELETE FROM pages WHERE label = ? AND text = ?", [(label, text) for text in texts]
            )

    def try_again(self, label: str, reasons: list[str]) -> None:
        """Give the candidates of a class that failed for these reasons another chance."""
        marks = ", ".join("?" * len(reasons))
        self._database.execute(
            "UPDATE candidates SET state = 'new', reason = NULL WHERE label = ? AND state "
            f"= 'failed' AND reason IN ({marks})",
            (label, *reasons),
        )

    # Reports

    def kept(self) -> Iterator[dict]:
        """Yield every kept image in the order of class and name: its columns, and `offer` as
        a `Candidate`.
        """
        columns = (
            "id",
            "label",
            "source",
            "text",
            "name",
            "sha",
            "downloaded_sha",
            "width",
            "height",
            "bits",
            "thumbnail",
            "fetched_at",
            "site",
            "offer",
        )
        for values in self._database.execute(
            f"SELECT {', '.join(columns)} FROM candidates WHERE state = 'kept' ORDER BY label, name"
        ):
            row = dict(zip(columns, values, strict=True))
            row["offer"] = Candidate(**json.loads(row["offer"]))
            yield row

    def name_of(self, number: int) -> str:
        """Return the file name of a kept image."""
        return self._database.execute(
            "SELECT name FROM candidates WHERE id = ?", (number,)
        ).fetchone()[0]

    def counts(self, by: str) -> list[tuple[str, str, str | None, int]]:
        """Return (value of column `by`, state, reason, count) of all candidates."""
        assert by in ("label", "site", "source")
        return self._database.execute(
            f"SELECT {by}, state, reason, COUNT(*) FROM candidates GROUP BY {by}, state, reason"
        ).fetchall()

    def sizes_that_differ(self) -> dict[str, int]:
        """Return class -> how many kept images have another size than their source claims."""
        differing: dict[str, int] = {}
        for label, offer, width, height in self._database.execute(
            "SELECT label, offer, width, height FROM candidates WHERE state = 'kept'"
        ):
            claimed = json.loads(offer)
            if any(
                claimed[name] not in (None, size)
                for name, size in (("width", width), ("height", height))
            ):
                differing[label] = differing.get(label, 0) + 1
        return differing

    def queries(self) -> list[tuple[str, str, str, int, int]]:
        """Return (class, source, text, pages, images offered) of every query, in order."""
        return self._database.execute(
            "SELECT label, source, text, COUNT(*), SUM(found) FROM pages GROUP BY label, "
            "source, text ORDER BY MIN(id)"
        ).fetchall()


def _tables(path: Path) -> list[str]:
    """Return the names of the tables in a database, which is left as it is."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT tbl_name FROM sqlite_master").fetchall()
    return [name for (name,) in found]


def _fetched(columns: list) -> Fetched:
    downloaded_sha, sha, suffix, size, width, height, bits, thumbnail, at = columns
    return Fetched(downloaded_sha, sha, suffix, size, width, height, Look(bits, thumbnail), at)
