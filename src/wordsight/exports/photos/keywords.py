"""Write photos' labels as keywords into their sidecars or into the photos' own files, and take
them back.
"""

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
from .keyword_notes import KEPT, Noted, Notes
from .keyword_writer import CHANGES, UNCHANGED, Change, Holder, Writer, former_of
from .photo_files import PhotoFiles
from .photo_labels import TABLES, read_photo_labels
from .sidecars import Sidecars
from .xmp import UnusableXmp
from .xmp_edit import FORBIDDEN

PREFIX = "wordsight|"
SHOWN = 20  # files that a dry run lists


@dataclass
class WrittenKeywords:
    """Keywords that were written into sidecars or into photos' own files, or would be.

    Attributes:
        results: folder of the results.
        dry_run: whether nothing was done.
        embedded: whether they go into photos' own files.
        files: (the photo's name, its sidecar or the photo itself, its keywords, the change) of each
            such file. The change is "new" (there was no XMP), "extended", "replaced" (older
            keywords of ours gave way), "unchanged" or "cleared" (the photo has no label any more).
        skipped: (the photo's name, reason) of each that could not be done.
        unlabelled: how many photos have no label.
        kept_in: where the bytes are that were replaced in photos' own files; None for sidecars.
        kept_bytes: how many of these results are there.
    """

    results: Path
    dry_run: bool = False
    embedded: bool = False
    files: list[tuple[str, Path, tuple[str, ...], str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unlabelled: int = 0
    kept_in: Path | None = None
    kept_bytes: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many photos have each keyword, the most frequent first."""
        photos = {photo: keywords for photo, _, keywords, _ in self.files}
        found = Counter(one for keywords in photos.values() for one in keywords)
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    @property
    def sidecars(self) -> dict[str, int]:
        """How many sidecars, or photos' own files, there are of each change."""
        found = Counter(change for *_, change in self.files)
        return {change: found[change] for change in CHANGES if found[change]}

    @property
    def complete(self) -> bool:
        """Whether every labelled photo got its keywords."""
        return not self.skipped

    def tables(self) -> list[Table]:
        """Return how many photos get which keyword; of a dry run also which files."""
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
                    ["photo" if self.embedded else "sidecar", "keywords", "would be"],
                    files,
                    f"No {'photo' if self.embedded else 'sidecar'} would change.",
                    SHOWN,
                    more,
                )
            )
        return tables

    def notes(self) -> list[str]:
        """Return what became of the files, and how to go on."""
        kind = "Photos' own files" if self.embedded else "Sidecars"
        ways = ", ".join(f"{count:,} {one}" for one, count in self.sidecars.items()) or "none"
        without = f" Photos without a label: {self.unlabelled:,}." if self.unlabelled else ""
        if self.dry_run:
            told = f"{kind} that would be written: {ways}.{without}"
            return [told, "Nothing was written. Add --yes to write them; --undo takes it back."]
        kept = f"{self.kept_bytes / 1024:,.0f} KiB in '{self.kept_in}'"
        return [
            f"{kind}: {ways}.{without}",
            *([f"Kept to put the photos back, byte for byte: {kept}."] if self.kept_in else []),
            f"'wordsight keywords {self.results} --undo' takes the keywords back.",
        ]

    def problems(self) -> list[Problems]:
        """Return the photos whose keywords could not be written."""
        return [Problems("Not written", self.skipped, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        kind = "photos" if self.embedded else "sidecars"
        return as_html(f"Keywords of {len(self.files):,} {kind}", self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        place = "photo" if self.embedded else "sidecar"
        return {
            "results": str(self.results),
            "dry_run": self.dry_run,
            "embedded": self.embedded,
            "kept_in": self.kept_in and str(self.kept_in),
            "kept_bytes": self.kept_bytes,
            "counts": self.counts,
            "sidecars": self.sidecars,
            "unlabelled": self.unlabelled,
            "files": [
                {"file_name": photo, place: str(path), "keywords": list(words), "change": how}
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
        photos: photos' own files that have their former bytes again.
        cleaned: sidecars and photos that others changed since, and that lost our keywords alone.
        kept: (sidecar or photo, reason) of each that could not be done.
    """

    results: Path
    removed: list[Path] = field(default_factory=list)
    restored: list[Path] = field(default_factory=list)
    photos: list[Path] = field(default_factory=list)
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
        """Return how many files were removed, restored and cleaned."""
        told = f"Sidecars removed: {len(self.removed):,}. Put back: {len(self.restored):,}."
        own = f"Photos put back, byte for byte: {len(self.photos):,}."
        others = "Changed by other programs since, so that only the keywords were taken out"
        return [
            *([told] if self.removed or self.restored or not self.photos else []),
            *([own] if self.photos else []),
            *([f"{others}: {len(self.cleaned):,}."] if self.cleaned else []),
        ]

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
            "photos": [str(path) for path in self.photos],
            "cleaned": [str(path) for path in self.cleaned],
            "kept": [{"sidecar": name, "reason": reason} for name, reason in self.kept],
        }


def write_keywords(
    results: str | os.PathLike | ReviewBook,
    *,
    prefix: str = PREFIX,
    embed: bool = False,
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

    With `embed` the keywords go into the photos' own files instead (JPEG, TIFF, PNG and HEIC),
    which ExifTool writes. A photo is replaced only if the pixels of all its pictures are the same
    and nothing else that ExifTool reads in it differs. It keeps its times. The bytes that are
    replaced are kept, so that the file can be put back byte for byte.

    Args:
        results: folder that `run`, `predict` or `recognize` wrote, or a folder of photos that were
            reviewed or taught.
        prefix: keywords above the labels in the hierarchy, with `|` between them; "" for none.
        embed: whether to write into the photos' own files.
        dry_run: whether to return what would be done, and do nothing.
        photos: where the photos of results are, if they were moved.
        progress: called with (done, total, "photos").

    Raises:
        NotFound: if there is no such folder of results.
        InvalidArgument: if it holds no results and no labels, none of its photos is found, the
            prefix can't be written, another run writes keywords, or `embed` is asked for and
            ExifTool is not installed.
        OutputError: if the notes can't be written.
    """
    above = _levels(prefix)
    found, _ = read_photo_labels(results, photos)
    folder, notes, progress = _folder_of(results), Notes(), or_notebook(progress)
    done = WrittenKeywords(folder, dry_run, embed)
    done.unlabelled = sum(not one.labels and one.status != "unreadable" for one in found)
    places = [one.path for one in found if one.path is not None]
    if found and not places:
        raise InvalidArgument(
            f"None of the {len(found)} photos of '{folder}' is there any more. --photos says where "
            "they are."
        )
    holder: Holder = _photo_files(notes) if embed else Sidecars(places)
    writer = Writer(notes, holder, above, _told(folder), dry_run)
    with nullcontext() if dry_run else notes.open():
        for count, changes in enumerate(writer.write(found), start=1):
            for one in changes:
                _add(one, done)
            if progress:
                progress(count, len(found), "photos")
    if embed and not dry_run:
        done.kept_in = notes.folder / KEPT
        done.kept_bytes = sum(one.kept_bytes for one in notes.of_results(_told(folder)))
    return done


def undo_keywords(
    results: str | os.PathLike,
    *,
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    progress: Progress | None = None,
) -> TakenBackKeywords:
    """Take back the keywords that `write_keywords` wrote for results. Sidecars and photos that are
    as they were left get their former bytes back, and sidecars go if they were new; others lose
    these keywords alone.

    Args:
        results: what was given to `write_keywords`; the folder itself may be gone.
        photos: where the photos are, if they were moved with their sidecars.
        progress: called with (done, total, "files").

    Raises:
        NotFound: if no keywords were written for it by this user on this machine.
        InvalidArgument: if another run writes keywords.
        OutputError: if the notes can't be written.
    """
    folder, notes = _folder_of(results), Notes()
    told = _told(folder)
    if not notes.of_results(told):
        raise NotFound(
            f"There is nothing to take back for '{results}': this user on this machine wrote no "
            "keywords for it, has taken them back, or wrote those of other results over them."
        )
    given = [photos] if isinstance(photos, str | os.PathLike) else photos or ()
    places = [expand(one) for one in given]
    done, progress = TakenBackKeywords(folder), or_notebook(progress)
    with notes.open():
        mine = notes.of_results(told)
        own, sidecars = PhotoFiles(notes), Sidecars(())
        for count, one in enumerate(mine, start=1):
            try:
                path = _found(one, places)
                if one.embedded and own.put_back(path, one):
                    done.photos.append(path)
                else:
                    _take_back(one, path, own if one.embedded else sidecars, done)
                notes.forget(one.path)
            except (UnusableXmp, InvalidArgument) as error:  # the second: ExifTool is not there
                done.kept.append((str(one.path), str(error)))
            if progress:
                progress(count, len(mine), "files")
    return done


def _photo_files(notes: Notes) -> PhotoFiles:
    """Return photos' own files as holders of keywords.

    Raises:
        InvalidArgument: if ExifTool is not installed.
    """
    files = PhotoFiles(notes)
    files.tool  # noqa: B018  # said before any photo is read
    return files


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


def _take_back(one: Noted, path: Path, holder: Holder, done: TakenBackKeywords) -> None:
    """Take our keywords out of a sidecar, or of a photo's own file that others changed since.

    Raises:
        UnusableXmp: if that can't be done.
        InvalidArgument: if ExifTool is needed and not installed.
    """
    before = holder.read(path)
    if before is None:
        return  # somebody removed it
    was = former_of(before, one)
    if was.base == before and not was.made:
        return  # our keywords are not in it
    holder.replace(path, before, None if was.made else was.base, one, lambda _: None)
    others = one.embedded or was.ours
    (done.cleaned if others else done.removed if was.made else done.restored).append(path)
