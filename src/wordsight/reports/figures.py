"""Figures for people: each function turns numbers into one matplotlib Figure. Computes no measure,
reads and writes no file. The style is in `canvas`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.classification import Estimate, Ranking, Reliability, RiskCoverage, thin
from .canvas import BLUE, COLOURS, GREY, ORANGE, drawable, empty_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERED = 20  # up to so many classes, each cell of the confusion matrix shows its number
NAMED = 60  # and up to so many, rows and columns are named
# marked on an axis of them
PROBABILITIES = (0.0001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def history(rows: list[dict], name: str) -> Figure:
    """Draw a training's loss or accuracy over its epochs, in training and validation, with a line
    where a stage begins.

    Args:
        rows: one an epoch, as in `Classifier.history`.
        name: "loss" (nats) or "accuracy" (drawn in %).
    """
    scale, unit = (100.0, "%") if name == "accuracy" else (1.0, "nats")
    with empty_figure((6.4, 4.0)) as figure:
        axes = figure.add_subplot()
        for key, label, color in ((name, "training", GREY), (f"val_{name}", "validation", BLUE)):
            points = [(row["epoch"], scale * row[key]) for row in rows if key in row]
            axes.plot(
                *zip(*points, strict=True), label=label, color=color, marker="o", markersize=3
            )
        for before, row in itertools.pairwise(rows):
            if row.get("stage") != before.get("stage"):
                axes.axvline(row["epoch"], color=ORANGE, linestyle=":", linewidth=1)
                axes.annotate(
                    f"stage {row['stage']}",
                    (row["epoch"], 1.0),
                    xycoords=("data", "axes fraction"),
                    ha="left",
                    va="top",
                    color=ORANGE,
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"{name} ({unit})")
        axes.set_title(f"{name.capitalize()} while training")
        axes.locator_params(axis="x", integer=True)
        axes.legend()
    return figure


def network(title: str, boxes: list[tuple[str, tuple[int, ...], int]]) -> Figure:
    """Draw the layers of a network in the order an image passes through them, in columns read from
    the left.

    Args:
        title: stands above.
        boxes: name, shape of the output with the batch first, and number of parameters of each.
    """
    columns = -(-len(boxes) // 20)
    rows = -(-len(boxes) // columns)
    with empty_figure((3.4 * columns, 0.62 * rows + 0.8)) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_xlim(0, columns)
        axes.set_ylim(-rows, 0.2)
        axes.set_title(title)
        for number, (name, shape, parameters) in enumerate(boxes):
            x, y = number // rows + 0.48, -(number % rows) - 0.4
            sizes = " × ".join(str(side) for side in shape[1:])
            text = f"{name[:34]}\n{sizes}" + (f"   {parameters:,} parameters" if parameters else "")
            axes.text(
                x,
                y,
                text,
                ha="center",
                va="center",
                fontsize=7,
                bbox={"boxstyle": "round", "facecolor": "#E8F1F8", "edgecolor": BLUE},
            )
            if number % rows + 1 < rows and number + 1 < len(boxes):
                axes.annotate(
                    "", (x, y - 0.72), (x, y - 0.3), arrowprops={"arrowstyle": "->", "color": GREY}
                )
    return figure


def mean_iou(rows: list[dict], baseline: float) -> Figure:
    """Draw the mean IoU of held-out images' boxes over the epochs, beside that of one box for
    all.

    Args:
        rows: one an epoch, with "epoch" and "mean_iou".
        baseline: mean IoU of the median box.
    """
    with empty_figure((6.4, 4.0)) as figure:
        axes = figure.add_subplot()
        axes.plot(
            [row["epoch"] for row in rows],
            [row["mean_iou"] for row in rows],
            color=BLUE,
            marker="o",
            markersize=3,
            label="box head",
        )
        axes.axhline(baseline, color=GREY, linestyle="--", label="median box")
        axes.set(xlabel="epoch", ylabel="mean IoU, held-out pictures", ylim=(0, 1), title="Boxes")
        axes.legend(loc="lower right")
    return figure


def ap50(rows: list[dict]) -> Figure:
    """Draw the average precision at IoU 0.5 of the objects found in held-out images over the steps
    of training.

    Args:
        rows: one for each time it was measured, with "step" and "ap50".
    """
    with empty_figure((6.4, 4.0)) as figure:
        axes = figure.add_subplot()
        steps, values = [row["step"] for row in rows], [row["ap50"] for row in rows]
        axes.plot(steps, values, color=BLUE, marker="o", markersize=3)
        axes.set(xlabel="step", ylabel="AP at IoU 0.5, held-out pictures", ylim=(0, 1))
        axes.set_title("Objects")
    return figure


def timeline(
    times: np.ndarray,
    values: np.ndarray,
    names: list[str],
    threshold: float | None,
    segments: list[tuple[str, float, float]],
) -> Figure:
    """Draw probabilities over time, and below them the stretches with a label.

    Args:
        times: (n,) seconds.
        values: (n, names) probabilities.
        names: of the lines.
        threshold: probability from which a label is given; None: none is.
        segments: (label, start, end in seconds).
    """
    labels = list(dict.fromkeys([*names, *(label for label, _, _ in segments)]))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(labels)}
    with empty_figure((9.0, 3.6)) as figure:
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            axes.plot(
                times, values[:, number], color=colours[name], linewidth=1.2, label=drawable(name)
            )
        if threshold is not None:
            axes.axhline(
                threshold,
                color=GREY,
                linestyle="--",
                linewidth=1,
                label=f"threshold {threshold:.4g}",
            )
        for label in labels:
            axes.broken_barh(
                [(start, end - start) for name, start, end in segments if name == label],
                (-0.09, 0.06),
                color=colours[label],
            )
        axes.set(
            xlabel="time (s)", ylabel="probability", ylim=(-0.12, 1.02), title="What the clip shows"
        )
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def confusion_matrix(matrix: np.ndarray, class_names: list[str]) -> Figure:
    """Draw how many images of each class were taken for each.

    Args:
        matrix: (classes, classes) int, rows the truth, columns the top label.
        class_names: in that order.
    """
    classes = len(class_names)
    side = float(np.clip(2.2 + 0.5 * classes, 4.2, 12.0))
    with empty_figure((side + 1.0, side + 0.4)) as figure:
        axes = figure.add_subplot()
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.grid(False)
        if classes <= NUMBERED:
            for row, column in np.ndindex(classes, classes):
                if matrix[row, column]:
                    colour = "white" if share[row, column] > 0.55 else "#222222"
                    axes.text(
                        column,
                        row,
                        str(matrix[row, column]),
                        ha="center",
                        va="center",
                        color=colour,
                        fontsize=9 if classes > 8 else 11,
                    )
        shown = range(classes) if classes <= NAMED else []
        names = [drawable(class_names[index]) for index in shown]
        turned = max(map(len, names), default=0) * classes > 60
        axes.set_xticks(shown, names, rotation=90 if turned else 0)
        axes.set_yticks(shown, names)
        axes.tick_params(length=0)
        axes.set(xlabel="top label", ylabel="truth", title="Confusion matrix (pictures)")
        figure.colorbar(
            image, ax=axes, shrink=0.8, label="share of the class's pictures"
        ).outline.set_visible(False)  # type: ignore[operator]
    return figure


def reliability(bins: Reliability) -> Figure:
    """Draw how often the model is right against how sure it says it is, and how many images
    lie where.
    """
    with empty_figure((5.6, 6.0)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        width, filled = bins.edges[1], np.flatnonzero(bins.counts)
        middles = bins.edges[:-1] + width / 2
        upper.plot(
            [0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right"
        )
        upper.bar(
            middles[filled],
            [bins.accuracy[i].value for i in filled],
            width * 0.92,
            color=BLUE,
            alpha=0.3,
        )
        known = [(bins.probability[i], bins.accuracy[i]) for i in filled]
        at, values = [p for p, _ in known], [e.value or 0.0 for _, e in known]
        reach = [
            [v - (e.low or 0.0) for v, (_, e) in zip(values, known, strict=True)],
            [(e.high or 0.0) - v for v, (_, e) in zip(values, known, strict=True)],
        ]
        upper.errorbar(
            at,
            values,
            yerr=np.maximum(reach, 0),
            fmt="o",
            color=BLUE,
            markersize=4,
            capsize=2,
            linewidth=1,
            label="measured, 95 % interval",
        )
        upper.set(
            ylabel="share that is right",
            ylim=(0, 1.2),
            yticks=np.linspace(0, 1, 6),
            title=f"Reliability: calibration error {_percent(bins.ece)}",
        )
        upper.legend(loc="upper left", ncols=2)
        lower.bar(middles, bins.counts, width * 0.92, color=GREY)
        lower.set(
            xlabel="probability of the top label",
            ylabel="pictures",
            xlim=(0, 1),
            yscale="log",
            ylim=(0.7, bins.counts.max() * 2),
        )
        lower.yaxis.set_major_formatter("{x:.0f}")
    return figure


def risk_coverage(curve: RiskCoverage, point: tuple[float, float] | None = None) -> Figure:
    """Draw the share of wrong labels against the share of images that get one.

    Args:
        curve: the curve.
        point: (coverage, risk) at the threshold in use, to be marked.
    """
    with empty_figure((6.2, 4.4)) as figure:
        axes = figure.add_subplot()
        index = thin(len(curve.coverage))
        coverage, risk = curve.coverage[index] * 100, curve.risk[index] * 100
        axes.plot(
            coverage,
            risk,
            color=BLUE,
            linewidth=1.8,
            drawstyle="steps-post" if len(index) < 20 else "default",
            marker="." if len(index) < 20 else "",
        )
        highest = max(float(risk.max()), 6.0)
        for allowed, estimate in curve.coverage_at.items():
            axes.axhline(allowed * 100, color=GREY, linewidth=0.8, linestyle=":")
            axes.annotate(
                f"{allowed:.0%} risk: coverage {_percent(estimate, 0)}",
                (0, allowed * 100),
                (4, 2),
                textcoords="offset points",
                color="#555555",
                fontsize=8,
            )
        if point is not None:
            label = f"at the threshold: {point[0]:.1%} labelled, {point[1]:.2%} of those wrong"
            axes.plot(
                [point[0] * 100],
                [point[1] * 100],
                "o",
                color=ORANGE,
                markersize=8,
                label=label,
                clip_on=False,
                zorder=3,
            )
            axes.legend(loc="upper left")
        axes.set(
            xlabel="coverage: pictures that get a label (%)",
            ylabel="risk: labels that are wrong (%)",
            xlim=(0, 100.5),
            ylim=(-0.01 * highest, highest * 1.25),
        )
        axes.set_title(f"Risk and coverage: area {_percent(curve.aurc, 2)}")
    return figure


def roc(ranked: Ranking, name: str) -> Figure:
    """Draw how many of the positive class are found against how many others come along.

    Args:
        ranked: of the probability of the positive class.
        name: of that class.
    """
    with empty_figure((5.2, 5.0)) as figure:
        axes = figure.add_subplot()
        index = thin(len(ranked.fpr))
        axes.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1, label="by chance")
        axes.plot(
            ranked.fpr[index] * 100,
            ranked.tpr[index] * 100,
            color=BLUE,
            linewidth=1.8,
            label=f"AUROC {_number(ranked.auroc)}",
            clip_on=False,
        )
        axes.plot([], [], " ", label=f"average precision {_number(ranked.average_precision)}")
        axes.set(
            xlabel="of all others, taken for it (%)",
            ylabel="of it, found (%)",
            xlim=(0, 100),
            ylim=(0, 101),
            aspect="equal",
        )
        axes.set_title(drawable(f"ROC: {name} against the rest"))
        axes.legend(loc="lower right")
    return figure


def others(measures: dict[str, tuple[np.ndarray, np.ndarray, Ranking]]) -> Figure:
    """Draw for each measure how the images of the classes and those of none lie along it.

    Args:
        measures: name of the measure -> its values for the images of the classes (n,), for the
            others (m,), and how well it tells them apart.
    """
    with empty_figure((5.2 * len(measures), 4.4)) as figure:
        for axes, (name, (own, foreign, ranked)) in zip(
            np.atleast_1d(figure.subplots(1, len(measures))), measures.items(), strict=True
        ):
            own, foreign = (
                _spread(values) if name == "probability" else values for values in (own, foreign)
            )
            _histograms(axes, own, foreign)
            # 95 % of them lie there or higher
            line = float(np.sort(own)[::-1][int(np.ceil(0.95 * len(own) - 1e-9)) - 1])
            axes.axvline(
                line,
                color="#222222",
                linewidth=1,
                linestyle="--",
                label="95 % of the classes' pictures lie to the right",
            )
            axes.set(xlabel=name, ylabel="share of the pictures (%)")
            axes.set_title(
                f"{name.capitalize()}: AUROC {_number(ranked.auroc)}\nothers to the right of "
                f"the line: {_percent(ranked.fpr_at_95_tpr)}"
            )
            axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
            if name == "probability":
                ticks = [
                    tick
                    for tick in PROBABILITIES
                    if axes.get_xlim()[0] <= _spread(np.array([tick]))[0] <= axes.get_xlim()[1]
                ]
                axes.set_xticks(_spread(np.array(ticks)), [f"{tick:g}" for tick in ticks])
            axes.legend(loc="upper left", fontsize=8)
    return figure


def _spread(probability: np.ndarray) -> np.ndarray:
    """Return the log odds of probabilities, which keep 0.99 and 0.9999 apart."""
    kept = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(kept / (1 - kept))


def _histograms(axes: Axes, own: np.ndarray, foreign: np.ndarray) -> None:
    values = np.concatenate([own, foreign])
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1e-3, 41).tolist()
    for part, colour, label in (
        (own, BLUE, "pictures of the classes"),
        (foreign, ORANGE, "others"),
    ):
        axes.hist(
            part,
            edges,
            weights=np.full(len(part), 100 / len(part)),
            color=colour,
            alpha=0.6,
            label=f"{label} ({len(part)})",
        )


def _percent(estimate: Estimate, digits: int = 1) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "–"
    return (
        f"{estimate.value:.{digits}%} "
        f"({estimate.low * 100:.{digits}f}–{estimate.high * 100:.{digits}f})"
    )


def _number(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "–"
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"
