"""What becomes of the XMP of each photo, in its sidecars or in its own file, batch by batch: noted
first, then done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol

from .keyword_notes import Kept, Noted, Notes, State, told_of
from .photo_labels import PhotoLabel
from .xmp import SUBJECT, UnusableXmp
from .xmp_edit import (
    Keywords,
    former,
    levels_above,
    lists_of,
    with_keywords,
    without_keywords,
)

BATCH = 64  # photos whose changes are noted before they are made
NEW, EXTENDED, REPLACED, UNCHANGED, CLEARED = CHANGES = (
    *("new", "extended", "replaced", "unchanged", "cleared"),
)


@dataclass(frozen=True)
class Change:
    """What becomes of a photo's XMP.

    Attributes:
        photo: the photo's name in its results.
        path: of the file that holds it, or None where it can't be told.
        change: one of `CHANGES`.
        keywords: the flat ones.
        before: what it was; None: there was none.
        after: what it becomes; None: it goes.
        noted: what is to be known of it; None: nothing.
        state: in which it is left.
        why: why it can't be done, or "".
    """

    photo: str
    path: Path | None
    change: str
    keywords: tuple[str, ...] = ()
    before: bytes | None = None
    after: bytes | None = None
    noted: Noted | None = None
    state: State | None = None
    why: str = ""


class Holder(Protocol):
    """Where XMP is kept: in sidecars, or in photos' own files.

    Attributes:
        embedded: whether in photos' own files.
    """

    embedded: bool

    def prepare(self, photos: Sequence[Path]) -> None:
        """Get ready for a batch of photos."""

    def of(self, photo: Path) -> list[Path]:
        """Return the files that hold a photo's XMP."""

    def new(self, photo: Path) -> Path:
        """Return the first file that is to hold it."""

    def read(self, path: Path) -> bytes | None:
        """Return the XMP in a file, or None where there is none."""

    def first(self, photo: Path, wanted: Keywords) -> bytes:
        """Return the XMP that a photo without any begins with."""

    def check(self, path: Path) -> None:
        """Refuse a file that is not to be written."""

    def replace(
        self,
        path: Path,
        before: bytes | None,
        after: bytes | None,
        known: Noted | None,
        noting: Callable[[Kept], None],
    ) -> Kept | None:
        """Write XMP over that which was read; return how the whole file is put back, or None where
        its XMP is all of it. `noting` is told so before the file changes.
        """


class Writer:
    """Writes the keywords of photos.

    Args:
        notes: open, unless this is a dry run.
        holder: of the photos' XMP.
        above: keywords above the labels, the highest first.
        results: what the notes call the folder of results.
        dry_run: whether to change nothing.
    """

    def __init__(
        self,
        notes: Notes,
        holder: Holder,
        above: Sequence[str],
        results: str,
        dry_run: bool = False,
    ) -> None:
        self._notes, self._holder, self._above = notes, holder, above
        self._results, self._dry_run = results, dry_run
        self._whose: dict[Path, str] = {}

    def write(self, found: Iterable[PhotoLabel]) -> Iterator[list[Change]]:
        """Yield what became of each photo's XMP, in order."""
        waiting = iter(found)
        while batch := list(islice(waiting, BATCH)):
            self._holder.prepare([one.path for one in batch if one.path is not None])
            planned = [self._planned(one) for one in batch]
            if not self._dry_run:
                self._notes.note(
                    (one.noted, one.state)
                    for changes in planned
                    for one in changes
                    if one.noted and one.state
                )
            for changes in planned:
                yield changes if self._dry_run else [self._done(one) for one in changes]

    def _planned(self, one: PhotoLabel) -> list[Change]:
        """Return what is to become of a photo's XMP."""
        nothing = Change(one.file_name, None, UNCHANGED)
        if one.status == "unreadable":
            return [replace(nothing, why=one.error or "can't be read")]
        if one.path is None:
            return [replace(nothing, why="the photo is not there any more")] if one.labels else []
        try:
            wanted = lists_of(one.labels, self._above)
            paths = self._holder.of(one.path)
        except UnusableXmp as error:
            return [replace(nothing, why=f"the photo {error}")] if one.labels else []
        if one.labels and not paths:
            paths = [self._holder.new(one.path)]
        folder = one.path.parent.resolve()
        return [
            change for path in paths for change in self._planned_at(folder / path.name, one, wanted)
        ]

    def _planned_at(self, path: Path, one: PhotoLabel, wanted: Keywords) -> list[Change]:
        """Return what is to become of a file's XMP, in a list that is empty if that is nothing."""
        noted = self._notes.of(path, self._results, one.file_name)
        if not one.labels and noted is None:
            return []
        nothing = Change(one.file_name, path, UNCHANGED, tuple(wanted[SUBJECT]))
        try:
            if (whose := self._whose.setdefault(path, one.file_name)) != one.file_name:
                other = "file" if self._holder.embedded else "sidecar"
                raise UnusableXmp(f"is the {other} of '{whose}' as well")
            photo = path.with_name(one.path.name) if one.path else path
            change = self._change(nothing, path, wanted, noted, photo)
            if change.change != UNCHANGED:
                self._holder.check(path)
        except UnusableXmp as error:
            return [replace(nothing, why=f"'{path.name}' {error}")]
        return [change] if one.labels or change.change != UNCHANGED else []

    def _change(
        self, nothing: Change, path: Path, wanted: Keywords, noted: Noted | None, photo: Path
    ) -> Change:
        """Return what is to become of a file's XMP.

        Raises:
            UnusableXmp: if it can't be read or extended.
        """
        before = self._holder.read(path)
        was = former_of(before, noted)
        # others changed it since, and its keywords are what they should be
        holds = before is not None and was.ours and _holds(before, wanted, was.ours)
        left = was.base == before and (before is None or not was.made)
        if holds or (left and not nothing.keywords):
            return replace(nothing, before=before, after=before, noted=noted)
        if not nothing.keywords:
            after = None if was.made else was.base
            return replace(nothing, change=CLEARED, before=before, after=after)
        base = was.base
        if base is None:
            base = self._holder.first(photo, wanted)
        edited = with_keywords(base, wanted)
        if edited.data == before:
            return replace(nothing, before=before, after=before, noted=noted)
        kind = NEW if before is None else EXTENDED if before == base else REPLACED
        return replace(
            nothing,
            change=kind,
            before=before,
            after=edited.data,
            noted=Noted(
                path, self._results, nothing.photo, {}, edited.added, self._holder.embedded
            ),
            state=State(None if was.made else told_of(base), told_of(edited.data), edited.edits),
        )

    def _done(self, change: Change) -> Change:
        """Do a change; return it, with the reason if it can't be done."""
        if change.path is None or change.why:
            return change
        if change.change == UNCHANGED:
            if change.noted is not None:  # undo asks for the latest results
                change.noted.results = self._results
            return change
        known = self._notes.noted.get(change.path)
        try:
            kept = self._holder.replace(
                change.path, change.before, change.after, known, partial(self._note_kept, change)
            )
        except UnusableXmp as error:
            return replace(change, why=f"'{change.path.name}' {error}")
        if change.noted is None or change.state is None:
            self._notes.forget(change.path)
        else:
            self._notes.settle(change.noted, replace(change.state, kept=kept))
        return change

    def _note_kept(self, change: Change, kept: Kept) -> None:
        """Note how the whole file is put back, before it changes."""
        if change.noted is not None and change.state is not None:
            self._notes.note([(change.noted, replace(change.state, kept=kept))])


@dataclass(frozen=True)
class Former:
    """A sidecar without our keywords.

    Attributes:
        base: its bytes; None if there is none.
        made: whether we made it, so that it goes with the keywords.
        ours: our keywords, by list, if others changed it since we wrote them.
    """

    base: bytes | None
    made: bool = False
    ours: Keywords = field(default_factory=dict)


def former_of(data: bytes | None, noted: Noted | None) -> Former:
    """Return what a sidecar is without our keywords.

    Raises:
        UnusableXmp: if it can't be read.
    """
    if data is None or noted is None:
        return Former(data, made=data is None)
    told = told_of(data)
    if (state := noted.states.get(told)) is not None:
        with suppress(UnusableXmp):  # the notes were changed
            base = former(data, state.edits)
            if state.before in (None, told_of(base)):
                return Former(base, made=state.before is None)
    if any(state.before == told for state in noted.states.values()):
        return Former(data)  # a killed run never came to it
    return Former(without_keywords(data, noted.ours).data, ours=noted.ours)


def _holds(data: bytes, wanted: Keywords, ours: Keywords) -> bool:
    """Whether a sidecar holds all keywords that are wanted, and none of ours that are not."""
    above = levels_above(wanted)
    stale = {
        name: [one for one in values if one not in wanted.get(name, ()) and one not in above]
        for name, values in ours.items()
    }
    return not with_keywords(data, wanted).edits and not without_keywords(data, stale).edits
