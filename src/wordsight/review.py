"""Going through doubtful pictures one by one: which, in what order, and every decision on disk before the next picture is shown.

Decisions stand in `metadata.csv` of the pictures' folder, where training reads labels: `label` (empty for a rejected picture) and
`review`: accepted, changed or rejected. No picture is moved or changed.
"""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .backbones import load_backbone
from .checks import run_checks
from .classifier import Classifier
from .cleaning import MIN_SIZE, gather_material
from .dataset import LabelledSet, PictureFile, find_pictures
from .embed import Embedder
from .errors import InvalidArgument
from .home import atomic_text, writing
from .vocabulary import fold

Progress = Callable[[int, int, str], None]
SUSPICIOUS = ("in_two_classes", "mislabelled", "outlier", "near_duplicate", "duplicate", "document", "single_colour", "too_dark", "too_bright", "blurry")
ACTIONS = ("accepted", "changed", "rejected")


@dataclass(frozen=True)
class Doubt:
    """A picture that a person should look at.

    Attributes:
        file_name: relative to the folder.
        kind: "suspicious": labelled, and something speaks against it; "rejected": no label was given; "pre-labelled": a model gave one.
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


class ReviewBook:
    """The labels of one folder and the decisions on them.

    Args:
        root: the folder.
        class_names: classes that its subfolders may stand for where there is no metadata.csv; none: any subfolder is a class.

    Raises:
        InvalidArgument: there is no picture, or a metadata.csv that can't be read or lies elsewhere.
    """

    def __init__(self, root: Path, class_names: Sequence[str] = ()) -> None:
        self.root = root.resolve()
        self.table = self.root / "metadata.csv"
        found = find_pictures([self.root]).pictures
        self.pictures = {picture.name: picture for picture in found if picture.path.resolve().is_relative_to(self.root)}
        self._known = {fold(name): name for name in class_names}
        self._columns: list[str] = []
        self._rows: dict[str, dict[str, str]] = {}
        self._read_state: tuple[int, int] | None = None
        self._done: list[tuple[str, dict[str, str] | None]] = []  # what stood there before each decision
        self._lock = threading.Lock()
        self._load()

    def label(self, name: str) -> str | None:
        """Return a picture's label, from the table or else from its folder."""
        row = self._rows.get(name)
        if row is not None:
            return row.get("label") or None
        folder = name.partition("/")[0] if "/" in name else ""
        if not folder or "label" in self._columns:
            return folder if folder and folder in self._table_labels() else None
        return self._known.get(fold(folder)) if self._known else folder

    def reviewed(self, name: str) -> str | None:
        """Return what was decided of a picture, or None."""
        return self._rows.get(name, {}).get("review") or None

    @property
    def class_names(self) -> list[str]:
        """Labels in use and those of the model, sorted."""
        return sorted({label for name in self.pictures if (label := self.label(name))} | set(self._known.values()))

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures were accepted, changed and rejected so far."""
        said = [row.get("review") for row in self._rows.values()]
        return {action: said.count(action) for action in ACTIONS}

    def decide(self, name: str, action: str, label: str | None = None) -> None:
        """Write one decision to the table, whole or not at all, before anything else happens.

        Args:
            name: a picture of the folder.
            action: "accepted" or "changed", with the label; or "rejected".
            label: the class.

        Raises:
            InvalidArgument: no such picture or action, or a label that is none.
            OutputError: it can't be written.
        """
        if name not in self.pictures:
            raise InvalidArgument(f"There is no picture '{name}' in '{self.root}'.")
        if action not in ACTIONS or (action != "rejected" and not (label and label.strip())):
            raise InvalidArgument(f"A decision is one of {', '.join(ACTIONS)}, with a label but for the last; got '{action}', '{label or ''}'.")
        label = "" if action == "rejected" else str(label).strip()
        if any(ord(c) < 32 for c in label) or len(label) > 100:
            raise InvalidArgument("A label is one line of at most 100 characters.")
        with self._lock:
            self._refresh()
            before = self._rows.get(name)
            self._done.append((name, None if before is None else dict(before)))
            self._rows[name] = {**(before or {"file_name": name}), "label": label, "review": action}
            try:
                self._save()
            except BaseException:
                self._restore(*self._done.pop())
                raise

    def undo(self) -> str | None:
        """Take the last decision back, on disk too; return the picture's name, or None where there is none to take back."""
        with self._lock:
            if not self._done:
                return None
            self._refresh()
            name, before = self._done.pop()
            self._restore(name, before)
            self._save()
            return name

    def _restore(self, name: str, before: dict[str, str] | None) -> None:
        if before is None:  # it had no row; its label came from its folder
            self._rows.pop(name, None)
            label = self.label(name)
            if label:
                self._rows[name] = {"file_name": name, "label": label}
        else:
            self._rows[name] = before

    def _table_labels(self) -> set[str]:
        return {row["label"] for row in self._rows.values() if row.get("label")}

    def _load(self) -> None:
        if self.table.is_symlink() and not self.table.resolve().is_relative_to(self.root):
            raise InvalidArgument(f"'{self.table}' leads to another folder, so nothing can be kept there. Put the table itself in its place.")
        self._columns, self._rows, self._read_state = [], {}, None
        if not self.table.exists():
            return
        try:
            with open(self.table, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
                reader = csv.DictReader(file, restkey=None, restval="")
                self._columns = list(reader.fieldnames or [])
                rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
        except (OSError, ValueError, csv.Error) as error:
            raise InvalidArgument(f"'{self.table}' can't be read as CSV: {error}. Mend it, or move it away.") from None
        if "file_name" not in self._columns:
            raise InvalidArgument(f"'{self.table}' has no column file_name, so decisions can't be kept there. Mend it, or move it away.")
        self._rows = {row["file_name"]: row for row in rows}
        self._read_state = self._state()

    def _refresh(self) -> None:
        """Read the table again where somebody else has changed it since."""
        if self._state() != self._read_state:
            self._load()

    def _state(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.table)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _save(self) -> None:
        if "label" not in self._columns:  # from now on the table says what is what, so it must say it of every picture
            for name in self.pictures:
                label = self.label(name)
                if label and name not in self._rows:
                    self._rows[name] = {"file_name": name, "label": label}
                elif label:
                    self._rows[name].setdefault("label", label)
        self._columns = list(dict.fromkeys([*(self._columns or ["file_name"]), "label", "review"]))
        with writing(self.root), atomic_text(self.table) as file:
            table = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            table.writeheader()
            table.writerows(self._rows.values())
        self._read_state = self._state()


def find_doubts(book: ReviewBook, model: Classifier | None, threshold: float, progress: Progress | None = None) -> list[Doubt]:
    """Return what a person should look at, the most doubtful first: suspicious labels, then pictures without one.

    Args:
        book: the folder; what was reviewed before is passed over.
        model: proposes labels for pictures that have none; None: only labelled ones are looked at.
        threshold: probability from which a picture counts as pre-labelled.
        progress: called with (done, total, what).
    """
    waiting = [picture for name, picture in book.pictures.items() if book.reviewed(name) is None]
    labelled = [PictureFile(picture.path, picture.name, book.label(picture.name)) for picture in waiting if book.label(picture.name)]
    every = [PictureFile(picture.path, name, book.label(name)) for name, picture in book.pictures.items() if book.label(name)]
    doubts: list[Doubt] = []
    names = sorted({str(picture.label) for picture in every})
    if labelled and len(names) > 1:
        open_ones = {picture.name for picture in labelled}
        backbone = load_backbone() if model is None else model.backbone
        material = gather_material(LabelledSet(every, names), MIN_SIZE, Embedder(backbone), progress)
        seen: set[str] = set()
        findings = [finding for finding in run_checks(material) if finding.reason in SUSPICIOUS and finding.file_name in open_ones]
        for finding in sorted(findings, key=lambda finding: (SUSPICIOUS.index(finding.reason), -finding.score, finding.file_name)):
            if finding.file_name not in seen:
                seen.add(finding.file_name)
                why = finding.reason.replace("_", " ") + (f": {finding.evidence}" if finding.evidence else "")
                doubts.append(Doubt(finding.file_name, "suspicious", finding.label, finding.suggested_label or finding.label, None, why))
    bare = [picture for picture in waiting if not book.label(picture.name)]
    return doubts + (_unlabelled(bare, model, threshold, progress) if model is not None else [])


def _unlabelled(pictures: list[PictureFile], model: Classifier, threshold: float, progress: Progress | None) -> list[Doubt]:
    """Return the pictures without a label, rejected ones first, then those that the model would label, the least sure first."""
    found = []
    embedder = Embedder(model.backbone)
    for done, item in enumerate(embedder.embed_all(pictures), start=1):
        if item.embedding is not None:
            said = model.decide(item.file.name, item.embedding, threshold)
            kind = "rejected" if said.label is None else "pre-labelled"
            why = "resembles nothing the model learned from" if said.stranger else "not sure enough" if said.label is None else "labelled by the model"
            found.append(Doubt(said.file_name, kind, None, said.top_label, said.probability, why))
        if progress:
            progress(done, len(pictures), "pictures without a label")
    embedder.cache.close()
    return sorted(found, key=lambda doubt: (doubt.kind != "rejected", doubt.probability or 0.0, doubt.file_name))
