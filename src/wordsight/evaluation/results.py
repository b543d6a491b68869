"""What an evaluation says: figures by class, of images that show none of them, and all together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..core.notebook import frame
from ..core.summary import Problems, Table, as_html, as_text, text_of, unreadable_as_dicts
from ..metrics.classification import Estimate, Ranking, Reliability, RiskCoverage
from ..reports import figures as plots

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass
class ClassFigures:
    """The figures of one class, by top label, whether accepted or not.

    Attributes:
        name: the class.
        images: how many images of the class were evaluated.
        precision: of the images taken for it, the share that shows it.
        recall: of the images that show it, the share taken for it.
    """

    name: str
    images: int
    precision: Estimate
    recall: Estimate

    def row(self) -> list[str]:
        """Return the figures as cells of a table."""
        figures = (" ".join(e.in_percent()).strip() for e in (self.precision, self.recall))
        return [self.name, str(self.images), *figures]

    def to_dict(self) -> dict:
        """Return the figures, ready for JSON."""
        return {
            "name": self.name,
            "pictures": self.images,
            "precision": self.precision.to_dict(),
            "recall": self.recall.to_dict(),
        }


@dataclass
class OthersFigures:
    """How well images of none of the classes are told apart from images of the classes.

    Attributes:
        images: how many others could be read.
        unreadable: how many could not.
        belonging: how many images of the classes they are compared with.
        familiarity: by the model's measure of how near an image lies to what it learned from.
        probability: by the probability alone.
        labelled: how many others the model gives a label.
        labelled_share: the same as a share.
        labelled_by_probability: how many would get one if the probability alone decided.
        labelled_by_probability_share: the same as a share.
    """

    images: int
    unreadable: int
    belonging: int
    familiarity: Ranking
    probability: Ranking
    labelled: int
    labelled_share: Estimate
    labelled_by_probability: int
    labelled_by_probability_share: Estimate

    def table(self) -> Table:
        """Return the figures of familiarity, and below them those of the probability alone."""
        share, alone = self.labelled_share, self.labelled_by_probability_share
        rows = []
        for name, ranked, count, labelled in (
            ("familiarity", self.familiarity, self.labelled, share),
            ("probability alone", self.probability, self.labelled_by_probability, alone),
        ):
            ranks = (" ".join(e.in_percent()) for e in (ranked.auroc, ranked.fpr_at_95_tpr))
            rows.append([name, *ranks, f"{count}: {' '.join(labelled.in_percent())}"])
        return Table(
            [
                f"telling {self.images} others by",
                "AUROC",
                "let in with 95 % of the classes' pictures",
                "get a label",
            ],
            rows,
        )

    def to_dict(self) -> dict:
        """Return the figures, ready for JSON."""
        return {
            "pictures" if name == "images" else name: (
                value.to_dict() if hasattr(value, "to_dict") else value
            )
            for name, value in vars(self).items()
        }


@dataclass
class Evaluation:
    """How a model did on labelled images. All shares are 0–1; every `Estimate` carries its 95 %
    interval.

    Attributes:
        data: the labelled images.
        model: folder of the model, or None where it has none.
        output: folder of the report, or None.
        class_names: in the model's order.
        threshold: probability from which a label is given; None: no label is.
        split: "test" where only images so marked were evaluated, else None.
        set_aside: how many images were not, for that reason.
        counted_as: classes of the data that stand for another of the model's, such as "cat" for
            "not_fire".
        total: images, unreadable ones included.
        accepted: how many got a label.
        right: how many of those the right one.
        total_accuracy: share of the readable images whose top label is right, accepted or not.
        selective_accuracy: share of the accepted ones that is right.
        coverage: share of the readable ones that is accepted.
        classes: figures of each class, in the model's order.
        confusion: (classes, classes) int, rows the truth, columns the top label.
        calibration: reliability in 15 bins, and the expected calibration error.
        risk_coverage: the curve with strangers at confidence 0, its area, and the coverage at 1 and
            5 % risk.
        positive: the class a one-against-the-rest model looks for, else None.
        positive_ranking: how well its probability finds it, likewise.
        others: figures on images of none of the classes, if there were any.
        unreadable: (file name, reason) of each image that can't be read, those of others too.
        skipped: names of files that are no images.
        unused: (file name, reason) of each listed image that could not be taken.
    """

    data: Path
    model: str | None
    output: Path | None
    class_names: list[str]
    threshold: float | None
    split: str | None
    set_aside: int
    counted_as: dict[str, str]
    total: int
    accepted: int
    right: int
    total_accuracy: Estimate
    selective_accuracy: Estimate
    coverage: Estimate
    classes: list[ClassFigures]
    confusion: np.ndarray
    calibration: Reliability
    risk_coverage: RiskCoverage
    positive: str | None = None
    positive_ranking: Ranking | None = None
    others: OthersFigures | None = None
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        """Accepted images with a wrong label."""
        return self.accepted - self.right

    @property
    def rejected(self) -> int:
        """Images that were read but got no label."""
        return int(self.confusion.sum()) - self.accepted

    def figures(self) -> dict[str, Estimate]:
        """Return the overall figures by name, the most important first."""
        named = {
            "total accuracy": self.total_accuracy,
            "selective accuracy": self.selective_accuracy,
            "coverage": self.coverage,
            "calibration error (ECE)": self.calibration.ece,
            "area under risk and coverage (AURC)": self.risk_coverage.aurc,
            **{
                f"coverage at {risk:.0%} risk": estimate
                for risk, estimate in self.risk_coverage.coverage_at.items()
            },
        }
        if self.positive_ranking is not None:
            named |= {f"AUROC of {self.positive}": self.positive_ranking.auroc}
            named |= {
                f"average precision of {self.positive}": self.positive_ranking.average_precision
            }
        return named

    def plots(self) -> dict[str, Figure]:
        """Return matplotlib figures: "confusion_matrix", "reliability", "risk_coverage", and
        for one class against the rest "roc".
        """
        point = (self.coverage.value or 0.0, self.wrong / self.accepted) if self.accepted else None
        drawn = {
            "confusion_matrix": plots.confusion_matrix(self.confusion, self.class_names),
            "reliability": plots.reliability(self.calibration),
            "risk_coverage": plots.risk_coverage(self.risk_coverage, point),
        }
        if self.positive_ranking is not None and len(self.positive_ranking.fpr):
            drawn["roc"] = plots.roc(self.positive_ranking, str(self.positive))
        return drawn

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with one row per overall figure: its value and the bounds of its
        95 % interval.
        """
        rows = (
            {"figure": name, "value": e.value, "low": e.low, "high": e.high}
            for name, e in self.figures().items()
        )
        return frame(rows, ["figure", "value", "low", "high"])

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        title = f"{self.total:,} pictures: {self.accepted:,} accepted, {self.right:,} of them right"
        return as_html(title, self)

    @property
    def complete(self) -> bool:
        """Whether every image could be read and used."""
        return not (self.unreadable or self.unused)

    def tables(self) -> list[Table]:
        """Return the figures of the whole, of each class, and on the others if there are any."""
        given = (
            "no threshold: nothing gets a label"
            if self.threshold is None
            else f"probability ≥ {self.threshold:g}"
        )
        counted = ("total", "accepted", "rejected", "right", "wrong")
        rows = [[name, str(getattr(self, name)), ""] for name in counted]
        rows += [[name, *e.in_percent()] for name, e in self.figures().items()]
        tables = [
            Table([f"label ({given})", "figure", "95 % interval"], rows),
            Table(
                ["class", "pictures", "precision", "recall (of the top label)"],
                [one.row() for one in self.classes],
            ),
        ]
        return tables if self.others is None else [*tables, self.others.table()]

    def notes(self) -> list[str]:
        """Return which images were evaluated, counted as what, and where the report is."""
        notes = []
        if self.split:
            notes.append(
                f"Evaluated: the {self.total} pictures marked '{self.split}'; "
                f"{self.set_aside} others of the data are left out."
            )
        if self.counted_as:
            by_rest: dict[str, list[str]] = {}
            for name, rest in self.counted_as.items():
                by_rest.setdefault(rest, []).append(name)
            counted = "; ".join(f"{rest}: {', '.join(names)}" for rest, names in by_rest.items())
            notes.append(f"Counted as {counted}")
        if self.output is not None:
            notes.append(
                f"Report: {self.output}/report.html (open it in a browser), "
                "evaluation.json, predictions.csv and plots"
            )
        return notes

    def problems(self) -> list[Problems]:
        """Return the images that could not be read or used."""
        return [
            Problems("Unreadable", self.unreadable, "evaluation.json"),
            Problems("Not used", self.unused, "evaluation.json"),
        ]

    def to_dict(self) -> dict:
        """Return all figures with their intervals, ready for JSON; curves have at most 500
        points.
        """
        plain = (
            "class_names",
            "threshold",
            "split",
            "set_aside",
            "counted_as",
            "total",
            "accepted",
            "rejected",
            "right",
            "wrong",
        )
        return {
            "wordsight_version": __version__,
            "data": str(self.data),
            "model": self.model,
            "output": text_of(self.output),
            **{name: getattr(self, name) for name in plain},
            "unreadable": unreadable_as_dicts(self.unreadable),
            "skipped": self.skipped,
            "unused": [{"file_name": name, "reason": reason} for name, reason in self.unused],
            **{
                name: getattr(self, name).to_dict()
                for name in ("total_accuracy", "selective_accuracy", "coverage")
            },
            "classes": [c.to_dict() for c in self.classes],
            "confusion": self.confusion.tolist(),
            "calibration": self.calibration.to_dict(),
            "risk_coverage": self.risk_coverage.to_dict(),
            "one_against_rest": None
            if self.positive_ranking is None
            else {"positive": self.positive, **self.positive_ranking.to_dict()},
            "others": None if self.others is None else self.others.to_dict(),
        }
