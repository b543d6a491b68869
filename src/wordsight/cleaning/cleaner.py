"""Clean a data set in two steps: look at every image (`material.look`), then `decide` what should
go, and why. On request, set it aside or put it back.

Only `apply` and `undo` touch the data set. They move files and delete none.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..backbones.backbone import DEFAULT_BACKBONE, Backbone
from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..core import cells
from ..core.home import expand
from ..core.notebook import frame
from ..core.progress import Progress, or_notebook
from ..core.regular import open_text
from ..core.result_folder import ResultFolder
from ..core.summary import Problems, Table, as_html, as_text, text_of
from ..datasets.files import data_root
from ..datasets.labelled import LabelledSet, read_labelled
from ..datasets.remote import Place
from ..errors import InvalidArgument
from ..images.contact_sheet import contact_sheet
from ..reports.notebook_gallery import gallery
from ..reports.page import is_report, pages_there
from .balance import redundant
from .checks import Finding, list_checks, run_checks
from .material import LookedAt, look, material_of
from .report import report_pages
from .setting_aside import set_aside, undo_unfinished

if TYPE_CHECKING:
    import pandas


MIN_SIZE = 224
TABLES = ("summary.json", "findings.csv")


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

    def __repr__(self) -> str:
        return as_text(self)

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
    root = data_root(data)
    if options.apply:
        undo_unfinished(root)
    labelled = read_labelled(data, min_classes=1)
    target = root.with_name(f"{root.name}-clean-report") if output is None else expand(output)
    if target.resolve().is_relative_to(root):
        raise InvalidArgument(
            "The report can't lie inside the data set, where it would be read as a class; got "
            f"'{target}'. Choose another folder with -o."
        )
    folder = _report_folder(target)
    folder.claim(_report_names(target))
    return CleaningTask(labelled, root, target, options)


def decide(task: CleaningTask, seen: Iterable[LookedAt], progress: Progress | None) -> Cleaning:
    """Decide what should go, from what was seen of each image; report it, and set it aside if the
    options say so.

    The report of a data set in an object store is findings.csv and summary.json alone.

    Args:
        task: the data set.
        seen: what was seen of each of its images, in order; read once.
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
    if isinstance(task.output, Path):
        files = [*_sheets(result), *report_pages(result, options.apply, progress), *_tables(result)]
        _report_folder(task.output).write(files, _report_names(task.output), TABLES)
    else:
        for name, data in _tables(result):
            Place(task.output).write(name, data)
    if options.apply:
        assert isinstance(task.data, Path)
        result.moved, result.rejected = set_aside(
            task.data, [finding.file_name for finding in findings]
        )
    return result


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


def _report_folder(target: Path) -> ResultFolder:
    return ResultFolder(target, "cleaning", adopt=lambda path: _by_earlier_version(path, target))


def _report_names(target: Path) -> list[str]:
    """Return the names of all files that a report may have."""
    return [*TABLES, *(f"{reason}.png" for reason in list_checks()), *pages_there(target)]


def _by_earlier_version(path: Path, target: Path) -> bool:
    """Whether 0.1.0 wrote a file of a report, which has our table of findings."""
    columns = ",".join(column.name for column in fields(Finding))
    try:
        with open_text(target / TABLES[1], errors="replace") as file:
            ours = file.readline(len(columns) + 2).strip() == columns
    except OSError:
        return False
    return ours and (path.suffix != ".html" or is_report(path))


def _sheets(result: Cleaning) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a contact sheet for each reason that was found."""
    assert isinstance(result.data, Path)
    for reason in list_checks():
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
            yield f"{reason}.png", drawn


def _tables(result: Cleaning) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of summary.json and findings.csv."""
    text = io.StringIO()
    rows = cells.writer(text)
    rows.writerow([column.name for column in fields(Finding)])
    rows.writerows(astuple(finding) for finding in result.findings)
    summary = json.dumps(result.to_dict(), indent=1, ensure_ascii=False)
    yield TABLES[0], summary.encode("utf-8", "surrogateescape")
    yield TABLES[1], cells.table_bytes(text.getvalue())
