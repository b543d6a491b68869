"""The rule for everything that is written: whole or not at all, one run at a time, never over what
is not ours.

A file is ours if its content is what we wrote there, never because of its name. Each folder that
we write into keeps a record, `.wordsight-files`: a line of JSON for each file, with its digest. A
file that somebody changed since is theirs.

A run builds everything in a hidden folder, and puts it in place at the end. What a killed run left
is removed by the next one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InvalidArgument
from .home import replace_file, sync_file, writing
from .names import safe_name
from .records import (
    HEAD,
    LOCK,
    PREFIX,
    RECORD,
    Written,
    digest,
    files_below,
    read_lines,
    read_record,
    unfinished_builds,
)
from .threads import uninterrupted

log = logging.getLogger(__name__)
POLL_S = 0.005  # how often a folder that is held is asked for

IS_FILE = "'{folder}' is a file; results need a folder. Choose another with -o."
NOT_OURS = (
    "'{path}' was not written by wordsight, or was changed since, so it is not replaced. Move it "
    "away, or choose another folder with -o."
)
BY_ANOTHER = (
    "'{path}' is the result of another command, so it is not replaced. Choose another folder with "
    "-o."
)
OTHER_FILES = "'{folder}' holds other files ('{name}'). Choose a new folder with -o."
IN_THE_WAY = "'{path}' is in the way and was not written by wordsight. Move it away."


class ResultFolder:
    """A folder to write results into, which may hold files of other people, too.

    Args:
        path: the folder; it need not exist.
        by: what writes there, in a word: files that this wrote before, and does not write again,
            are removed.
        adopt: whether a file there is ours, by its path: for folders in whose record `by` has
            nothing yet, which 0.1.0 may have written.
        is_file: sentence for a path that is a file, with {folder}.
        not_ours: sentence for what is not ours, with {folder}, {path} and {name}.
    """

    def __init__(
        self,
        path: Path,
        by: str = "",
        *,
        adopt: Callable[[Path], bool] | None = None,
        is_file: str = IS_FILE,
        not_ours: str = NOT_OURS,
    ) -> None:
        self.path, self.by, self._adopt = path, by, adopt
        self._is_file, self._not_ours = is_file, not_ours
        self.placed: dict[str, str] = {}  # digests of files that the run under way put in place

    def claim(self, names: Iterable[str] | None = None) -> None:
        """Refuse to write what is not ours.

        Args:
            names: what is to be written there; None: everything there is to be replaced.

        Raises:
            InvalidArgument: if the path is a file, or one of the names is there and is not ours.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidArgument(self._is_file.format(folder=self.path))
        if os.path.lexists(self.path / RECORD) and read_lines(self.path / RECORD) is None:
            raise InvalidArgument(IN_THE_WAY.format(path=self.path / RECORD))
        for name in self.names() if names is None else names:
            if names is None and self.record is not None and digest(self.path / name) is None:
                continue  # an empty folder, which a killed run had made
            if os.path.lexists(self.path / name) and not self.is_ours(name):
                another = names is not None and self._is_by_another(name)
                said = BY_ANOTHER if another else self._not_ours
                raise InvalidArgument(
                    said.format(folder=self.path, path=self.path / name, name=name)
                )

    def names(self) -> list[str]:
        """Return what lies there in order, by relative path: files, links and empty folders, but
        for our lock, our record and what killed runs were building.
        """
        if not self.path.is_dir():
            return []
        hidden = {LOCK, RECORD, *unfinished_builds(self.path / RECORD)}
        return sorted(
            name for name in files_below(self.path) if name.partition("/")[0] not in hidden
        )

    def is_ours(self, name: str) -> bool:
        """Whether a file there, by its path relative to the folder, is the work of this writer."""
        if name in self.placed:
            return digest(self.path / name) == self.placed[name]
        written = (self.record or {}).get(name)
        if written is None:
            return not self._wrote() and bool(self._adopt and self._adopt(self.path / name))
        return written.by == self.by and digest(self.path / name) in written.digests

    def _wrote(self) -> bool:
        """Whether the record lists files of this writer."""
        return any(written.by == self.by for written in (self.record or {}).values())

    def _is_by_another(self, name: str) -> bool:
        """Whether another command wrote a file."""
        written = (self.record or {}).get(name)
        return written is not None and digest(self.path / name) in written.digests

    def is_whole(self) -> bool:
        """Whether all that the record lists is there still."""
        return all(os.path.lexists(self.path / name) for name in self.record or ())

    @functools.cached_property
    def record(self) -> dict[str, Written] | None:
        """What the record said of each file when first asked; None without a record of ours."""
        return read_record(self.path / RECORD)

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

    @contextmanager
    def build(self) -> Iterator[Build]:
        """Hold the folder, and build files in a hidden folder there. What is left in it at the end
        is removed; what a killed run left is removed first.

        Raises:
            InvalidArgument: if another run holds the folder.
            OutputError: if nothing can be written.
        """
        new = not self.path.exists()
        try:
            with self.locked():
                self.claim(())
                build = Build(self)
                try:
                    build.ready()
                    yield build
                finally:
                    build.drop()
        finally:
            if new:
                with suppress(OSError):  # it holds something
                    self.path.rmdir()

    def write(
        self,
        files: Iterable[tuple[str, bytes]],
        names: Iterable[str] = (),
        last: Iterable[str] = (),
    ) -> None:
        """Write files, and remove those of an earlier run that are not among them.

        Args:
            files: name and content.
            names: of files that 0.1.0 may have written.
            last: names of those that tell of the others.

        Raises:
            InvalidArgument: if one of the names is not ours, or another run writes there.
            OutputError: if one can't be written.
        """
        with writing(self.path), self.build() as build:
            for name, data in files:
                build.write(name, data)
            build.commit(names, last)

    def forget(self) -> None:
        """Read the record anew when it is next asked for."""
        self.__dict__.pop("record", None)
        self.placed = {}


class Build:
    """Files that are being built in a hidden folder of a `ResultFolder`, which is held."""

    def __init__(self, folder: ResultFolder) -> None:
        self._folder, self._root = folder, folder.path
        self._written: dict[str, str] = {}
        self._noted = False  # whether the record has lines of an unfinished run
        self.path = self._root / f"{PREFIX}{secrets.token_hex(6)}"

    def ready(self) -> None:
        """Make the hidden folder if need be, and remove those that killed runs left.

        Raises:
            OutputError: if it can't be made.
        """
        if self._noted:
            return
        with writing(self._root):
            for left in unfinished_builds(self._root / RECORD):
                shutil.rmtree(self._root / left, ignore_errors=True)
            self._note([{"building": self.path.name}])
            self.path.mkdir()

    def write(self, name: str, data: bytes) -> None:
        """Build a file."""
        self.ready()
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._written[name] = hashlib.sha256(data).hexdigest()

    def place(self, name: str, data: bytes, sync: bool = False) -> None:
        """Write a file and put it in place at once; for files that each count for themselves.

        Args:
            name: of the file.
            data: its content.
            sync: whether it is on the disk before it gets its name.

        Raises:
            InvalidArgument: if somebody else's file is there.
        """
        self.write(name, data)
        if sync:
            sync_file(self.path / name)
        self.put(name, self._written.pop(name))

    def put(self, name: str, told: str | None = None) -> None:
        """Put a file in place at once that was written into the build's folder.

        Args:
            name: of the file.
            told: its digest, if known.

        Raises:
            InvalidArgument: if somebody else's file is there.
        """
        folder, root = self._folder, self._root
        folder.claim([name])
        told = told or str(digest(self.path / name))
        self._note([{"name": name, "by": folder.by, "sha256": told}])
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path / name, root / name)
        folder.placed[name] = told

    def is_ours(self, name: str) -> bool:
        """Whether a file there is the work of this writer; see `ResultFolder.is_ours`."""
        return self._folder.is_ours(name)

    def adopt(self) -> None:
        """Record what 0.1.0 wrote in the folder, so that it stays ours."""
        folder = self._folder
        if not folder._wrote():
            for name in folder.names():
                if name not in (folder.record or ()) and folder.is_ours(name):
                    told = digest(self._root / name)
                    self._note([{"name": name, "by": folder.by, "sha256": told}])
            folder.forget()

    def remove(self, names: Iterable[str]) -> None:
        """Remove those of these files that are ours. Nothing more can be built afterwards."""
        _remove(self._root, [name for name in names if self._folder.is_ours(name)])
        record = self._folder.record or {}
        self._rewrite(
            {name: of for name, of in record.items() if os.path.lexists(self._root / name)}
        )

    def rewrite(self, path: Path, data: bytes) -> None:
        """Replace a file of the user's that this run was asked to change, whole or not at all; it
        does not become ours.
        """
        self.ready()
        built = self.path / "rewritten"
        built.write_bytes(data)
        if path.exists():
            shutil.copymode(path, built)
        sync_file(built)
        replace_file(built, path.resolve())

    def link(self, name: str, source: Path) -> int:
        """Build a link to a file, or a copy where links are not to be had; return the bytes
        that takes.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        try:
            path.symlink_to(source)
        except OSError:  # file systems and accounts that allow no links
            shutil.copyfile(source, path)
        self._written[name] = str(digest(path))
        return 0 if path.is_symlink() else path.stat().st_size

    def add(self, name: str) -> None:
        """Take a file that was written into the build's folder."""
        self._written[name] = str(digest(self.path / name))

    def commit(
        self, names: Iterable[str] = (), last: Iterable[str] = (), keep: bool = False
    ) -> None:
        """Put everything in place, and remove what an earlier run wrote and this one did not. More
        may be built and put in place after it.

        While this goes on no old file of `last` is there, so that nothing tells of files that are
        not there any more. Ctrl-C waits until it is over.

        Args:
            names: of files that 0.1.0 may have written.
            last: those that tell of the others, such as tables; the last shows that all are there.
            keep: whether what earlier runs wrote stays.

        Raises:
            InvalidArgument: if somebody else's file has come where one would be put.
            OSError: if a file can't be put in place.
        """
        folder, root, written = self._folder, self._root, self._written
        folder.claim(written)
        record = folder.record or {}
        earlier = {*names, *(name for name in record if record[name].by == folder.by)}
        old = earlier.difference(written, folder.placed) if not keep else set()
        old = {name for name in old if folder.is_ours(name)}
        ends = [name for name in last if name not in folder.placed]
        first = [name for name in written if name not in ends]
        adopted = [name for name in {*old, *written} if name not in record]
        with uninterrupted():
            there = ((name, digest(root / name)) for name in adopted)
            self._note(
                {"name": name, "by": folder.by, "sha256": told}
                for name, told in [*there, *written.items()]
                if told
            )
            _remove(root, [name for name in ends if name in written or name in old])
            for name in [*first, *(name for name in ends if name in written)]:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                if name in ends:
                    sync_file(self.path / name)
                replace_file(self.path / name, root / name)
            _remove(root, old)
            if old and written:
                log.info(
                    "Removed from '%s': %s of an earlier run, which this one did not write.",
                    folder.path,
                    "1 file" if len(old) == 1 else f"{len(old):,} files",
                )
            kept = {name: of for name, of in record.items() if os.path.lexists(root / name)}
            done = {
                name: Written(folder.by, {told}) for name, told in (folder.placed | written).items()
            }
            self._rewrite(kept | done, more=True)
        self._written = {}

    def drop(self) -> None:
        """Remove what was built and not put in place."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._noted:
            placed = self._folder.placed
            self._folder.forget()  # files that were put in place before an error stay ours
            record = self._folder.record or {}
            with suppress(OSError):  # a full disk; the next run clears it
                put = {name: Written(self._folder.by, {told}) for name, told in placed.items()}
                every = record | put
                self._rewrite(
                    {name: every[name] for name in every if os.path.lexists(self._root / name)}
                )

    def _rewrite(self, record: dict[str, Written], more: bool = False) -> None:
        """Replace the record by one without what is done; an empty one goes.

        Args:
            record: of all files that are there.
            more: whether more is to be built; otherwise the hidden folder goes, too.
        """
        lines = [
            {"name": name, "by": of.by, "sha256": told}
            for name, of in record.items()
            for told in sorted(of.digests)
        ]
        text = "".join(json.dumps(line) + "\n" for line in [HEAD, *lines]).encode()
        built, target = self.path / RECORD, self._root / RECORD
        if lines or more:
            self.path.mkdir(exist_ok=True)
            # noted until it is gone, so that a kill in between leaves nothing for ever
            built.write_bytes(text + json.dumps({"building": self.path.name}).encode() + b"\n")
            replace_file(built, target)
        if not more:
            shutil.rmtree(self.path, ignore_errors=True)
            if lines:
                os.truncate(target, len(text))
            else:
                target.unlink(missing_ok=True)
            self._noted = False
        self._folder.forget()

    def _note(self, lines: Iterable[dict]) -> None:
        """Add lines to the record. A kill may cut them short, so they begin on a new one."""
        self._noted = True
        with open(self._root / RECORD, "ab") as file:
            begin = json.dumps(HEAD) if file.tell() == 0 else ""
            text = "".join(json.dumps(line) + "\n" for line in lines)
            file.write(f"{begin}\n{text}".encode())


@contextmanager
def hold(folder: Path, shown: Path | None = None, wait_s: float = 0) -> Iterator[None]:
    """Hold a folder for this process, so that two runs do not write into one another. The lock
    ends with the process, however that ends.

    Where no lock can be had (a read-only disk, a file system without locks), none is taken.

    Args:
        folder: the folder.
        shown: what the sentence of a refusal names instead of it.
        wait_s: how long to wait for another run to let go of it.

    Raises:
        InvalidArgument: if another run holds it, or a file that is no lock has its name.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK
    if not _may_be_lock(path):
        raise InvalidArgument(IN_THE_WAY.format(path=path))
    # a run may end in another thread than it began in
    lock = FileLock(path, timeout=wait_s, poll_interval=POLL_S, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise InvalidArgument(
            f"Another run is writing to '{shown or folder}'. Wait for it, or choose another folder "
            "with -o."
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows: it removes the file itself
                path.unlink()
            lock.release()


def _may_be_lock(path: Path) -> bool:
    """Whether a path is free, an empty file, or a folder, beside which no lock is taken."""
    try:
        status = path.lstat()  # asked once, for another run may end meanwhile
    except OSError:
        return True
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and not status.st_size)


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` to build a new one in, for `swap`; what is left in it
    at the end is removed. One run builds at a time.

    What a killed run left is removed first, and what it was about to replace is put back.

    Raises:
        InvalidArgument: if another run builds there, or a folder of somebody else's is in the way.
        OutputError: if it can't be made.
    """
    target = _followed(target)
    hidden = _beside(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(hidden) and not _is_workshop(hidden):
            raise InvalidArgument(IN_THE_WAY.format(path=hidden))
        hidden.mkdir(exist_ok=True)
    with contextlib.ExitStack() as held:
        held.callback(_discard, hidden)
        held.enter_context(hold(hidden, target))
        with writing(target):
            (hidden / RECORD).write_text(json.dumps(HEAD) + "\n")
            _put_back(target)
            new = hidden / "new"
            for left in (new, hidden / "old"):
                shutil.rmtree(left, ignore_errors=True)
            new.mkdir()
        held.callback(_clear, hidden)
        yield new


def swap(built: Path, target: Path) -> None:
    """Put a folder that was built by `building` in place of what was there. For a moment neither
    is there; a kill in that moment is mended by `restore`.
    """
    target, old = _followed(target), built.with_name("old")
    if os.path.lexists(target):
        replace_file(target, old)
    try:
        replace_file(built, target)
    except OSError:
        if os.path.lexists(old):
            replace_file(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def restore(target: Path) -> bool:
    """Put back a folder that a killed run was about to replace, unless another run is replacing it
    now; return whether there was one.
    """
    target = _followed(target)
    hidden = _beside(target)
    if os.path.lexists(target) or not os.path.lexists(hidden / "old") or not _is_workshop(hidden):
        return False
    try:
        with contextlib.ExitStack() as held:
            held.callback(_discard, hidden)
            held.enter_context(hold(hidden, target))
            back = _put_back(target)
            _clear(hidden)
            return back
    except (InvalidArgument, OSError):  # it is being replaced, or nothing can be written here
        return False


def _put_back(target: Path) -> bool:
    old = _beside(target) / "old"
    if os.path.lexists(target) or not os.path.lexists(old):
        return False
    replace_file(old, target)
    return True


def seal(folder: Path, by: str = "") -> None:
    """Record every file below a folder that we built as ours.

    Args:
        folder: the folder.
        by: what wrote it: only the same may replace it as a whole.
    """
    lines = [
        {"name": name, "by": by, "sha256": digest(folder / name)}
        for name in sorted(files_below(folder))
    ]
    text = "".join(json.dumps(line) + "\n" for line in [HEAD, *lines])
    (folder / RECORD).write_bytes(text.encode())


def refuse_other_files(folder: object, names: Iterable[str]) -> None:
    """Refuse a folder, here or at an address, that holds files that are not ours.

    Raises:
        InvalidArgument: if there is such a file.
    """
    for name in sorted(names):
        raise InvalidArgument(OTHER_FILES.format(folder=folder, name=name))


def _remove(root: Path, names: Iterable[str]) -> None:
    """Remove files by their paths relative to a folder; no link or `..` leads out of it."""
    inside = root.resolve()
    for name in sorted(names):
        path = root / name
        if safe_name(name) == name and path.parent.resolve().is_relative_to(inside):
            path.unlink(missing_ok=True)
            for folder in list(path.parents)[: name.count("/")]:
                with suppress(OSError):  # it holds something
                    folder.rmdir()


def _beside(target: Path) -> Path:
    """Return the hidden folder that `target` is built in."""
    name = f".{target.name}.wordsight"
    if len(os.fsencode(name)) > 255:
        name = f"{PREFIX}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:24]}"
    return target.with_name(name)


def _followed(target: Path) -> Path:
    """Return where a link leads, so that what it names is replaced and not the link."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def _is_workshop(hidden: Path) -> bool:
    """Whether a hidden folder was made by `building`: it holds our record, or nothing yet."""
    if hidden.is_symlink() or not hidden.is_dir():
        return False
    return read_lines(hidden / RECORD) is not None or not set(os.listdir(hidden)) - {LOCK}


def _clear(hidden: Path) -> None:
    """Remove what was built and not put in place, and the record unless the old folder is left."""
    shutil.rmtree(hidden / "new", ignore_errors=True)
    if not os.path.lexists(hidden / "old"):
        (hidden / RECORD).unlink(missing_ok=True)


def _discard(hidden: Path) -> None:
    with suppress(OSError):  # another run has it already
        hidden.rmdir()
