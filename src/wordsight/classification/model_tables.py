"""The tables of a model folder, history.csv and held_out.csv, and the curves of a training."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import cells
from ..heads.guarantee import HeldOut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 1e9  # beyond any number that a training writes
HISTORY_COLUMNS = (
    "stage",
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "lr",
    "seconds",
)


def history_csv(rows: list[dict]) -> str:
    """Return rows as CSV."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    ordered = [name for name in HISTORY_COLUMNS if name in columns] + [
        name for name in columns if name not in HISTORY_COLUMNS
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, ordered, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_history(path: Path) -> list[dict]:
    """Return the rows of a history.csv; none if there is no such file.

    Raises:
        ValueError: if it holds what no training wrote.
    """
    if not path.is_file():
        return []
    with cells.open_table(path, "strict") as file:
        rows = [
            {name: _number(cell) for name, cell in row.items() if cell != ""}
            for row in csv.DictReader(file)
        ]
    numbers = [value for row in rows for name, value in row.items() if name in HISTORY_COLUMNS]
    # a training that went astray has losses that are no number
    if not all(
        isinstance(value, float) or (isinstance(value, int) and abs(value) <= LARGEST)
        for value in numbers
    ):
        raise ValueError("history.csv has text or a huge number where one of a training belongs")
    if any("epoch" in row for row in rows) and not all(
        {"stage", "epoch"} <= {*row} for row in rows
    ):
        raise ValueError("history.csv has rows without a stage or an epoch")
    return rows


def _number(cell: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def held_out_csv(held_out: HeldOut) -> str:
    """Return answers on images that were not learned from, as CSV."""
    text = io.StringIO()
    rows = cells.writer(text)
    grouped = held_out.events is not None and len(np.unique(held_out.events)) < len(held_out.labels)
    events = held_out.events if grouped else None
    heading = ("file_name", "label", "top_label", "probability", "stranger")
    rows.writerow(heading if events is None else (*heading, "event"))
    columns = (
        held_out.file_names,
        held_out.labels,
        held_out.top_labels,
        held_out.probabilities,
        held_out.strangers,
    )
    for index, (name, truth, said, probability, stranger) in enumerate(zip(*columns, strict=True)):
        event = () if events is None else (int(events[index]),)
        rows.writerow((name, truth, said, f"{probability:.8f}", int(stranger), *event))
    return text.getvalue()


def read_held_out(path: Path, class_names: list[str]) -> HeldOut | None:
    """Return what a held_out.csv holds, or None if there is no such file.

    Raises:
        ValueError: if it holds what no training wrote.
    """
    if not path.is_file():
        return None
    with cells.open_table(path) as file:
        rows = list(cells.DictReader(file))
    names, labels, said = (
        [row[key] for row in rows] for key in ("file_name", "label", "top_label")
    )
    probabilities = np.array([float(row["probability"]) for row in rows], dtype=np.float32)
    if (
        not {*labels, *said} <= {*class_names}
        or not ((probabilities >= 0) & (probabilities <= 1)).all()
        or not {row["stranger"] for row in rows} <= {"0", "1"}
    ):
        raise ValueError("held_out.csv has what is no class, probability or answer")
    return HeldOut(
        names,
        labels,
        said,
        probabilities,
        np.array([row["stranger"] == "1" for row in rows], dtype=bool),
        np.array([int(row["event"]) for row in rows]) if rows and "event" in rows[0] else None,
    )


def history_plots(model: Any) -> dict[str, bytes]:
    """Return the curves of a training as PNG by file name, if it has any."""
    drawn = draw_history(model)
    if not drawn:
        return {}
    from ..reports.canvas import png

    return {f"{name}.png": png(figure) for name, figure in drawn.items()}


def draw_history(model: Any) -> dict[str, Figure]:
    """Return the curves of a training in epochs ("loss", "accuracy") and of the boxes'
    ("mean_iou") and objects' ("ap50"); other recipes have none.
    """
    epochs = any("epoch" in row for row in model.history)
    boxes = model.record.boxes
    objects = model.record.objects
    learned = any(head is not None and head.history for head in (boxes, objects))
    if not epochs and not learned:
        return {}
    from ..reports import figures as plots

    drawn = {
        name: plots.history(model.history, name)
        for name in (("loss", "accuracy") if epochs else ())
    }
    if boxes is not None and boxes.history:
        drawn["mean_iou"] = plots.mean_iou(boxes.history, boxes.median_box_mean_iou)
    if objects is not None and objects.history:
        drawn["ap50"] = plots.ap50(objects.history)
    return drawn
