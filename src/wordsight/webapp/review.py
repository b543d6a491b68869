"""Review doubtful images one by one: which, in what order, and the decisions on them.

Decisions are written to `metadata.csv` in the images' folder, where training reads labels: `label`
(empty for a rejected image) and `wordsight_review` (accepted, changed or rejected). Other columns
and rows of that table stay; no image is moved or changed.
"""

from __future__ import annotations

import csv
import os
import posixpath
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backbones.embedder import Embedder
from ..backbones.registry import load_backbone
from ..classification.classifier import Classifier
from ..cleaning.checks import Finding, run_checks
from ..cleaning.cleaner import MIN_SIZE
from ..cleaning.material import gather_material
from ..core import cells
from ..core.home import atomic_text
from ..core.progress import Progress
from ..datasets.files import ImageFile, find_images
from ..datasets.labelled import LabelledSet
from ..errors import InvalidArgument, OutputError
from ..words.class_names import fold

SUSPICIOUS = (
    "in_two_classes",
    "mislabelled",
    "outlier",
    "near_duplicate",
    "duplicate",
    "document",
    "single_colour",
    "too_dark",
    "too_bright",
    "blurry",
)
ACTIONS = ("accepted", "changed", "rejected")
REVIEW = "wordsight_review"  # the column of decisions
MOST_LETTERS = 100  # of a label


@dataclass(frozen=True)
class Doubt:
    """An image that a person should look at.

    Attributes:
        file_name: relative to the folder.
        kind: "suspicious": labelled, and something speaks against it; "rejected": no label was
            given; "pre-labelled": a model gave one.
        label: its label now, or None.
        suggestion: the label that a model or a check proposes, or None.
        probability: of the suggestion, or None.
        why: in a few words.
    """

    file_name: str
    kind: str
    label: str | None
    suggestion: str | None
    probability: float | None
    why: str


@dataclass(frozen=True)
class Decision:
    """A decision on an image.

    Attributes:
        file_name: relative to the folder.
        before: (label, decision) before this one; None where there was none.
        after: (label, decision) after this one.
    """

    file_name: str
    before: tuple[str | None, str | None]
    after: tuple[str | None, str | None]


class ReviewBook:
    """The labels of one folder and the decisions on them. Safe from many threads.

    Args:
        root: the folder.
        class_names: classes of a model. Without a table of labels, subfolders are classes if one of
            them has such a name, or if no class names are given.

    Raises:
        InvalidArgument: if there is no image, or decisions can't be kept in its metadata.csv.
    """

    def __init__(self, root: Path, class_names: Sequence[str] = ()) -> None:
        self.root = root.resolve()
        self.table = self.root / "metadata.csv"
        if self.table.is_symlink():
            self.table = self.table.resolve()
            if not self.table.is_relative_to(self.root):
                raise InvalidArgument(
                    f"'{self.root / 'metadata.csv'}' leads to another folder, so nothing can be "
                    "kept there. Put the table itself there."
                )
        found = find_images([self.root]).images
        self.images = {
            image.name: image for image in found if image.path.resolve().is_relative_to(self.root)
        }
        known = {fold(name) for name in class_names}
        folders = {name.partition("/")[0] for name in self.images if "/" in name}
        self._folders = (
            folders if not known or any(fold(name) in known for name in folders) else set()
        )
        self._model_names = list(class_names)
        self._rows: list[list[str]] = []  # of the table on disk, the headings first
        self._labels: set[str] = set()  # that the table gives
        self._at: dict[str, int] = {}  # name of an image -> its row
        self._read_state: tuple[int, int] | None = None
        self._lock = threading.RLock()
        self._load()

    def label(self, name: str) -> str | None:
        """Return an image's label, from the table or else from its folder."""
        if self._has_labels and name in self._at:
            return self._cell(name, "label") or None
        folder = name.partition("/")[0] if "/" in name else None
        return folder if folder in (self._labels if self._has_labels else self._folders) else None

    def reviewed(self, name: str) -> str | None:
        """Return the decision on an image, or None."""
        return self._cell(name, REVIEW) or None

    @property
    def class_names(self) -> list[str]:
        """Labels in use and those of the model, sorted."""
        return sorted(
            {label for name in self.images if (label := self.label(name))} | set(self._model_names)
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many images were accepted, changed and rejected so far."""
        decided = [self.reviewed(name) for name in self._at]
        return {action: decided.count(action) for action in ACTIONS}

    def state(self, name: str) -> tuple[str | None, str | None]:
        """Return an image's label and the decision on it, from the table on disk as it is now."""
        with self._lock:
            self._refresh()
            return self.label(name), self.reviewed(name)

    def decide(
        self,
        name: str,
        action: str,
        label: str | None = None,
        seen: tuple[str | None, str | None] | None = None,
    ) -> Decision:
        """Write one decision to the table at once, completely or not at all.

        Args:
            name: an image of the folder.
            action: "accepted" or "changed", with the label; or "rejected".
            label: the class.
            seen: the image's `state` on which the decision rests, or None for any.

        Raises:
            InvalidArgument: if there is no such image or action, the label is not valid, or
                somebody else has decided on the image meanwhile.
            OutputError: if the table can't be written.
        """
        if name not in self.images:
            raise InvalidArgument(f"There is no picture '{name}' in '{self.root}'.")
        if action not in ACTIONS or (action != "rejected" and not (label and label.strip())):
            raise InvalidArgument(
                f"A decision is one of {', '.join(ACTIONS)}, with a label but for the last; got "
                f"'{action}', '{label or ''}'."
            )
        label = "" if action == "rejected" else str(label).strip()
        if (
            len(label) > MOST_LETTERS
            or label in (".", "..")
            or any(ord(c) < 32 or c in "/\\" for c in label)
        ):
            raise InvalidArgument(
                f"A label is one line of at most {MOST_LETTERS} characters, without slashes, as "
                f"it may name a folder; got '{label[:60]}'."
            )
        with self._lock:
            before = self.state(name)
            if seen is not None and before != seen:
                raise InvalidArgument(
                    "Somebody has decided on this picture meanwhile. Look at it again."
                )
            self._write({name: (label, action)})
            return Decision(name, before, (label or None, action))

    def undo(self, decision: Decision) -> None:
        """Take a decision back, on disk too.

        Raises:
            InvalidArgument: if the table has changed since.
            OutputError: if the table can't be written.
        """
        with self._lock:
            if self.state(decision.file_name) != decision.after:
                raise InvalidArgument(
                    f"'{decision.file_name}' was changed again since, so the decision can't be "
                    "taken back."
                )
            self._write({decision.file_name: (decision.before[0] or "", decision.before[1] or "")})

    @property
    def _has_labels(self) -> bool:
        return bool(self._rows) and "label" in self._rows[0]

    def _cell(self, name: str, column: str) -> str:
        if name not in self._at or column not in self._rows[0]:
            return ""
        row, at = self._rows[self._at[name]], self._rows[0].index(column)
        return cells.unguard(row[at]) if at < len(row) else ""

    def _load(self) -> None:
        self._rows, self._at, self._labels, self._read_state = [], {}, set(), self._state()
        if self._read_state is None:
            return
        try:
            with cells.open_table(self.table) as file:
                rows = list(csv.reader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise InvalidArgument(
                f"'{self.table}' can't be read as CSV: {error}. Mend it, or move it away."
            ) from None
        columns = rows[0] if rows else []
        ours = [column for column in ("file_name", "label", REVIEW) if columns.count(column) > 1]
        if "file_name" not in columns or ours:
            what = f"the column {ours[0]} twice" if ours else "no column file_name"
            raise InvalidArgument(
                f"'{self.table}' has {what}, so decisions can't be kept there. Mend it, or move "
                "it away."
            )
        names = columns.index("file_name")
        at: dict[str, int] = {}
        for number, row in enumerate(rows[1:], start=1):
            if len(row) > len(columns):
                raise InvalidArgument(
                    f"Row {number} of '{self.table}' has more cells than headings, so nothing "
                    "can be kept there. Mend it, or move it away."
                )
            name = (
                posixpath.normpath(cells.unguard(row[names]))
                if names < len(row) and row[names]
                else ""
            )
            if name in at:
                raise InvalidArgument(
                    f"'{self.table}' lists '{name}' twice, so decisions can't be kept there. "
                    "Mend it, or move it away."
                )
            if name:
                at[name] = number
        self._keep(rows, at)

    def _keep(self, rows: list[list[str]], at: dict[str, int]) -> None:
        self._rows, self._at, self._read_state = rows, at, self._state()
        column = rows[0].index("label") if "label" in rows[0] else None
        self._labels = (
            set()
            if column is None
            else {
                cells.unguard(row[column]) for row in rows[1:] if column < len(row) and row[column]
            }
        )

    def _refresh(self) -> None:
        """Read the table again if somebody else has changed it."""
        if self._state() != self._read_state:
            self._load()

    def _state(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.table)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _write(self, decided: dict[str, tuple[str, str]]) -> None:
        """Write the table with these labels and decisions; memory changes only once the disk has.

        Raises:
            OutputError: if the table can't be written.
        """
        rows = [list(row) for row in self._rows] or [["file_name"]]
        at, columns = dict(self._at), rows[0]
        cells_of: dict[str, dict[str, str]] = {
            name: {"label": label, REVIEW: review} for name, (label, review) in decided.items()
        }
        # once the table has labels, folders no longer count, so it needs the label of every image
        if "label" not in columns:
            for name in self.images:
                label = self.label(name)
                if label:
                    cells_of.setdefault(name, {}).setdefault("label", label)
        columns += [column for column in ("label", REVIEW) if column not in columns]
        for name, new in cells_of.items():
            if name not in at:
                at[name] = len(rows)
                rows.append([""] * len(columns))
                rows[-1][columns.index("file_name")] = cells.guard(name)
            row = rows[at[name]]
            row += [""] * (len(columns) - len(row))
            for column, cell in new.items():
                row[columns.index(column)] = cells.guard(cell)
        mode = os.stat(self.table).st_mode & 0o777 if self.table.exists() else None
        try:
            with atomic_text(self.table, cells.encoding_of(self.table)) as file:
                csv.writer(file).writerows(rows)
            if mode is not None:
                self.table.chmod(mode)
        except OSError as error:
            raise OutputError(
                f"The decision can't be kept in '{self.table}': {error.strerror or error}. Free "
                "some space, or allow writing there."
            ) from error
        self._keep(rows, at)


def find_doubts(
    book: ReviewBook,
    model: Classifier | None,
    threshold: float | None,
    progress: Progress | None = None,
) -> list[Doubt]:
    """Return the images that a person should look at, the most doubtful first.

    Suspicious labels come first, then images without a label.

    Args:
        book: the folder; images reviewed before are left out.
        model: proposes labels for images without one; None leaves those out.
        threshold: probability from which an image counts as pre-labelled.
        progress: called with (done, total, what).
    """
    doubts = _suspicious(book, model, progress)
    if model is None:
        return doubts
    bare = [image for image in _waiting(book) if not book.label(image.name)]
    return doubts + _unlabelled(bare, model, threshold, progress)


def _waiting(book: ReviewBook) -> list[ImageFile]:
    """Return the images that were not reviewed yet."""
    return [image for name, image in book.images.items() if book.reviewed(name) is None]


def _suspicious(
    book: ReviewBook, model: Classifier | None, progress: Progress | None
) -> list[Doubt]:
    """Return the labelled images that were not reviewed and that a check speaks against, the
    gravest reason first; none for fewer than two classes.
    """
    labelled = [
        ImageFile(image.path, name, book.label(name))
        for name, image in book.images.items()
        if book.label(name)
    ]
    open_names = {image.name for image in _waiting(book) if book.label(image.name)}
    class_names = sorted({str(image.label) for image in labelled})
    if not open_names or len(class_names) < 2:
        return []
    backbone = load_backbone() if model is None else model.backbone
    material = gather_material(
        LabelledSet(labelled, class_names), MIN_SIZE, Embedder(backbone), progress
    )
    findings = [
        finding
        for finding in run_checks(material)
        if finding.reason in SUSPICIOUS and finding.file_name in open_names
    ]
    findings.sort(
        key=lambda finding: (SUSPICIOUS.index(finding.reason), -finding.score, finding.file_name)
    )
    gravest: dict[str, Finding] = {}
    for finding in findings:
        gravest.setdefault(finding.file_name, finding)
    return [_doubt(finding) for finding in gravest.values()]


def _doubt(finding: Finding) -> Doubt:
    """Return the doubt that a check's finding raises."""
    why = finding.reason.replace("_", " ")
    if finding.evidence:
        why += f": {finding.evidence}"
    return Doubt(
        finding.file_name,
        "suspicious",
        finding.label,
        finding.suggested_label or finding.label,
        None,
        why,
    )


def _unlabelled(
    images: list[ImageFile], model: Classifier, threshold: float | None, progress: Progress | None
) -> list[Doubt]:
    """Return the images without a label: first those that the model rejects, then those that it
    would label, the least sure first.
    """
    found = []
    embedder = model.embedder
    for done, item in enumerate(embedder.embed_all(images), start=1):
        if item.embedding is not None:
            decided = model.decide(item.file.name, item.embedding, threshold)
            kind = "rejected" if decided.label is None else "pre-labelled"
            why = (
                "resembles nothing the model learned from"
                if decided.stranger
                else "not sure enough"
                if decided.label is None
                else "labelled by the model"
            )
            found.append(
                Doubt(decided.file_name, kind, None, decided.top_label, decided.probability, why)
            )
        if progress:
            progress(done, len(images), "pictures without a label")
    return sorted(
        found,
        key=lambda doubt: (doubt.kind != "rejected", doubt.probability or 0.0, doubt.file_name),
    )
