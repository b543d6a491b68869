"""The folder an evaluation is written to: whether it may be, the tables, and writing it whole.
Draws nothing.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core import cells
from ..core.result_folder import ResultFolder
from ..errors import InvalidArgument
from ..reports.page import is_report, pages_there
from .batch_decisions import Judged

MARKER = ".wordsight-evaluation"  # of 0.1.0
PLOTS = (
    "confusion_matrix.png",
    "reliability.png",
    "risk_coverage.png",
    "roc.png",
    "others.png",
    "mistakes.png",
)
# in the order they are written
FILES = (
    "predictions.csv",
    "others.csv",
    *PLOTS,
    "evaluation.json",
    "boxes.csv",
    "boxes.png",
    "boxes.json",
)
COLUMNS = (
    "file_name",
    "label",
    "top_label",
    "probability",
    "accepted",
    "right",
    "stranger",
    "error",
)


def check_target(target: Path, sources: Iterable[Path]) -> None:
    """Refuse to write a report among the images it is about, or over what no evaluation wrote.

    Args:
        target: the folder.
        sources: where the images are read from: folders, or a table.

    Raises:
        InvalidArgument: if the folder won't do.
    """
    _folder(target).claim(())
    for source in sources:
        inside = (
            target.resolve().is_relative_to(source.resolve())
            if source.is_dir()
            else source.resolve() in [(target / name).resolve() for name in FILES]
        )
        if inside:
            raise InvalidArgument(
                f"The report can't lie inside '{source}', where it would be read as data; got "
                f"'{target}'. Choose another folder with -o."
            )
    _folder(target).claim([*FILES, *pages_there(target)])


def write_files(target: Path, files: dict[str, bytes], pages: Iterable[tuple[str, bytes]]) -> None:
    """Write the files of a report and its pages, each whole or not at all, and remove those of an
    earlier one that this one lacks.

    Raises:
        OutputError: if it can't be written.
        InvalidArgument: if another run is writing there.
    """
    earlier = [*FILES, *pages_there(target)]
    _folder(target).write(itertools.chain(files.items(), pages), earlier, files)


def _folder(target: Path) -> ResultFolder:
    return ResultFolder(
        target,
        "evaluation",
        adopt=lambda path: is_report(path) or (target / MARKER).is_file(),
        is_file="'{folder}' is a file; a report needs a folder. Choose another with -o.",
    )


def predictions_table(judged: Judged, class_names: list[str], truth: np.ndarray | None) -> bytes:
    """Return a CSV with a row for each image; those that can't be read stand last, with the
    reason.

    Args:
        judged: n images.
        class_names: in the model's order.
        truth: (n,) int, their true classes, or None for images of no class.
    """
    text = io.StringIO()
    writer = cells.writer(text)
    writer.writerow(COLUMNS)
    numbers = zip(
        judged.top.tolist(),
        judged.probability.tolist(),
        judged.accepted.tolist(),
        judged.stranger.tolist(),
        strict=True,
    )
    for row, (file, (top, probability, accepted, stranger)) in enumerate(
        zip(judged.files, numbers, strict=True)
    ):
        known = None if truth is None else int(truth[row])
        label, right = ("", "") if known is None else (class_names[known], _yes(known == top))
        writer.writerow(
            [
                file.name,
                label,
                class_names[top],
                round(probability, 6),
                _yes(accepted),
                right,
                _yes(stranger),
                "",
            ]
        )
    writer.writerows([name, "", "", "", "", "", "", reason] for name, reason in judged.unreadable)
    return cells.table_bytes(text.getvalue())


def _yes(fact: bool) -> str:
    return "true" if fact else "false"
