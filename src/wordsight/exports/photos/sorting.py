"""Put photos into a folder a class: copied, linked or moved, and taken back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.home import expand
from ...core.names import folder_names, portable, same_file_key
from ...core.progress import Progress, or_notebook
from ...core.summary import Problems, Table, as_html, as_text
from ...datasets.decisions import ReviewBook
from ...errors import InvalidArgument, NotFound
from .filing import Filer, Step
from .journal import COPY, LINK, MOVE, WAYS, Journal, TakenBack, forget_unmade, is_left
from .photo_labels import PhotoLabel, read_photo_labels
from .spreadsheet import as_xlsx, check_xlsx

CHECK, NONE, EMPTY = "_check", "_none", "_empty"
WORKBOOK = "photos.xlsx"
# what cameras and photo programs write beside a photo, under its name or its name without suffix
SIDECARS = {".xmp", ".aae", ".json", ".thm", ".pp3", ".dop", ".on1"}
SHOWN = 20  # files that a dry run lists
LONGEST_NAME = 255  # bytes


@dataclass
class Sorted:
    """Photos that were put into folders, or would be.

    Attributes:
        output: the folder.
        how: "copy", "link" or "move".
        dry_run: whether nothing was done.
        files: (the photo's name, where it lies below `output`) of each, one for each link.
        skipped: (the photo's name, reason) of each photo that could not be sorted.
        copied_bytes: what the copies take that were made.
        spreadsheet: the workbook, or None.
    """

    output: Path
    how: str
    dry_run: bool = False
    files: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    copied_bytes: int = 0
    spreadsheet: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many photos lie in each folder, by its name: classes first, then `_check` and
        `_none`.
        """
        found = Counter(name.rpartition("/")[0] for _, name in self.files)
        return {name: found[name] for name in sorted(found, key=lambda one: (one[:1] == "_", one))}

    @property
    def complete(self) -> bool:
        """Whether every photo could be sorted."""
        return not self.skipped

    def tables(self) -> list[Table]:
        """Return how many photos go into which folder; of a dry run also which."""
        rows = [[f"{name}/", str(count)] for name, count in self.counts.items()]
        tables = [Table(["folder", "photos"], rows)]
        if self.dry_run:
            more = "… and {count} more, listed with --json."
            tables.append(Table(["photo", "would go to"], self.files, most=SHOWN, more=more))
        return tables

    def notes(self) -> list[str]:
        """Return where the photos are, and how to go on."""
        if self.dry_run:
            return ["Nothing was moved. Add --yes to move these photos; --undo moves them back."]
        how = {
            COPY: f"copies, {self.copied_bytes / 2**20:.0f} MiB new",
            LINK: "links to your photos"
            + (f"; {self.copied_bytes / 2**20:.0f} MiB copied" if self.copied_bytes else ""),
            MOVE: "moved here",
        }[self.how]
        notes = [f"Sorted: {self.output}/ ({how}). 'wordsight sort --undo -o {self.output}' takes "
                 "it back."]  # fmt: skip
        return notes + ([f"Spreadsheet: {self.spreadsheet}"] if self.spreadsheet else [])

    def problems(self) -> list[Problems]:
        """Return the photos that could not be sorted."""
        return [Problems("Not sorted", self.skipped, "--json's answer")]

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(f"{len(self.files):,} sorted photos", self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "output": str(self.output),
            "how": self.how,
            "dry_run": self.dry_run,
            "counts": self.counts,
            "files": [{"file_name": photo, "sorted": name} for photo, name in self.files],
            "skipped": [{"file_name": name, "reason": reason} for name, reason in self.skipped],
            "copied_bytes": self.copied_bytes,
            "spreadsheet": None if self.spreadsheet is None else str(self.spreadsheet),
        }


def sort(
    results: str | os.PathLike | ReviewBook,
    output: str | os.PathLike,
    *,
    how: str = COPY,
    dry_run: bool = False,
    xlsx: bool = False,
    photos: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    progress: Progress | None = None,
) -> Sorted:
    """Put photos into a folder a class: the labelled under their class, the doubtful under
    `_check/<best guess>`, those that show none of the classes under `_none`.

    What people decided in a review or by teaching counts before what results say. Nothing is
    overwritten: a second file of a name gets ` (2)`. Files that belong to a photo (`.xmp`, `.aae`,
    `.json`, …) go with it. A journal in the folder makes that a killed run goes on when it is run
    again, and that `exports.undo_sort` takes exactly this back. Run again after other decisions,
    copies and links change their folder; what was moved stays.

    Args:
        results: folder that `run`, `predict` or `recognize` wrote, or a folder of photos that were
            reviewed or taught.
        output: the folder; made if need be.
        how: "copy", "link" (relative, so both folders may go elsewhere together; a photo of several
            labels gets a link in each folder) or "move".
        dry_run: whether to return what would be done, and do nothing.
        xlsx: whether to write `photos.xlsx` there, too: a row a photo with label, status, chance
            that it is right, time taken and who checked it. Needs the extra `xlsx`.
        photos: where the photos of results are, if they were moved.
        progress: called with (done, total, "files").

    Raises:
        NotFound: if there is no such folder of results.
        InvalidArgument: if it holds no results and no labels, photos lie in `output` itself, it was
            sorted in another way before, or the extra `xlsx` is missing.
        OutputError: if it can't be written.
    """
    if how not in WAYS:
        raise InvalidArgument(f"Photos are sorted by one of {', '.join(WAYS)}; got '{how}'.")
    if xlsx:
        check_xlsx()
    progress = or_notebook(progress)
    folder = expand(output)
    journal = Journal(folder)
    journal.check(how)
    found, places = read_photo_labels(results, photos, how == MOVE and bool(journal.entries))
    _refuse_own_photos(places, folder)
    done = Sorted(folder, how, dry_run)
    plan = _Plan(found, journal, how)
    if found and len(plan.skipped) == len(found) and not plan.files:
        name, reason = plan.skipped[0]
        raise InvalidArgument(
            f"None of the {len(found)} photos can be sorted; the first: '{name}': {reason}. "
            "--photos says where they are."
        )
    done.files, done.skipped = plan.files, plan.skipped
    if dry_run:
        return done
    with journal.open(how) as temporary:
        filer = Filer(journal, temporary)
        if xlsx:
            done.spreadsheet = folder / plan.workbook
            # it was written before the first photo was moved, and knows those that are gone
            if not (plan.gone and done.spreadsheet.exists()):
                filer.write(plan.workbook, as_xlsx(plan.known, progress))
        _carry_out(plan, filer, done, progress)
    return done


def undo_sort(output: str | os.PathLike, progress: Progress | None = None) -> TakenBack:
    """Take back what `sort` did in a folder: copies and links are removed, and moved photos go
    where they came from. What was changed since is kept and listed.

    Args:
        output: the folder that photos were sorted into.
        progress: called with (done, total, "files").

    Raises:
        NotFound: if nothing was sorted there.
        InvalidArgument: if another run holds the folder.
        OutputError: if a file can't be moved or removed.
    """
    folder = expand(output)
    journal = Journal(folder)
    if journal.there:
        return journal.take_back(or_notebook(progress))
    if is_left(folder):  # a killed run had taken everything back
        for left in list(folder.iterdir()):
            left.unlink()
        folder.rmdir()
    forget_unmade(folder)
    raise NotFound(f"Nothing was sorted into '{output}': there is no journal of 'wordsight sort'.")


def _refuse_own_photos(places: list[Path], folder: Path) -> None:
    """Refuse to sort into a folder that the photos lie in.

    Raises:
        InvalidArgument: if it is one of `places`, or above one.
    """
    inside = folder.resolve()
    for place in places:
        if place.resolve().is_relative_to(inside):
            raise InvalidArgument(
                f"The photos lie in '{folder}' itself. Choose another folder with -o, such as "
                f"'{folder / 'sorted'}'."
            )


def _carry_out(plan: _Plan, filer: Filer, done: Sorted, progress: Progress | None) -> None:
    """Do all steps of a plan, and note in `done` what could not be done."""
    failed: dict[str, str] = {}
    for count, (step, why) in enumerate(_steps(plan.steps, filer, done.how), start=1):
        if why is not None:
            failed[step.name] = why
            done.skipped.append((step.photo or step.source.name, why))
        if progress:
            progress(count, len(plan.steps), "files")
    done.files = [(photo, name) for photo, name in done.files if name not in failed]
    for name in plan.stale:
        filer.drop(name)
    done.copied_bytes = filer.copied_bytes


def _steps(steps: list[Step], filer: Filer, how: str) -> Iterator[tuple[Step, str | None]]:
    """Do steps; yield each with None, or with why it could not be done."""
    if how == MOVE:
        yield from filer.move(steps)
        return
    for step in steps:
        yield step, filer.link(step) if how == LINK else filer.copy(step)


class _Plan:
    """Which file goes where.

    Args:
        found: what is known of each photo.
        journal: of the folder to sort into.
        how: "copy", "link" or "move".

    Attributes:
        steps: what is still to be done.
        files: (the photo's name, where it lies or will lie) of each.
        skipped: (the photo's name, reason) of each photo that can't be sorted.
        stale: names of files of ours that are not wanted any more.
        gone: whether photos were moved before, of which `found` says less than was known then.
        known: `found`, with the places of photos that were moved.
        workbook: what the spreadsheet is called.
    """

    def __init__(self, found: list[PhotoLabel], journal: Journal, how: str) -> None:
        self.steps: list[Step] = []
        self.files: list[tuple[str, str]] = []
        self.skipped: list[tuple[str, str]] = []
        self._journal, self._how = journal, how
        self._root = journal.folder.resolve()
        self._folders = _folders_of(found)
        self._earlier: dict[Path, list[str]] = {}
        self._photos: dict[str, Path] = {}  # name in the results -> where it was moved from
        for entry in journal.entries.values():
            self._earlier.setdefault(entry.source, []).append(entry.name)
            if entry.photo:
                self._photos[entry.photo] = entry.source
        self._taken: set[str] = set()  # names that are given, as file systems compare them
        self._number: dict[tuple[str, str], int] = {}  # of the last file of a name in a folder
        self._wanted: dict[Path, set[str]] = {}
        self._listed: dict[Path, dict[str, list[str]]] = {}  # sidecars, by folder
        self.workbook = self._free_name("", WORKBOOK, own=True)
        for one in found:
            self._add(one)
        self.gone = how == MOVE and (self._add_moved() or any(one.path is None for one in found))
        places = dict(self.files)
        self.known = [
            replace(one, path=journal.folder / places[one.file_name])
            if one.path is None and one.file_name in places
            else one
            for one in found
        ]
        self.stale = [
            name
            for source, names in self._wanted.items()
            for name in self._earlier.get(source, ())
            if name not in names and how != MOVE
        ]

    def _add(self, one: PhotoLabel) -> None:
        """Plan for one photo and what belongs to it."""
        if one.status == "unreadable":
            self.skipped.append((one.file_name, one.error or "can't be read"))
            return
        path = one.path
        if path is None and self._how == MOVE:
            path = self._photos.get(one.file_name)
        if path is None:
            self.skipped.append((one.file_name, "the photo is not there any more"))
            return
        if path.resolve().is_relative_to(self._root):
            return  # it was sorted already
        source = Path(os.path.abspath(path))
        besides = self._sidecars(source)
        for folder in self._destinations(one):
            name = self._placed(source, folder, besides)
            self.files.append((one.file_name, name))
            self._want(Step(source, name, one.file_name))
            for beside in besides:
                self._want(Step(beside, _beside(name, source.name, beside.name)))

    def _add_moved(self) -> bool:
        """Add the photos that earlier runs moved and that are not found any more; return whether
        there are any.
        """
        known = {name for _, name in self.files}
        gone = [
            (entry.photo, entry.name)
            for entry in self._journal.entries.values()
            if entry.photo
            and entry.name not in known
            and os.path.lexists(self._journal.folder / entry.name)
        ]
        self.files += gone
        return bool(gone)

    def _destinations(self, one: PhotoLabel) -> list[str]:
        """Return the folders that a photo goes into."""
        if one.labels:
            labels = one.labels if self._how == LINK else one.labels[:1]
            return [self._folders[label] for label in labels]
        if one.status == "unsure":
            return [f"{CHECK}/{self._folders[one.guess]}" if one.guess else CHECK]
        return [EMPTY if one.status == "empty" else NONE]

    def _placed(self, source: Path, folder: str, besides: list[Path]) -> str:
        """Return where a photo lies already, or a free name in a folder."""
        for name in self._earlier.get(source, ()):
            moved = self._how == MOVE and os.path.lexists(self._journal.folder / name)
            if name.rpartition("/")[0] == folder or moved:
                self._taken.add(same_file_key(name))
                return name
        return self._free_name(folder, source.name, besides)

    def _free_name(
        self, folder: str, name: str, besides: Iterable[Path] = (), own: bool = False
    ) -> str:
        """Return a name in a folder that is free, and so are the names of what belongs to it.

        Args:
            folder: relative to the folder to sort into; "" for that itself.
            name: what the file is called.
            besides: what belongs to it.
            own: whether a file of ours of that name counts as free.
        """
        stem, suffix = os.path.splitext(portable(name))
        key = (folder, same_file_key(name))
        number = self._number.get(key, 0)
        while True:
            number += 1
            more = "" if number == 1 else f" ({number})"
            while len(os.fsencode(stem + more + suffix)) > LONGEST_NAME:
                # a suffix may be all of a name; what it is goes last
                stem, suffix = (stem[:-1], suffix) if len(stem) > 1 else (stem, suffix[:-1])
            chosen = f"{folder}/{stem}{more}{suffix}".lstrip("/")
            names = [chosen, *(_beside(chosen, name, beside.name) for beside in besides)]
            if all(self._is_free(one, own) for one in names):
                break
        self._number[key] = number
        self._taken.update(map(same_file_key, names))
        return chosen

    def _is_free(self, name: str, own: bool) -> bool:
        journal, there = self._journal, os.path.lexists(self._journal.folder / name)
        if own and name in journal.entries:
            return not there or journal.is_ours(name)
        known = same_file_key(name) in self._taken or name in journal.entries
        return not known and not there

    def _want(self, step: Step) -> None:
        """Plan a step unless it is done already."""
        self._wanted.setdefault(step.source, set()).add(step.name)
        if not self._is_done(step):
            self.steps.append(step)

    def _is_done(self, step: Step) -> bool:
        """Whether a file lies there already, as it is now or as somebody changed it."""
        journal, target = self._journal, self._journal.folder / step.name
        if step.name not in journal.entries or not os.path.lexists(target):
            return False
        if self._how == MOVE:
            return not os.path.lexists(step.source)
        if self._how == LINK and target.is_symlink():
            return True
        new, old = step.source.stat(), target.stat()
        same = (new.st_size, new.st_mtime_ns) == (old.st_size, old.st_mtime_ns)
        return same or not journal.is_ours(step.name)

    def _sidecars(self, photo: Path) -> list[Path]:
        """Return the files that belong to a photo. Two photos may share one; then it is moved with
        the first.
        """
        parent = photo.parent
        if parent not in self._listed:
            self._listed[parent] = _sidecars_in(parent)
        known = self._listed[parent]
        of_stem = [
            name for name in known.get(photo.stem, ()) if os.path.splitext(name)[0] == photo.stem
        ]
        own = dict.fromkeys([*of_stem, *known.get(photo.name, ())])
        given = [name for name in own if self._how != MOVE or (parent / name) not in self._wanted]
        return [parent / name for name in given]


def _sidecars_in(folder: Path) -> dict[str, list[str]]:
    """Return the names of sidecars in a folder, by each beginning that ends before a dot."""
    found: dict[str, list[str]] = {}
    with suppress(OSError):  # the photo can't be read, either, which is listed
        for name in sorted(os.listdir(folder)):
            if os.path.splitext(name)[1].lower() in SIDECARS:
                for at, sign in enumerate(name):
                    if sign == ".":
                        found.setdefault(name[:at], []).append(name)
    return found


def _folders_of(found: list[PhotoLabel]) -> dict[str, str]:
    """Return the folder's name of each class."""
    names = {label for one in found for label in one.labels}
    names |= {one.guess for one in found if one.guess is not None}
    return folder_names(sorted(names), (CHECK, NONE, EMPTY))


def _beside(name: str, photo: str, beside: str) -> str:
    """Return what a file that belongs to a photo is called beside the photo's new name."""
    folder, slash, new = name.rpartition("/")
    if beside.startswith(f"{photo}."):
        return f"{folder}{slash}{new}{beside[len(photo) :]}"
    stem = os.path.splitext(new)[0]
    return f"{folder}{slash}{stem}{beside[len(os.path.splitext(photo)[0]) :]}"
