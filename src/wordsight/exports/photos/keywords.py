"""Write photos' labels as keywords into their sidecars, and take them back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.home import expand
from ...core.progress import Progress, or_notebook
from ...core.summary import Problems, Table, as_html, as_text
from ...datasets.decisions import ReviewBook
from ...errors import InvalidArgument, NotFound
from .keyword_notes import Noted, Notes
from .keyword_writer import CHANGES, UNCHANGED, Change, Writer, former_of
from .photo_labels import TABLES, read_photo_labels
from .sidecars import Sidecars, read_sidecar, replace_sidecar
from .xmp import UnusableXmp
from .xmp_edit import FORBIDDEN

PREFIX = "wordsight|"
SHOWN = 20  # sidecars that a dry run lists


@dataclass
class WrittenKeywords:
    """Keywords that were written into sidecars, or would be.

    Attributes:
        results: folder of the results.
        dry_run: whether nothing was done.
        files: (the photo's name, its sidecar, its keywords, the change) of each sidecar. The change
            is "new", "extended", "replaced" (older keywords of ours gave way),
            "unchanged" or "cleared" (the photo has no label any more).
        skipped: (the photo's name, reason) of each that could not be done.
        unlabelled: how many photos have no label.
    """

    results: Path
    dry_run: bool = False
    files: list[tuple[str, Path, tuple[str, ...], str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unlabelled: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many photos have each keyword, the most frequent first."""
        photos = {photo: keywords for photo, _, keywords, _ in self.files}
        found = Counter(one for keywords in photos.values() for one in keywords)
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    @property
    def sidecars(self) -> dict[str, int]:
        """How many sidecars there are of each change."""
        found = Counter(change for *_, change in self.files)
        return {change: found[change] for change in CHANGES if found[change]}

    @property
    def complete(self) -> bool:
        """Whether every labelled photo got its keywords."""
        return not self.skipped

    def tables(self) -> list[Table]:
        """Return how many photos get which keyword; of a dry run also which sidecars."""
        rows = [[keyword, str(count)] for keyword, count in self.counts.items()]
        tables = [Table(["keyword", "photos"], rows, "No photo has a label.")]
        if self.dry_run:
            files = [
                [f"{photo.rpartition('/')[0]}/{path.name}".lstrip("/"), ", ".join(words), how]
                for photo, path, words, how in self.files
                if how != UNCHANGED
            ]
            more = "… and {count} more, listed with --json."
            tables.append(
                Table(
                    ["sidecar", "keywords", "would be"],
                    files,
                    "No sidecar would change.",
                    SHOWN,
                    more,
                )
            )
        return tables

    def notes(self) -> list[str]:
        """Return what became of the sidecars, and how to go on."""
        ways = ", ".join(f"{count:,} {one}" for one, count in self.sidecars.items()) or "none"
        without = f" Photos without a label: {self.unlabelled:,}." if self.unlabelled else ""
        if self.dry_run:
            told = f"Sidecars that would be written: {ways}.{without}"
            return [told, "Nothing was written. Add --yes to write them; --undo takes it back."]
        return [
            f"Sidecars: {ways}.{without}",
            f"'wordsight keywords {self.results} --undo' takes the keywords back.",
        ]

    def problems(self) -> list[Problems]:
        """Return the photos whose keywords could not be written."""
        return [Problems("Not written", self.skipped, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"Keywords of {len(self.files):,} sidecars", self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "results": str(self.results),
            "dry_run": self.dry_run,
            "counts": self.counts,
            "sidecars": self.sidecars,
            "unlabelled": self.unlabelled,
            "files": [
                {"file_name": photo, "sidecar": str(path), "keywords": list(words), "change": how}
                for photo, path, words, how in self.files
            ],
            "skipped": [{"file_name": name, "reason": reason} for name, reason in self.skipped],
        }


@dataclass
class TakenBackKeywords:
    """What `undo_keywords` did.

    Attributes:
        results: folder of the results.
        removed: sidecars that we had made and that are gone.
        restored: sidecars that have their former bytes again.
        cleaned: sidecars that others changed since, and that lost our keywords alone.
        kept: (sidecar, reason) of each that could not be done.
    """

    results: Path
    removed: list[Path] = field(default_factory=list)
    restored: list[Path] = field(default_factory=list)
    cleaned: list[Path] = field(default_factory=list)
    kept: list[tuple[str, str]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether everything was taken back."""
        return not self.kept

    def tables(self) -> list[Table]:
        """Return no table."""
        return []

    def notes(self) -> list[str]:
        """Return how many sidecars were removed, restored and cleaned."""
        told = f"Sidecars removed: {len(self.removed):,}. Put back: {len(self.restored):,}."
        others = "Changed by other programs since, so that only the keywords were taken out"
        return [told, *([f"{others}: {len(self.cleaned):,}."] if self.cleaned else [])]

    def problems(self) -> list[Problems]:
        """Return what stays."""
        return [Problems("Kept", self.kept, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html("Keywords taken back", self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "results": str(self.results),
            "removed": [str(path) for path in self.removed],
            "restored": [str(path) for path in self.restored],
            "cleaned": [str(path) for path in self.cleaned],
            "kept": [{"sidecar": name, "reason": reason} for name, reason in self.kept],
        }


def write_keywords(
    results: str | os.PathLike | ReviewBook,
    *,
    prefix: str = PREFIX,
    dry_run: bool = False,
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    progress: Progress | None = None,
) -> WrittenKeywords:
    """Write photos' labels as keywords into XMP sidecars, where Lightroom, darktable and digiKam
    find them: as `dc:subject`, and below a prefix as `lr:hierarchicalSubject`.

    What people decided in a review or by teaching counts before what results say. A sidecar that is
    there is extended, and everything else in it stays to the byte; without one, a new one is
    written. Run again after other decisions, keywords that were written before and are not wanted
    any more go; the user's own stay. `exports.undo_keywords` takes exactly this back. What was
    written is noted in wordsight's own folder, so a killed run goes on when it is run again.

    Args:
        results: folder that `run`, `predict` or `recognize` wrote, or a folder of photos that were
            reviewed or taught.
        prefix: keywords above the labels in the hierarchy, with `|` between them; "" for none.
        dry_run: whether to return what would be done, and do nothing.
        photos: where the photos of results are, if they were moved.
        progress: called with (done, total, "photos").

    Raises:
        NotFound: if there is no such folder of results.
        InvalidArgument: if it holds no results and no labels, none of its photos is found, the
            prefix can't be written, or another run writes keywords.
        OutputError: if the notes can't be written.
    """
    above = _levels(prefix)
    found, _ = read_photo_labels(results, photos)
    folder = _folder_of(results)
    done = WrittenKeywords(folder, dry_run)
    done.unlabelled = sum(not one.labels and one.status != "unreadable" for one in found)
    places = [one.path for one in found if one.path is not None]
    if found and not places:
        raise InvalidArgument(
            f"None of the {len(found)} photos of '{folder}' is there any more. --photos says where "
            "they are."
        )
    notes, progress = Notes(), or_notebook(progress)
    writer = Writer(notes, Sidecars(places), above, _told(folder), dry_run)
    with nullcontext() if dry_run else notes.open():
        for count, changes in enumerate(writer.write(found), start=1):
            for one in changes:
                _add(one, done)
            if progress:
                progress(count, len(found), "photos")
    return done


def undo_keywords(
    results: str | os.PathLike,
    *,
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    progress: Progress | None = None,
) -> TakenBackKeywords:
    """Take back the keywords that `write_keywords` wrote for results. Sidecars that are as they
    were left get their former bytes back, and go if they were new; others lose these keywords
    alone.

    Args:
        results: what was given to `write_keywords`; the folder itself may be gone.
        photos: where the photos are, if they were moved with their sidecars.
        progress: called with (done, total, "sidecars").

    Raises:
        NotFound: if no keywords were written for it by this user on this machine.
        InvalidArgument: if another run writes keywords.
        OutputError: if the notes can't be written.
    """
    folder, notes = _folder_of(results), Notes()
    told = _told(folder)
    if not any(one.results == told for one in notes.noted.values()):
        raise NotFound(
            f"There is nothing to take back for '{results}': this user on this machine wrote no "
            "keywords for it, has taken them back, or wrote those of other results over them."
        )
    given = [photos] if isinstance(photos, str | os.PathLike) else photos or ()
    places = [expand(one) for one in given]
    done, progress = TakenBackKeywords(folder), or_notebook(progress)
    with notes.open():
        mine = [one for one in notes.noted.values() if one.results == told]
        for count, one in enumerate(mine, start=1):
            try:
                _take_back(one, _found(one, places), done)
                notes.forget(one.path)
            except UnusableXmp as error:
                done.kept.append((str(one.path), str(error)))
            if progress:
                progress(count, len(mine), "sidecars")
    return done


def _levels(prefix: str) -> list[str]:
    """Return the keywords of a prefix, the highest first.

    Raises:
        InvalidArgument: if it holds what no sidecar can.
    """
    if FORBIDDEN.search(prefix):
        raise InvalidArgument(
            f"The prefix {prefix!r} holds a control character. Give words with '|' between them, "
            "such as 'Animals|wordsight|'."
        )
    return [" ".join(one.split()) for one in prefix.split("|") if one.strip()]


def _folder_of(results: str | os.PathLike | ReviewBook) -> Path:
    """Return the folder that results are in."""
    if isinstance(results, ReviewBook):
        return results.root
    path = expand(results)
    return path.parent if path.name in TABLES else path


def _told(folder: Path) -> str:
    """Return what the notes call a folder of results."""
    return os.path.realpath(folder)


def _add(change: Change, done: WrittenKeywords) -> None:
    """Add to a result what became of a sidecar."""
    if change.why:
        done.skipped.append((change.photo, change.why))
    elif change.path is not None:
        done.files.append((change.photo, change.path, change.keywords, change.change))


def _found(one: Noted, places: Iterable[Path]) -> Path:
    """Return where a sidecar is.

    Raises:
        UnusableXmp: if it is not there, and neither is its photo.
    """
    folder, _, photo = one.photo.rpartition("/")
    paths = [one.path, *(place / folder / one.path.name for place in places)]
    for path in paths:
        if os.path.lexists(path) or os.path.lexists(path.with_name(photo)):
            return path
    raise UnusableXmp("is not there, and neither is its photo; --photos says where they are now")


def _take_back(one: Noted, path: Path, done: TakenBackKeywords) -> None:
    """Take our keywords out of a sidecar.

    Raises:
        UnusableXmp: if that can't be done.
    """
    before = read_sidecar(path)
    if before is None:
        return  # somebody removed it
    was = former_of(before, one)
    if was.base == before:
        return  # our keywords are not in it
    replace_sidecar(path, before, None if was.made else was.base)
    listed = done.removed if was.made else done.cleaned if was.ours else done.restored
    listed.append(path)
