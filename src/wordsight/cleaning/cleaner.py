"""Clean a data set: look at every image once, say what should go and why, and on request set it
aside or put it back.

The data set itself is only touched by `apply` and `undo`, which move files and delete none.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backbones.embedder import Embedder, read
from ..backbones.registry import DEFAULT_BACKBONE, Backbone, load_backbone
from ..backbones.runtime import callers
from ..core.home import atomic_text, expand, write_atomic, writing
from ..core.notebook import block, frame, line, table
from ..core.progress import Progress, or_notebook
from ..core.result_folder import ResultFolder
from ..core.threads import parallel_map
from ..datasets.files import ImageFile, LabelledSet, data_root, read_labelled
from ..errors import InvalidArgument, NotFound, UnreadableImage
from ..images.contact_sheet import contact_sheet
from ..images.decoding import decode, frame_count
from ..images.measures import KEY, Measures, measure
from ..reports.notebook_gallery import gallery
from ..reports.page import check_report_target
from .balance import redundant
from .checks import Finding, Material, list_checks, run_checks
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
        data: the data set; an address where it lies in an object store.
        output: folder of the report, likewise, or None.
        findings: by reason and falling score.
        classes: class name -> images, before anything goes.
        moved: names of the files that were set aside or put back, if that was asked for.
        rejected: where files are set aside.
    """

    data: Path | str
    output: Path | str | None
    findings: list[Finding]
    classes: dict[str, int]
    moved: list[str] = field(default_factory=list)
    rejected: Path | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Return reason -> findings, in the order of the reasons."""
        counted = Counter(finding.reason for finding in self.findings)
        return {reason: counted[reason] for reason in list_checks() if counted[reason]}

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with the columns of findings.csv, a row a finding."""
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
        return block(
            title,
            table(["reason", "findings"], self.counts.items(), len(self.counts)),
            gallery(shown),
            line(f"Report: {self.output}"),
        )

    def as_json(self) -> dict:
        """Return everything but the findings themselves, ready for JSON."""
        flagged = {
            (finding.file_name, finding.label)
            for finding in self.findings
            if finding.reason != "not_a_picture"
        }
        gone = Counter(label for _, label in flagged)
        return {
            "data": str(self.data),
            "output": str(self.output) if self.output else None,
            "findings": self.counts,
            "files": len({finding.file_name for finding in self.findings}),
            "classes": self.classes,
            "classes_without_findings": {
                name: count - gone[name] for name, count in self.classes.items()
            },
            "moved": len(self.moved),
            "rejected": str(self.rejected) if self.rejected else None,
        }


def clean(
    data: str | os.PathLike,
    output: str | os.PathLike | None = None,
    apply: bool = False,
    reasons: Iterable[str] | None = None,
    min_size: int = MIN_SIZE,
    balance: bool = False,
    backbone: str = DEFAULT_BACKBONE,
    engine: str = "auto",
    dtype: str = "f32",
    progress: Progress | None = None,
    look: Callable[[LabelledSet, Path], list[LookedAt]] | None = None,
) -> Cleaning:
    """Look for images that should not be in a data set, and report them.

    Writes `report.html`, `findings.csv` (one row a file and reason), a contact sheet a reason with
    the clearest first, and `summary.json`.

    Args:
        data: a folder with one subfolder a class, one with metadata.csv, or a CSV with file_name
            and label.
        output: folder of the report; by default beside the data, `<data>-clean-report`.
        apply: move what was found to `<data>-rejected` beside the data; `undo` puts it back.
        reasons: only these (`list_checks()`); by default all.
        min_size: shortest side in pixels under which an image is too small.
        balance: bring all classes down to the smallest, the most redundant images first (reason
            `redundant`).
        backbone: whose embeddings are used.
        engine: "auto", "openvino" or "torch".
        dtype: "f32" or "bf16".
        progress: called with (done, total, "images" or "findings").
        look: looks at every image of a set, in order, given the report's folder, too; by default
            this process does.

    Raises:
        NotFound, InvalidArgument: there is no such data set, or no such reason.
        OutputError: the report can't be written, or a file not be moved.
    """
    progress = or_notebook(progress)
    wanted = check_reasons(reasons)
    labelled = read_labelled(data, min_classes=1)
    root = data_root(data)
    target = root.with_name(f"{root.name}-clean-report") if output is None else expand(output)
    if target.resolve().is_relative_to(root):
        raise InvalidArgument(
            "The report can't lie inside the data set, where it would be read as a class; got "
            f"'{target}'. Choose another folder with -o."
        )
    check_min_size(min_size)
    check_report_target(target)
    if look is None:
        material = gather_material(
            labelled, min_size, Embedder(load_backbone(backbone), engine, dtype), progress
        )
    else:
        material = material_of(labelled, look(labelled, target), min_size, load_backbone(backbone))
    findings = [finding for finding in run_checks(material) if finding.reason in wanted]
    if balance:
        findings += redundant(material, findings)
    counts = Counter(image.label for image in labelled.images)
    result = Cleaning(root, target, findings, {name: counts[name] for name in labelled.class_names})
    with writing(target):
        _write_report(result)
    write_cleaning_report(result, apply, progress)
    if apply:
        set_aside(result)
    return result


@dataclass(frozen=True)
class LookedAt:
    """What cleaning knows of one image.

    Attributes:
        sha256: of the file, 64 hex digits, or None where it could not be read.
        error: why it could not be decoded, else None.
        measures: what was measured, or None.
        embedding: (C,) float32, or None.
    """

    sha256: str | None
    error: str | None
    measures: Measures | None
    embedding: np.ndarray | None


def look_at(file: ImageFile, embedder: Embedder) -> LookedAt:
    """Read, measure and embed one image, decoded at most once and not at all where both are
    cached.
    """
    sha = None
    try:
        data, sha = read(file)
        packed, embedding = (
            embedder.cache.get_bytes(sha, KEY),
            embedder.cache.get(sha, embedder.key),
        )
        if packed is None or embedding is None:
            photo = decode(data)
            if packed is None:
                packed = measure(photo, frame_count(data)).pack()
                embedder.cache.put_bytes(sha, KEY, packed)
            if embedding is None:
                embedding = embedder.encode(photo).embedding
                embedder.cache.put(sha, embedder.key, embedding)
    except UnreadableImage as error:
        return LookedAt(sha.hex() if sha else None, str(error), None, None)
    return LookedAt(sha.hex(), None, Measures.unpack(packed), embedding)


def gather_material(
    labelled: LabelledSet, min_size: int, embedder: Embedder, progress: Progress | None
) -> Material:
    """Look at every image, in this process."""
    seen = []
    try:
        for one in parallel_map(
            lambda file: look_at(file, embedder), labelled.images, callers(embedder.engine)
        ):
            seen.append(one)
            if progress:
                progress(len(seen), len(labelled.images), "pictures")
    finally:
        embedder.cache.close()
    return material_of(labelled, seen, min_size, embedder.backbone)


def material_of(
    labelled: LabelledSet, seen: list[LookedAt], min_size: int, backbone: Backbone
) -> Material:
    """Put together what checks look at; `seen` goes with the images."""
    try:
        imagenet = backbone.imagenet_head()
    except InvalidArgument:  # a backbone that knows no words
        imagenet = None
    width = next((len(one.embedding) for one in seen if one.embedding is not None), 0)
    rows = np.zeros((len(seen), width), dtype=np.float32)
    for row, one in zip(rows, seen, strict=True):
        if one.embedding is not None:
            row[:] = one.embedding
    place = {name: number for number, name in enumerate(labelled.class_names)}
    labels = np.array([place[str(image.label)] for image in labelled.images], dtype=int)
    shas, errors, measures = (
        [one.sha256 for one in seen],
        [one.error for one in seen],
        [one.measures for one in seen],
    )
    return Material(
        labelled.images,
        labelled.class_names,
        labels,
        shas,
        errors,
        measures,
        rows,
        imagenet,
        labelled.skipped,
        min_size,
    )


def set_aside(result: Cleaning) -> None:
    """Move the files of all findings to the folder beside the data set, noting each first, so
    that `undo` finds it.
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
    """Put everything back that `clean(apply=True)` set aside, exactly where it was; return the
    names.

    Raises:
        NotFound: nothing was set aside.
        InvalidArgument: another file has taken a place meanwhile; nothing is moved.
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
    """Refuse a smallest size that means nothing.

    Raises:
        InvalidArgument: it is out of range.
    """
    if not 1 <= min_size <= 10_000:
        raise InvalidArgument(f"The smallest size must be 1 to 10000 pixels, got {min_size}.")


def check_reasons(reasons: Iterable[str] | None) -> set[str]:
    """Return the reasons asked for; all where none are named.

    Raises:
        InvalidArgument: there is no such reason.
    """
    known = list_checks()
    wanted = set(known) if reasons is None else {reason.strip() for reason in reasons}
    strange = sorted(wanted - set(known))
    if strange or not wanted:
        raise InvalidArgument(
            f"Unknown reason '{strange[0] if strange else ''}'. Choose of: {', '.join(known)}."
        )
    return wanted


def _write_report(result: Cleaning) -> None:
    assert isinstance(result.output, Path) and isinstance(result.data, Path)
    result.output.mkdir(parents=True, exist_ok=True)
    with atomic_text(result.output / "findings.csv") as file:
        writer = csv.writer(file)
        writer.writerow([column.name for column in fields(Finding)])
        writer.writerows(astuple(finding) for finding in result.findings)
    for reason in list_checks():
        sheet = result.output / f"{reason}.png"
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
    write_atomic(
        result.output / "summary.json",
        json.dumps(result.as_json(), indent=1, ensure_ascii=False).encode(
            "utf-8", "surrogateescape"
        ),
    )


def _read_manifest(rejected: Path) -> dict | None:
    try:
        manifest = json.loads((rejected / MANIFEST).read_bytes().decode("utf-8", "surrogateescape"))
        names = [
            name
            for name in manifest["moved"]
            if not os.path.isabs(name) and ".." not in Path(name).parts
        ]
        return {"moved": names, "metadata_sha": manifest["metadata_sha"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _rewrite_metadata(root: Path, rejected: Path, names: set[str], manifest: dict) -> None:
    """Take the rows of files that go out of metadata.csv, keep the table as it was beside them,
    and write the manifest first.
    """
    table = root / "metadata.csv"
    lines: list[list[str]] = []
    if table.is_file():
        with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = list(csv.reader(file))
        at = rows[0].index("file_name") if rows and "file_name" in rows[0] else None
        if at is not None and any(len(row) > at and row[at] in names for row in rows):
            lines = [row for row in rows if len(row) <= at or row[at] not in names]
    if lines and not (rejected / BEFORE).exists():
        write_atomic(rejected / BEFORE, table.read_bytes())
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
    """Add the rows of files that are there again to a table that was changed since, or whose
    change sudden death cut short.
    """
    with open(table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        columns, now = list(reader.fieldnames or []), list(reader)
    listed = {row.get("file_name") for row in now}
    with open(before, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        back = [row for row in csv.DictReader(file) if row.get("file_name") in names - listed]
    with atomic_text(table) as text:
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted([*now, *back], key=lambda row: row["file_name"]))


def _sha(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
