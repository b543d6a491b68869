"""What a report tells of a model: what it learned from, how well, its curves, where its
images came from and what was left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..datasets.licenses import license_link, license_name
from .page import Chart, Link, Section
from .svg import Axis, Curve, draw

MOST_ROWS = 200  # of a table; a report of a thousand classes stays readable


def about_model(
    info: Mapping[str, Any], history: Sequence[dict], class_names: Sequence[str]
) -> list[Section]:
    """Return the sections on a model: its `info` and `history`, as a `Classifier` keeps them."""
    sections = [_learned(info, class_names)]
    curves = _curves(info, history)
    if curves:
        sections.append(Section("Training curves", charts=curves))
    elif history:
        rows = [
            [
                _cell(row.get("method")),
                *[_cell(row.get(key)) for key in ("regularisation", "accuracy", "log_loss")],
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
    if info.get("gathered"):
        sections.append(funnel_section(info["gathered"]))
    if info.get("licences"):
        sections.append(licence_section(info["licences"]))
    left_out = _left_out(info)
    return [*sections, left_out] if left_out else sections


def made_by(backbone: str, class_names: Sequence[str]) -> str:
    """Say by which model, for the foot of a report."""
    return (
        f"Made by wordsight with {backbone}, for "
        f"{', '.join(class_names[:20])}{', …' if len(class_names) > 20 else ''}."
    )


def funnel_section(gathered: Mapping[str, Any]) -> Section:
    """Return how many images each class kept of those found, and why the others went.

    Args:
        gathered: "classes": class -> {"stages": stage -> how many reached it, "reasons": why others
            did not -> how many}.
    """
    classes = gathered["classes"]
    stages = list(next(iter(classes.values()))["stages"]) if classes else []
    rows = [
        [
            name,
            *[_cell(funnel["stages"].get(stage)) for stage in stages],
            _counted(funnel["reasons"]),
        ]
        for name, funnel in classes.items()
    ]
    return Section(
        "Where the pictures came from",
        ["How many were found for each word, and how many reached each step."],
        ("class", *stages, "lost"),
        rows,
    )


def licence_section(licences: Mapping[str, int]) -> Section:
    """Return a table of licences and how many images are under each."""
    rows = [
        [Link(license_name(code), license_link(code)), count]
        for code, count in sorted(licences.items(), key=lambda item: -item[1])
    ]
    return Section(
        "Licences of the pictures",
        ["Pictures that ask for credit have it in their data set’s ATTRIBUTION.md."],
        ("licence", "pictures"),
        rows,
    )


def listed(
    heading: str, rows: Iterable[Sequence[Any]], columns: Sequence[str], text: str = ""
) -> Section | None:
    """Return a table of what has no image, such as unreadable files: the first 200 rows, and
    how many there are; None for none.
    """
    every = list(rows)
    if not every:
        return None
    more = f" The first {MOST_ROWS} of {len(every)}." if len(every) > MOST_ROWS else ""
    return Section(heading, [text + more] if text or more else [], columns, every[:MOST_ROWS])


def _learned(info: Mapping[str, Any], class_names: Sequence[str]) -> Section:
    text = [
        f"Supervision: {info.get('supervision', 'unknown')}. Recipe: "
        f"{info.get('recipe', 'unknown')}."
    ]
    metrics = info.get("metrics") or {}
    if "accuracy" in metrics:
        text.append(
            f"On {info.get('judged_on', 'pictures it had not seen')}: {metrics['accuracy']:.1%} "
            "right."
        )
    if info.get("threshold") is not None and "coverage" in metrics:
        share, right = metrics["coverage"], metrics["selective_accuracy"]
        text.append(
            f"From a probability of {info['threshold']:.4g}, {share:.1%} of those get a label "
            f"and {right:.2%} of these labels are right."
        )
    if info.get("promise"):
        text.append(str(info["promise"]["sentence"]))
    counts = info.get("pictures") or {}
    return Section(
        "What the model learned from",
        text,
        ("class", "pictures"),
        [[name, counts.get(name, 0)] for name in class_names][:MOST_ROWS],
    )


def _curves(info: Mapping[str, Any], history: Sequence[dict]) -> list[Chart]:
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
    boxes = (info.get("boxes") or {}).get("history") or []
    if boxes:
        both = [
            Curve("box head", range(len(boxes)), [_number(row.get("mean_iou")) for row in boxes])
        ]
        both.append(
            Curve(
                "median box",
                range(len(boxes)),
                [float(info["boxes"]["median_box_mean_iou"])] * len(boxes),
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


def _left_out(info: Mapping[str, Any]) -> Section | None:
    rows = [
        [reason.replace("_", " "), f"{count} pictures"]
        for reason, count in (info.get("cleaned") or {}).items()
    ]
    rows += [
        [name, reason]
        for key in ("left_out", "unreadable", "unused")
        for name, reason in info.get(key) or []
    ]
    return listed(
        "What was left out, and why",
        rows,
        ("what", "why or how many"),
        "Cleaning and training leave out what would teach the wrong thing.",
    )


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items()) or "–"


def _number(value: Any) -> float:
    return float(value) if _finite(value) else math.nan


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
