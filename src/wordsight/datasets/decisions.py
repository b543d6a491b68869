"""Decisions on the images of a folder, kept where training reads labels.

They are written to `metadata.csv` in the images' folder: `label` (empty for a rejected image) and
`wordsight_review` (accepted, changed or rejected). Other columns and rows of that table stay; no
image is moved or changed.
"""

from __future__ import annotations

import csv
import os
import posixpath
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core import cells
from ..core.home import atomic_text
from ..core.result_folder import hold
from ..errors import InvalidArgument, OutputError
from ..words.class_names import fold
from .files import find_images

ACTIONS = ("accepted", "changed", "rejected")
REVIEW = "wordsight_review"  # the column of decisions
ANSWERS = "wordsight_answers"  # the column of answers that taught words: JSON
MOST_LETTERS = 100  # of a label
PATIENCE_S = 10  # for another process that writes a decision


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


def unreadable(table: Path, error: Exception) -> str:
    """Return the sentence that a table of decisions can't be read."""
    reason = getattr(error, "strerror", None) or error
    return f"'{table}' can't be read as CSV: {reason}. Mend it, or move it away."


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
        self._read_state: tuple[int, int, int] | None = None
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
        with self._alone():
            before = self.state(name)
            if seen is not None and before != seen:
                raise InvalidArgument(
                    "Somebody has decided on this picture meanwhile. Look at it again."
                )
            self._write({name: {"label": label, REVIEW: action}})
            return Decision(name, before, (label or None, action))

    def undo(self, decision: Decision) -> None:
        """Take a decision back, on disk too.

        Raises:
            InvalidArgument: if the table has changed since.
            OutputError: if the table can't be written.
        """
        with self._alone():
            if self.state(decision.file_name) != decision.after:
                raise InvalidArgument(
                    f"'{decision.file_name}' was changed again since, so the decision can't be "
                    "taken back."
                )
            label, review = decision.before
            self._write({decision.file_name: {"label": label or "", REVIEW: review or ""}})

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
            raise InvalidArgument(unreadable(self.table, error)) from None
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

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.table)
        except OSError:
            return None
        # some disks tell times to two seconds, but a table that was replaced is another file
        return status.st_mtime_ns, status.st_size, status.st_ino

    def cell(self, name: str, column: str) -> str:
        """Return what the table on disk says of an image in a column; empty where nothing."""
        with self._lock:
            self._refresh()
            return self._cell(name, column)

    def note(self, name: str, told: Mapping[str, str]) -> None:
        """Write cells of one image, by column, at once, completely or not at all.

        Raises:
            InvalidArgument: if another run holds the folder for long.
            OutputError: if the table can't be written.
        """
        with self._alone():
            self._refresh()
            self._write({name: dict(told)})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and processes from writing to the table meanwhile."""
        with self._lock, hold(self.root, wait_s=PATIENCE_S):
            yield

    def _write(self, told: dict[str, dict[str, str]]) -> None:
        """Write the table with these cells, by image and column; memory changes only once the disk
        has.

        Raises:
            OutputError: if the table can't be written.
        """
        rows = [list(row) for row in self._rows] or [["file_name"]]
        at, columns = dict(self._at), rows[0]
        cells_of = {name: dict(new) for name, new in told.items()}
        # once the table has labels, folders no longer count, so it needs the label of every image
        if "label" not in columns:
            for name in self.images:
                label = self.label(name)
                if label:
                    cells_of.setdefault(name, {}).setdefault("label", label)
        asked = (column for new in cells_of.values() for column in new)
        columns += [
            column for column in dict.fromkeys(("label", REVIEW, *asked)) if column not in columns
        ]
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
