"""What a report tells of a model: what it learned from, how well, its curves, where its
images came from and what was left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..reports.page import Chart, Section
from ..reports.sections import MOST_ROWS, cell, funnel_section, licence_section, listed
from ..reports.svg import Axis, Curve, draw
from .record import ModelRecord, labels_of


def about_model(
    record: ModelRecord, history: Sequence[dict], class_names: Sequence[str]
) -> list[Section]:
    """Return the sections on a model: its `record` and `history`, as a `Classifier` keeps them."""
    sections = [_learned(record, class_names)]
    curves = _curves(record, history)
    if curves:
        sections.append(Section("Training curves", charts=curves))
    elif history:
        rows = [
            [
                cell(row.get("method")),
                *[cell(row.get(key)) for key in ("regularisation", "accuracy", "log_loss")],
            ]
            for row in history[:MOST_ROWS]
        ]
        text = [
            "Each was judged by heads that had not seen the pictures; the lowest log loss was "
            "taken."
        ]
        sections.append(
            Section(
                "Heads that were tried",
                text,
                ("head", "regularisation", "accuracy", "log loss"),
                rows,
            )
        )
    if record.gathered:
        sections.append(funnel_section(record.gathered))
    if record.licences:
        sections.append(licence_section(record.licences))
    left_out = _left_out(record)
    return [*sections, left_out] if left_out else sections


def _learned(record: ModelRecord, class_names: Sequence[str]) -> Section:
    text = [f"Supervision: {record.supervision}. Recipe: {record.recipe}."]
    metrics = record.metrics
    if "accuracy" in metrics:
        text.append(f"On {record.judged_on}: {metrics['accuracy']:.1%} right.")
    if record.threshold is not None and {"coverage", "selective_accuracy"} <= metrics.keys():
        share, right = metrics["coverage"], metrics["selective_accuracy"]
        text.append(labels_of(record.threshold, share, right))
    if record.promise is not None:
        text.append(record.promise.sentence())
    return Section(
        "What the model learned from",
        text,
        ("class", "pictures"),
        [[name, record.images.get(name, 0)] for name in class_names][:MOST_ROWS],
    )


def _curves(record: ModelRecord, history: Sequence[dict]) -> list[Chart]:
    """Draw loss and accuracy over the epochs, and the boxes' mean IoU."""
    epochs = [row for row in history if "epoch" in row]
    charts = []
    for name, unit, scale in (
        (("loss", "loss, nats", 1.0), ("accuracy", "right, %", 100.0)) if epochs else ()
    ):
        keys = ((name, "training"), (f"val_{name}", "validation"))
        found = [
            (key, legend) for key, legend in keys if any(_finite(row.get(key)) for row in epochs)
        ]
        if found:
            curves = [
                Curve(legend, range(len(epochs)), [scale * _number(row.get(key)) for row in epochs])
                for key, legend in found
            ]
            charts.append(
                _chart(name, curves, "epoch", unit, [str(row["epoch"]) for row in epochs], scale)
            )
    if record.boxes is not None and record.boxes.history:
        boxes = record.boxes.history
        both = [
            Curve("box head", range(len(boxes)), [_number(row.get("mean_iou")) for row in boxes])
        ]
        both.append(
            Curve(
                "median box",
                range(len(boxes)),
                [record.boxes.median_box_mean_iou] * len(boxes),
            )
        )
        charts.append(
            _chart(
                "mean_iou",
                both,
                "epoch",
                "mean IoU of boxes",
                [str(row.get("epoch", i)) for i, row in enumerate(boxes)],
                1.0,
                high=1.0,
            )
        )
    return charts


def _chart(
    name: str,
    curves: list[Curve],
    across: str,
    up: str,
    names: list[str],
    scale: float,
    high: float | None = None,
) -> Chart:
    values = [value for curve in curves for value in curve.y if math.isfinite(value)]
    low = 0.0 if high is not None or scale == 1 else max(0.0, math.floor(min(values) / 10) * 10)
    top = high or (100.0 if scale == 100 else max(values) * 1.05 or 1.0)
    step = max(1, -(-len(names) // 8))
    ticks = tuple((float(i), names[i]) for i in range(0, len(names), step))
    svg = draw(
        curves,
        Axis(across, 0, max(1, len(names) - 1), ticks),
        Axis(up, low, top),
        f"{up} by {across}: {', '.join(curve.name for curve in curves)}",
    )
    return Chart(name, svg, "", tuple(curve.name for curve in curves))


def _left_out(record: ModelRecord) -> Section | None:
    rows = [
        (reason.replace("_", " "), f"{count} pictures") for reason, count in record.cleaned.items()
    ]
    rows += [*record.left_out, *record.unreadable, *record.unused]
    return listed(
        "What was left out, and why",
        rows,
        ("what", "why or how many"),
        "Cleaning and training leave out what would teach the wrong thing.",
    )


def _number(value: Any) -> float:
    return float(value) if _finite(value) else math.nan


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
