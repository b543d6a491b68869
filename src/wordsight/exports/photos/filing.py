"""Copy, link and move files into a folder whose journal is open."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ...core.home import replace_file
from ...core.records import digest
from ...core.regular import open_regular
from .journal import Entry, Journal, line_of, rename

BLOCK = 1 << 20  # bytes that are copied at once
BATCH = 64  # files that are noted before they are moved
TAKEN = "another file has taken its place"
ELSEWHERE = "its folder there is a link that leads elsewhere"


@dataclass(frozen=True)
class Step:
    """A file that is to be put into the folder.

    Attributes:
        source: where it is.
        name: where it goes, relative to the folder.
        photo: the photo's name in its results; "" for a file that comes along with a photo.
    """

    source: Path
    name: str
    photo: str = ""


class Filer:
    """Puts files into a folder whose journal is open.

    Args:
        journal: of the folder.
        temporary: where a copy is made before it gets its name.
    """

    def __init__(self, journal: Journal, temporary: Path) -> None:
        self._journal, self._temporary = journal, temporary
        self.copied_bytes = 0

    def copy(self, step: Step) -> str | None:
        """Copy a file, with its times; one that was copied before is replaced.

        Returns:
            None, or why it can't be copied.

        Raises:
            OSError: if nothing can be written.
        """
        told, size = hashlib.sha256(), 0
        with ExitStack() as held:
            try:
                source = held.enter_context(open_regular(step.source))
            except OSError as error:
                return error.strerror or str(error)
            target = held.enter_context(open(self._temporary, "wb"))
            while True:
                try:
                    block = source.read(BLOCK)
                except OSError as error:
                    return error.strerror or str(error)
                if not block:
                    break
                told.update(block)
                target.write(block)
                size += len(block)
        with suppress(OSError):  # file systems without times or permissions
            shutil.copystat(step.source, self._temporary)
        self.copied_bytes += size
        return self._place(_entry(step), told.hexdigest())

    def link(self, step: Step) -> str | None:
        """Link to a file by a relative path, or copy it where links are not to be had; otherwise as
        `copy`.
        """
        parent = (self._journal.folder / step.name).parent
        try:
            leads = os.path.relpath(step.source.parent.resolve(), parent.resolve())
            self._temporary.unlink(missing_ok=True)
            self._temporary.symlink_to(os.path.join(leads, step.source.name))
        except (OSError, ValueError):  # no links here; on Windows, another drive
            return self.copy(step)
        return self._place(_entry(step), str(digest(self._temporary)))

    def write(self, name: str, data: bytes) -> str | None:
        """Write a file of our own; otherwise as `copy`."""
        self._temporary.write_bytes(data)
        source = self._journal.folder.absolute() / name
        return self._place(Entry(name, source, "", made=True), hashlib.sha256(data).hexdigest())

    def move(self, steps: Iterable[Step]) -> Iterator[tuple[Step, str | None]]:
        """Move files; yield each with None, or with why it can't be moved."""
        waiting = iter(steps)
        while batch := list(islice(waiting, BATCH)):
            told = {step: digest(step.source) for step in batch}
            lines = [line_of(_entry(step), one) for step, one in told.items() if one is not None]
            for step in batch:
                self._make_folder_of(step.name)
            self._journal.note(lines, sync=True)
            for step in batch:
                if step.source.is_symlink():
                    yield step, "a link, which is not moved; --copy copies what it shows"
                elif not self._journal.holds(step.name):
                    yield step, ELSEWHERE
                else:
                    yield step, "can't be read" if told[step] is None else self._moved(step)

    def _moved(self, step: Step) -> str | None:
        target = self._journal.folder / step.name
        try:
            if os.path.lexists(target):
                if digest(target) != digest(step.source):
                    return TAKEN
                step.source.unlink()  # an earlier run was killed between copying and removing
            else:
                rename(step.source, target)
        except OSError as error:
            return error.strerror or str(error)
        return None

    def drop(self, name: str) -> bool:
        """Remove a copy or link that is as we made it; return whether it was."""
        if not self._journal.is_ours(name):
            return False
        (self._journal.folder / name).unlink()
        return True

    def _make_folder_of(self, name: str) -> None:
        folder = name.rpartition("/")[0]
        if folder:
            self._journal.make_folder(folder)

    def _place(self, entry: Entry, told: str) -> str | None:
        """Give what was built its name, or return that another file has it."""
        journal = self._journal
        target = journal.folder / entry.name
        elsewhere = not journal.holds(entry.name)
        if elsewhere or (os.path.lexists(target) and not journal.is_ours(entry.name)):
            self._temporary.unlink()
            return ELSEWHERE if elsewhere else TAKEN
        self._make_folder_of(entry.name)
        journal.note([line_of(entry, told)])
        replace_file(self._temporary, target)
        return None


def _entry(step: Step) -> Entry:
    return Entry(step.name, step.source, step.photo)
