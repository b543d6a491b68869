"""Put files into a folder step by step, so that a kill at any moment loses nothing and everything
can be taken back.

The journal, `.wordsight-sort`, is a record as in `core.records`: a line for each file with its
digest, written before the file gets there, and with the place it came from. A file is ours if its
content is what the journal says.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.home import replace_file, sources_folder, sync_file, write_atomic, writing
from ...core.names import lies_inside, safe_name
from ...core.progress import Progress
from ...core.records import HEAD, LOCK, PREFIX, digest, read_lines, unfinished_builds
from ...core.result_folder import IN_THE_WAY, hold
from ...core.summary import Problems, Table
from ...errors import InvalidArgument

JOURNAL = f"{PREFIX}sort"
KEY = re.compile("[0-9a-f]{32}")
KEYS = ("name", "from", "sha256", "of")  # of a line on a file
SORT = "sort"  # what the lines say wrote a file
COPY, LINK, MOVE = WAYS = ("copy", "link", "move")
OTHER_WAY = (
    "'{folder}' was sorted with --{before}, and now --{now} is asked for. Take the first back "
    "('wordsight sort --undo -o {folder}'), or choose another folder with -o."
)

MEANWHILE = "Another run has sorted into '{folder}' meanwhile. Run the same command again."


@dataclass
class Entry:
    """A file that the journal lists.

    Attributes:
        name: where it was put, relative to the folder.
        source: where it came from.
        photo: the photo's name in its results; "" for a file that came along with a photo.
        digests: of what was put there.
        made: whether it was written there, and came from nowhere.
    """

    name: str
    source: Path
    photo: str
    digests: set[str] = field(default_factory=set)
    made: bool = False


class Journal:
    """A folder that files are sorted into, and the journal in it.

    Args:
        folder: the folder; it need not exist.

    Raises:
        InvalidArgument: if the folder is a file, or a file of somebody else's is where the journal
            belongs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / JOURNAL
        if folder.exists() and not folder.is_dir():
            raise InvalidArgument(
                f"'{folder}' is a file; photos are sorted into a folder. Choose another with -o."
            )
        self._lines = lines = read_lines(self._path)
        if lines is None and os.path.lexists(self._path):
            raise InvalidArgument(IN_THE_WAY.format(path=self._path))
        self.there = lines is not None
        self.way: str | None = None  # how files were put there
        self.entries: dict[str, Entry] = {}
        self._made: list[str] = []  # folders that we made, relative to the folder
        self._key: str | None = None  # by which this machine knows a journal of its own
        self._above = 0  # how many folders from this one upwards we made
        for line in lines or ():
            self._take(line)

    def _take(self, line: dict) -> None:
        """Take one line that was read; those of another kind are passed over."""
        name, source, told, photo = (
            one if isinstance(one := line.get(key), str) else "" for key in KEYS
        )
        if name and source and told and safe_name(name) == name:
            entry = Entry(name, Path(source), photo, made=line.get("made") is True)
            self.entries.setdefault(name, entry).digests.add(told)
        elif isinstance(line.get("folder"), str) and safe_name(line["folder"]) == line["folder"]:
            self._made.append(line["folder"])
        elif line.get("how") in WAYS:
            self.way = line["how"]
            key = line.get("key")
            self._key = key if isinstance(key, str) and KEY.fullmatch(key) else None
            above = line.get("above")
            self._above = above if isinstance(above, int) else 0

    def holds(self, name: str) -> bool:
        """Whether a name lies in the folder after all links are followed."""
        return lies_inside((self.folder / name).parent, self.folder)

    def is_ours(self, name: str) -> bool:
        """Whether a file there is as we put it."""
        entry = self.entries.get(name)
        return (
            entry is not None and self.holds(name) and digest(self.folder / name) in entry.digests
        )

    def check(self, way: str) -> None:
        """Refuse to put files there in another way than before.

        Raises:
            InvalidArgument: if that is asked for.
        """
        if self.way not in (None, way):
            raise InvalidArgument(OTHER_WAY.format(folder=self.folder, before=self.way, now=way))
        self._refuse_foreign()

    def _refuse_foreign(self) -> None:
        """Refuse a journal of moves that was not written here: it says where files are moved to,
        so a stranger's could put any file anywhere.

        Raises:
            InvalidArgument: if it is one.
        """
        if self.way == MOVE and not (self._key and _known(self._key).is_file()):
            raise InvalidArgument(
                f"'{self.folder}' was not sorted by this user on this machine, so nothing is moved "
                f"back from there. '{self._path}' says where each file came from."
            )

    def _begin(self, way: str, above: int) -> dict[str, Any]:
        """Return the first line of a new journal; this machine knows it from then on."""
        key = secrets.token_hex(16)
        if way == MOVE:
            with writing(_known(key)):
                write_atomic(_known(key), b"")
        return {"how": way, "above": above, "key": key}

    @contextmanager
    def open(self, way: str) -> Iterator[Path]:
        """Hold the folder, made if need be, and yield where a file is built before it is named.

        Raises:
            InvalidArgument: if another run holds it, or files were put there in another way.
            OutputError: if it can't be written.
        """
        self.check(way)
        with writing(self.folder):
            if not self.folder.exists():
                self._make(way)
        with self._held():
            if self.way is None:
                self.note([self._begin(way, 0)])
            self._tidy()
            temporary = f"{PREFIX}{secrets.token_hex(6)}"
            self.note([{"building": temporary}])
            try:
                yield self.folder / temporary
            finally:
                (self.folder / temporary).unlink(missing_ok=True)

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the folder, whose journal must be as it was read: it says what is undone, and how.

        Raises:
            InvalidArgument: if another run holds it, or has written to the journal meanwhile.
            OutputError: if something there can't be written.
        """
        with hold(self.folder), writing(self.folder):
            if read_lines(self._path) != self._lines:
                raise InvalidArgument(MEANWHILE.format(folder=self.folder))
            yield

    def _make(self, way: str) -> None:
        """Make the folder with its journal in it, so that it is known from the first moment on
        which folders are ours.
        """
        top = _missing(self.folder)[-1]
        built = _half(top)
        forget_unmade(self.folder)
        inside = built / self.folder.relative_to(top)
        inside.mkdir(parents=True)
        begin = self._begin(way, len(_missing(self.folder)))
        lines = f"{json.dumps(HEAD)}\n{json.dumps(begin)}\n"
        (inside / JOURNAL).write_text(lines, encoding="utf-8")
        os.rename(built, top)
        self._lines = [begin]
        self._take(begin)

    def _tidy(self) -> None:
        """Remove the half files that killed runs left."""
        for left in unfinished_builds(self._path):
            with suppress(OSError):
                (self.folder / left).unlink(missing_ok=True)

    def note(self, lines: list[dict], sync: bool = False) -> None:
        """Add lines to the journal; a kill may cut them short, so they begin on a new one."""
        with open(self._path, "ab") as file:
            begin = json.dumps(HEAD) if file.tell() == 0 else ""
            text = "".join(json.dumps(line) + "\n" for line in lines)
            file.write(f"{begin}\n{text}".encode())
            if sync:
                file.flush()
                os.fsync(file.fileno())
        for line in lines:
            self._take(line)

    def make_folder(self, name: str) -> None:
        """Make a folder there, and note that we did; what is there already stays whose it is."""
        for part in [*reversed(Path(name).parents), Path(name)]:
            path = self.folder / part
            if part != Path() and not path.is_dir():
                self.note([{"folder": part.as_posix()}])
                path.mkdir()

    def take_back(self, progress: Progress | None = None) -> TakenBack:
        """Take everything back that is as we put it: copies and links go, and what was moved
        returns to its place.

        Args:
            progress: called with (done, total, "files").

        Raises:
            InvalidArgument: if another run holds the folder, or the journal is a stranger's.
            OutputError: if the journal can't be written.
        """
        self._refuse_foreign()
        done = TakenBack(self.folder)
        with self._held():
            self._tidy()
            for count, entry in enumerate(reversed(list(self.entries.values())), start=1):
                moved = self.way == MOVE and not entry.made
                try:
                    why = self._return(entry, done) if moved else self._drop(entry, done)
                except OSError as error:  # one folder that is read-only stops no other
                    why = error.strerror or str(error)
                if why:
                    done.kept.append((entry.name, why))
                if progress:
                    progress(count, len(self.entries), "files")
            for name in sorted(self._made, reverse=True):
                with suppress(OSError):  # it holds something
                    (self.folder / name).rmdir()
            self._forget([name for name, _ in done.kept])
        self.remove_if_empty()
        return done

    def remove_if_empty(self) -> None:
        """Remove the folder, and those above that we made, where nothing is in them."""
        with suppress(OSError):
            for path in [self.folder, *self.folder.parents][: self._above]:
                path.rmdir()

    def _drop(self, entry: Entry, done: TakenBack) -> str | None:
        """Remove a copy or link that is as we made it; return why it is kept, or None."""
        path = self.folder / entry.name
        if not os.path.lexists(path):
            return None  # somebody removed it, or it never got there
        if not self.is_ours(entry.name):
            return "changed since"
        path.unlink()
        done.removed.append(entry.name)
        return None

    def _return(self, entry: Entry, done: TakenBack) -> str | None:
        """Move a file back to where it came from; return why it is kept, or None."""
        path = self.folder / entry.name
        back = os.path.lexists(entry.source)
        _half(path).unlink(missing_ok=True)
        if not os.path.lexists(path):
            return None if back else "neither here nor where it came from"
        if not self.is_ours(entry.name):
            return "changed since"
        if not back:
            entry.source.parent.mkdir(parents=True, exist_ok=True)
            rename(path, entry.source)
        elif digest(entry.source) in entry.digests:  # a kill between copying and removing
            path.unlink()
        else:
            return f"another file is at '{entry.source}' now"
        done.put_back.append(entry.name)
        return None

    def _forget(self, kept: list[str]) -> None:
        """Leave in the journal what is kept; an empty journal goes."""
        if not kept:
            self._path.unlink(missing_ok=True)
            if self._key:
                _known(self._key).unlink(missing_ok=True)
            return
        begin = {"how": self.way, "above": self._above, "key": self._key}
        lines: list[dict] = [HEAD, begin]
        lines += [{"folder": name} for name in self._made if (self.folder / name).is_dir()]
        lines += [
            line_of(self.entries[name], told)
            for name in reversed(kept)
            for told in sorted(self.entries[name].digests)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_atomic(self._path, text.encode())


@dataclass
class TakenBack:
    """What `undo_sort` did.

    Attributes:
        output: the folder.
        removed: names of copies, links and spreadsheets that are gone.
        put_back: names of files that are where they came from again.
        kept: (name, reason) of each file that stays, such as one that was changed since.
    """

    output: Path
    removed: list[str] = field(default_factory=list)
    put_back: list[str] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything was taken back."""
        return not self.kept

    def tables(self) -> list[Table]:
        """Return no table."""
        return []

    def notes(self) -> list[str]:
        """Return how many files were removed and put back."""
        return [f"Removed: {len(self.removed)} files. Put back: {len(self.put_back)} files."]

    def problems(self) -> list[Problems]:
        """Return what stays."""
        return [Problems("Kept", self.kept, "--json's answer")]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "output": str(self.output),
            "removed": self.removed,
            "put_back": self.put_back,
            "kept": [{"file_name": name, "reason": reason} for name, reason in self.kept],
        }


def rename(source: Path, target: Path) -> None:
    """Move a file; to another disk by a copy that is whole before the file goes.

    Raises:
        OSError: if it can't be done.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        built = _half(target)
        try:
            shutil.copyfile(source, built)
            sync_file(built)  # while it may be written: the file itself may be read-only
            shutil.copystat(source, built)
            if digest(built) != digest(source):
                raise OSError(errno.EIO, "the copy differs from the file") from None
            replace_file(built, target)
        finally:
            with suppress(OSError):  # a full disk keeps no half file
                built.unlink(missing_ok=True)
        source.unlink()


def _known(key: str) -> Path:
    """Return the file by which this machine knows a journal of its own."""
    return sources_folder() / f"sorted-{key}"


def _missing(folder: Path) -> list[Path]:
    """Return a folder that is not there and those above it that are not, either."""
    return [one for one in [folder, *folder.parents] if not one.exists()]


def forget_unmade(folder: Path) -> None:
    """Remove what a killed run was making of a folder that is not there."""
    for one in _missing(folder):
        shutil.rmtree(_half(one), ignore_errors=True)


def _half(target: Path) -> Path:
    """Return where a file that comes from another disk, or a new folder, is built; the next try
    builds there, too.
    """
    told = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    return target.with_name(f"{PREFIX}{told}")


def line_of(entry: Entry, told: str) -> dict:
    """Return a line of the journal."""
    line = {"name": entry.name, "by": SORT, "sha256": told, "from": os.fspath(entry.source)}
    return (
        line | ({"of": entry.photo} if entry.photo else {}) | ({"made": True} if entry.made else {})
    )


def is_left(folder: Path) -> bool:
    """Whether a folder holds nothing but the lock of a run that was killed."""
    try:
        return set(os.listdir(folder)) <= {LOCK}
    except OSError:
        return False
