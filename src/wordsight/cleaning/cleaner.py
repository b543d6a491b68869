"""Clean a data set in two steps: look at every image (`material.look`), then `decide` what should
go, and why. On request, set it aside or put it back.

Only `apply` and `undo` touch the data set. They move files and delete none.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..core import cells
from ..core.home import atomic_text, expand, write_atomic, writing
from ..core.names import is_relative
from ..core.notebook import frame
from ..core.progress import Progress, or_notebook
from ..core.regular import open_text, read_regular, read_text
from ..core.result_folder import ResultFolder
from ..core.summary import Problems, Table, as_html, text_of
from ..datasets.files import LabelledSet, data_root, read_labelled
from ..datasets.remote import Place
from ..errors import InvalidArgument, NotFound
from ..images.contact_sheet import contact_sheet
from ..reports.notebook_gallery import gallery
from ..reports.page import check_report_target
from .balance import redundant
from .checks import Finding, list_checks, run_checks
from .material import LookedAt, look, material_of
from .report import write_cleaning_report

if TYPE_CHECKING:
    import pandas


MIN_SIZE = 224
MANIFEST = ".wordsight-clean.json"
BEFORE = ".metadata-before.csv"


@dataclass
class Cleaning:
    """What was found in a data set.

    Attributes:
        data: folder of the data set, or its address in an object store.
        output: folder or address of the report, or None.
        findings: ordered by reason and falling score.
        classes: class name -> images, before anything goes.
        moved: names of the files that were set aside, if that was asked for.
        rejected: folder of the files that were set aside, or None.
        unused: (name, reason) of each folder that can't be read.
    """

    data: Path | str
    output: Path | str | None
    findings: list[Finding]
    classes: dict[str, int]
    moved: list[str] = field(default_factory=list)
    rejected: Path | None = None
    unused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return reason -> findings, in the order of the reasons."""
        counted = Counter(finding.reason for finding in self.findings)
        return {reason: counted[reason] for reason in list_checks() if counted[reason]}

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns of findings.csv, one row for each finding."""
        return frame(
            (asdict(finding) for finding in self.findings),
            [field.name for field in fields(Finding)],
        )

    def _repr_html_(self) -> str:
        files = len({finding.file_name for finding in self.findings})
        shown = (
            (f"{f.reason}: {f.file_name}", self.data / f.file_name)
            for f in self.findings
            if isinstance(self.data, Path)
        )
        title = (
            f"{files:,} of {sum(self.classes.values()):,} files named, {len(self.moved):,} moved"
        )
        return as_html(title, self, gallery(shown))

    @property
    def complete(self) -> bool:
        """Whether every folder could be read; to find something is no failure."""
        return not self.unused

    def tables(self) -> list[Table]:
        """Return how many files were found for each reason."""
        meaning = list_checks()
        rows = [[reason, str(count), meaning[reason]] for reason, count in self.counts.items()]
        return [Table(["reason", "files", "meaning"], rows, "Nothing was found.")]

    def notes(self) -> list[str]:
        """Return the sizes of the classes, where the report is, and what was moved."""
        largest, smallest = max(self.classes.values()), min(self.classes.values())
        sizes = ", ".join(f"{name} {count}" for name, count in self.classes.items())
        uneven = (
            f"; the largest is {largest / smallest:.1f} times the smallest (--balance evens "
            "them out)."
        )
        notes = [f"Classes: {sizes}{uneven if largest > 2 * smallest else '.'}"]
        if isinstance(self.output, str):  # in an object store
            return [*notes, f"Findings: {self.output}/findings.csv, summary.json"]
        notes.append(
            f"Report: {self.output}/report.html (open it in a browser), findings.csv "
            "and a contact sheet a reason"
        )
        if self.rejected:
            notes.append(
                f"Set aside: {len(self.moved)} files, in {self.rejected}; --undo puts them back."
            )
        elif self.findings:
            notes.append(
                "Nothing was moved. --apply sets the files aside, --reasons chooses among them."
            )
        return notes

    def problems(self) -> list[Problems]:
        """Return the folders that can't be read; files that can't be are findings."""
        return [Problems("Not looked at", self.unused, "--json's answer")]

    def to_dict(self) -> dict:
        """Return everything but the findings themselves, ready for JSON."""
        flagged = {
            (finding.file_name, finding.label)
            for finding in self.findings
            if finding.reason != "not_a_picture"
        }
        gone = Counter(label for _, label in flagged)
        return {
            "data": str(self.data),
            "output": text_of(self.output),
            "findings": self.counts,
            "files": len({finding.file_name for finding in self.findings}),
            "classes": self.classes,
            "classes_without_findings": {
                name: count - gone[name] for name, count in self.classes.items()
            },
            "moved": len(self.moved),
            "rejected": text_of(self.rejected),
            "unused": [{"file_name": name, "reason": reason} for name, reason in self.unused],
        }


@dataclass
class CleaningOptions:
    """How a data set is cleaned: the options of `clean`, with its defaults, checked when made.

    Attributes:
        wanted: the reasons asked for; all if `reasons` is None.

    Raises:
        InvalidArgument: if there is no such reason, or the smallest size is out of range.
    """

    apply: bool = False
    reasons: Iterable[str] | None = None
    min_size: int = MIN_SIZE
    balance: bool = False
    backbone: str | Backbone = DEFAULT_BACKBONE
    wanted: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.wanted = check_reasons(self.reasons)
        check_min_size(self.min_size)


@dataclass(frozen=True)
class CleaningTask:
    """A data set to clean, and where the report goes; checked before any work.

    Attributes:
        labelled: the images and their classes.
        data: folder of the data set, or its address in an object store.
        output: folder of the report; a text for a data set in an object store.
        options: how it is cleaned.
    """

    labelled: LabelledSet
    data: Path | str
    output: Path | str
    options: CleaningOptions


def clean(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    *,
    apply: bool = False,
    reasons: Iterable[str] | None = None,
    min_size: int = MIN_SIZE,
    balance: bool = False,
    backbone: str | Backbone = DEFAULT_BACKBONE,
    progress: Progress | None = None,
) -> Cleaning:
    """Look for images that should not be in a data set, and report them.

    Writes `report.html`, `findings.csv` (a row for each file and reason), a contact sheet for each
    reason with the clearest first, and `summary.json`.

    Args:
        data: a folder with one subfolder a class, one with metadata.csv, or a CSV with file_name
            and label.
        output: folder of the report; by default beside the data, `<data>-clean-report`.
        apply: move what was found to `<data>-rejected` beside the data; `undo` puts it back.
        reasons: only these (`list_checks()`); by default all.
        min_size: shortest side in pixels below which an image is too small.
        balance: bring all classes down to the smallest, the most redundant images first (reason
            `redundant`).
        backbone: the network whose embeddings are used.
        progress: called with (done, total, "pictures" or "findings").

    Raises:
        NotFound, InvalidArgument: if there is no such data set, or no such reason.
        OutputError: if the report can't be written, or a file can't be moved.
    """
    progress = or_notebook(progress)
    options = CleaningOptions(apply, reasons, min_size, balance, backbone)
    task = folder_task(data, output, options)
    embedder = Embedder(load_backbone(backbone))
    return decide(task, look(task.labelled.images, embedder, progress), progress)


def folder_task(
    data: str | os.PathLike, output: str | os.PathLike | None, options: CleaningOptions
) -> CleaningTask:
    """Return what is to be cleaned of a data set on disk; see `clean`.

    Raises:
        NotFound, InvalidArgument: if there is no such data set, or the report can't go there.
    """
    labelled = read_labelled(data, min_classes=1)
    root = data_root(data)
    target = root.with_name(f"{root.name}-clean-report") if output is None else expand(output)
    if target.resolve().is_relative_to(root):
        raise InvalidArgument(
            "The report can't lie inside the data set, where it would be read as a class; got "
            f"'{target}'. Choose another folder with -o."
        )
    check_report_target(target)
    return CleaningTask(labelled, root, target, options)


def decide(task: CleaningTask, seen: list[LookedAt], progress: Progress | None) -> Cleaning:
    """Decide what should go, from what was seen of each image; report it, and set it aside if the
    options say so.

    The report of a data set in an object store is findings.csv and summary.json alone.

    Args:
        task: the data set.
        seen: what was seen of each of its images, in order.
        progress: called with (done, total, "findings").

    Raises:
        OutputError: if the report can't be written, or a file can't be moved.
    """
    options, labelled = task.options, task.labelled
    material = material_of(labelled, seen, options.min_size, load_backbone(options.backbone))
    findings = [finding for finding in run_checks(material) if finding.reason in options.wanted]
    if options.balance:
        findings += redundant(material, findings)
    counts = Counter(image.label for image in labelled.images)
    classes = {name: counts[name] for name in labelled.class_names}
    result = Cleaning(task.data, task.output, findings, classes, unused=labelled.unused)
    _write_tables(result, Place(task.output))
    if isinstance(task.output, Path):
        with writing(task.output):
            _draw_sheets(result, task.output)
        write_cleaning_report(result, options.apply, progress)
    if options.apply:
        set_aside(result)
    return result


def set_aside(result: Cleaning) -> None:
    """Move the files of all findings to the folder beside the data set. Each is noted first, so
    that `undo` finds it.

    Raises:
        InvalidArgument: if the folder holds other files, or a file of the same name.
        OutputError: if a file can't be moved.
    """
    root = result.data
    assert isinstance(root, Path)
    rejected = root.with_name(f"{root.name}-rejected")
    names = sorted(
        {finding.file_name for finding in result.findings if (root / finding.file_name).is_file()}
    )
    target = ResultFolder(
        rejected,
        judge=lambda _: (rejected / MANIFEST).exists(),
        is_file="'{folder}' is a file. Move it away first.",
        not_ours="'{folder}' holds files that were not set aside by wordsight. Move it away first.",
    )
    with writing(rejected):
        target.claim()
    with target.locked(), writing(rejected):
        taken = [name for name in names if (rejected / name).exists()]
        if taken:
            raise InvalidArgument(
                f"'{rejected / taken[0]}' is there already, so nothing was moved. Put back "
                "what was set aside (--undo) first."
            )
        manifest = _read_manifest(rejected) or {"moved": [], "metadata_sha": None}
        manifest["moved"] = sorted({*manifest["moved"], *names})
        _rewrite_metadata(root, rejected, set(names), manifest)
        for name in names:
            (rejected / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(root / name, rejected / name)
    result.moved, result.rejected = names, rejected


def undo(data: str | os.PathLike) -> list[str]:
    """Put everything that `clean(apply=True)` set aside back exactly where it was; return the
    names.

    Raises:
        NotFound: if nothing was set aside.
        InvalidArgument: if another file has taken a place meanwhile. Then nothing is moved.
    """
    root = data_root(data)
    rejected = root.with_name(f"{root.name}-rejected")
    manifest = _read_manifest(rejected)
    if manifest is None:
        raise NotFound(
            f"Nothing was set aside from '{root}': there is no '{rejected}' of wordsight's."
        )
    names = [name for name in manifest["moved"] if (rejected / name).is_file()]
    taken = [name for name in names if (root / name).exists()]
    if taken:
        raise InvalidArgument(
            f"'{root / taken[0]}' is there again, so nothing was put back. Move it away first."
        )
    with ResultFolder(rejected).locked(), writing(root):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(rejected / name, root / name)
        before = rejected / BEFORE
        if before.is_file():
            if _sha(root / "metadata.csv") == manifest["metadata_sha"]:
                os.replace(before, root / "metadata.csv")
            else:
                _return_rows(
                    root / "metadata.csv",
                    before,
                    {name for name in manifest["moved"] if (root / name).exists()},
                )
                before.unlink()
        (rejected / MANIFEST).unlink()
    with writing(root):
        for folder in sorted(
            {
                path
                for name in names
                for path in (rejected / name).parents
                if path.is_relative_to(rejected)
            },
            reverse=True,
        ):
            if not any(folder.iterdir()):
                folder.rmdir()
    return names


def check_min_size(min_size: int) -> None:
    """Refuse a smallest size out of range.

    Raises:
        InvalidArgument: if it is not 1 to 10,000 pixels.
    """
    if not 1 <= min_size <= 10_000:
        raise InvalidArgument(f"The smallest size must be 1 to 10000 pixels, got {min_size}.")


def check_reasons(reasons: Iterable[str] | None) -> set[str]:
    """Return the reasons asked for, or all if `reasons` is None.

    Raises:
        InvalidArgument: if there is no such reason.
    """
    known = list_checks()
    wanted = set(known) if reasons is None else {reason.strip() for reason in reasons}
    strange = sorted(wanted - set(known))
    if strange or not wanted:
        raise InvalidArgument(
            f"Unknown reason '{strange[0] if strange else ''}'. Choose of: {', '.join(known)}."
        )
    return wanted


def _draw_sheets(result: Cleaning, folder: Path) -> None:
    """Draw a contact sheet for each reason, and remove one that an earlier run left."""
    assert isinstance(result.data, Path)
    for reason in list_checks():
        sheet = folder / f"{reason}.png"
        found = [finding for finding in result.findings if finding.reason == reason]
        drawn = contact_sheet(
            result.data,
            [
                (f.file_name, f"{f.score:.3f} {f.suggested_label or ''}".strip(), f.evidence)
                for f in found
            ],
            reason,
        )
        if drawn:
            write_atomic(sheet, drawn)
        else:
            sheet.unlink(missing_ok=True)


def _write_tables(result: Cleaning, place: Place) -> None:
    """Write findings.csv and summary.json, on disk or in an object store."""
    text = io.StringIO()
    rows = cells.writer(text)
    rows.writerow([column.name for column in fields(Finding)])
    rows.writerows(astuple(finding) for finding in result.findings)
    summary = json.dumps(result.to_dict(), indent=1, ensure_ascii=False)
    place.write("findings.csv", text.getvalue().encode("utf-8", "surrogateescape"))
    place.write("summary.json", summary.encode("utf-8", "surrogateescape"))


def _read_manifest(rejected: Path) -> dict | None:
    try:
        manifest = json.loads(read_text(rejected / MANIFEST, errors="surrogateescape"))
        names = [name for name in manifest["moved"] if is_relative(name)]
        return {"moved": names, "metadata_sha": manifest["metadata_sha"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _rewrite_metadata(root: Path, rejected: Path, names: set[str], manifest: dict) -> None:
    """Remove the rows of files that go from metadata.csv, and keep the old table beside the files.
    The manifest is written first.
    """
    table = root / "metadata.csv"
    lines: list[list[str]] = []
    if table.is_file():
        with open_text(table, "utf-8-sig", "surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
        at = rows[0].index("file_name") if rows and "file_name" in rows[0] else None
        if at is not None and any(
            len(row) > at and cells.unguard(row[at]) in names for row in rows
        ):
            lines = [row for row in rows if len(row) <= at or cells.unguard(row[at]) not in names]
    if lines and not (rejected / BEFORE).exists():
        write_atomic(rejected / BEFORE, read_regular(table))
    _write_manifest(rejected, manifest)
    if lines:
        with atomic_text(table) as text:
            csv.writer(text).writerows(lines)
        manifest["metadata_sha"] = _sha(table)
        _write_manifest(rejected, manifest)


def _write_manifest(rejected: Path, manifest: dict) -> None:
    write_atomic(
        rejected / MANIFEST,
        json.dumps(manifest, indent=1, ensure_ascii=False).encode("utf-8", "surrogateescape"),
    )


def _return_rows(table: Path, before: Path, names: set[str]) -> None:
    """Add the rows of files that are back to a table that was changed since, or whose change was
    cut short.
    """
    with open_text(table, "utf-8-sig", "surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        columns, now = list(reader.fieldnames or []), list(reader)
    gone = names - {cells.unguard(row.get("file_name") or "") for row in now}
    with open_text(before, "utf-8-sig", "surrogateescape", newline="") as file:
        back = [
            row for row in csv.DictReader(file) if cells.unguard(row.get("file_name") or "") in gone
        ]
    with atomic_text(table) as text:
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted([*now, *back], key=lambda row: row["file_name"]))


def _sha(path: Path) -> str | None:
    return hashlib.sha256(read_regular(path)).hexdigest() if path.is_file() else None
