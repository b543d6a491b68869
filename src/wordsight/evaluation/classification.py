"""Evaluate a model on labelled images it has not seen: accuracy, calibration, and images it
should have rejected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..backbones.embedder import Embedded, Embedder
from ..classification.batch_decisions import Judged, judge, positive_class
from ..classification.classifier import Classifier, load
from ..core.home import expand
from ..core.notebook import block, frame, line, table
from ..core.progress import Progress, or_notebook
from ..datasets.annotations import read_labels
from ..datasets.files import ImageFile, LabelledSet, data_root, find_images, relabel
from ..errors import InvalidArgument, some_of
from ..images.contact_sheet import contact_sheet
from ..metrics import classification as metrics
from ..metrics.classification import Estimate, Ranking, Reliability, RiskCoverage, proportion
from ..reports import figures as plots
from ..words.class_names import fold
from .folder import check_target, predictions_table, write_files
from .report import EvaluationReport

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


Embed = Callable[[ImageFile], Embedded]


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

    def as_json(self) -> dict:
        """Return the figures, ready for JSON."""
        return {
            "name": self.name,
            "pictures": self.images,
            "precision": self.precision.as_json(),
            "recall": self.recall.as_json(),
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

    def as_json(self) -> dict:
        """Return the figures, ready for JSON."""
        return {
            "pictures" if name == "images" else name: (
                value.as_json() if hasattr(value, "as_json") else value
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

    def _repr_html_(self) -> str:
        rows = [
            [name, *("–" if v is None else f"{v:.4f}" for v in (e.value, e.low, e.high))]
            for name, e in self.figures().items()
        ]
        title = f"{self.total:,} pictures: {self.accepted:,} accepted, {self.right:,} of them right"
        return block(
            title,
            table(["figure", "value", "at least", "at most"], rows, len(rows)),
            line(f"Report: {self.output}" if self.output else ""),
        )

    def as_json(self) -> dict:
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
            "output": None if self.output is None else str(self.output),
            **{name: getattr(self, name) for name in plain},
            "unreadable": [
                {"file_name": name, "error": reason} for name, reason in self.unreadable
            ],
            "skipped": self.skipped,
            "unused": [{"file_name": name, "reason": reason} for name, reason in self.unused],
            **{
                name: getattr(self, name).as_json()
                for name in ("total_accuracy", "selective_accuracy", "coverage")
            },
            "classes": [c.as_json() for c in self.classes],
            "confusion": self.confusion.tolist(),
            "calibration": self.calibration.as_json(),
            "risk_coverage": self.risk_coverage.as_json(),
            "one_against_rest": None
            if self.positive_ranking is None
            else {"positive": self.positive, **self.positive_ranking.as_json()},
            "others": None if self.others is None else self.others.as_json(),
        }


@dataclass(frozen=True)
class _Request:
    """A checked request for an evaluation."""

    data: Path
    model: Classifier
    model_path: str | None
    threshold: float | None
    labelled: LabelledSet
    tested: list[ImageFile]
    counted_as: dict[str, str]
    others: list[ImageFile]
    target: Path | None


def evaluate(
    data: str | os.PathLike,
    model: str | os.PathLike | Classifier,
    *,
    output: str | os.PathLike | None = "report",
    threshold: float | None = None,
    others: str | os.PathLike | Iterable[str | os.PathLike] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on labelled images, and write a report.

    Where a `split` column marks images as "test", only those are evaluated. Classes are compared
    without regard to case and blanks; for a model of one class against the rest, every other class
    of the data counts as the rest.

    Args:
        data: a folder with one subfolder per class, a folder with metadata.csv, or a CSV with
            file_name and label.
        model: model folder or classifier.
        output: folder of the report; None writes nothing.
        threshold: probability from which a label is given, 0–1; default: the model's.
        others: folders, files or globs of images that show none of the classes.
        progress: called with (done, total, "images" or "others").

    Raises:
        NotFound: if there is no such data or model.
        InvalidArgument: if the model doesn't know a class, nothing can be read, the threshold is
            outside 0–1, or the report can't go into the folder.
        OutputError: if the report can't be written.
    """
    progress = or_notebook(progress)
    classifier = model if isinstance(model, Classifier) else load(model)
    path = classifier.record.path if isinstance(model, Classifier) else model
    sources = (
        []
        if others is None
        else [others]
        if isinstance(others, str | os.PathLike)
        else list(others)
    )
    request = replace(
        _check(data, classifier, output, threshold, sources),
        model_path=None if path is None else str(path),
    )
    embedder = classifier.embedder
    report = (
        None
        if request.target is None
        else EvaluationReport(request.target, classifier, embedder, request.threshold)
    )
    embed = embedder.embed if report is None else report.look_at
    try:
        own = _judge_all(request, embedder, embed, request.tested, "pictures", progress)
        foreign = (
            _judge_all(request, embedder, embed, request.others, "others", progress)
            if sources
            else None
        )
        truth = np.array([classifier.class_names.index(str(file.label)) for file in own.files])
        result = _measure(request, own, truth, foreign)
        if request.target is not None and report is not None:
            write_files(request.target, _files(request, result, own, truth, foreign))
            report.write(result)
    finally:
        if report is not None:
            report.close()
    return result


def _check(
    data: str | os.PathLike,
    model: Classifier,
    output: str | os.PathLike | None,
    threshold: float | None,
    others: list,
) -> _Request:
    """Check the arguments before any work is done."""
    chosen = model.threshold_for(threshold)[0]
    labelled = read_labels(data, min_classes=1)
    target = None if output is None else expand(output)
    if target is not None:
        check_target(
            target,
            [expand(data), *(path for source in others if (path := expand(source)).is_dir())],
        )
    tested, counted_as = _to_test(labelled, model)
    foreign = find_images(others).images if others else []
    if others:
        # raises where it can't be asked
        model.familiarity(np.zeros((1, model.backbone.num_features), dtype=np.float32))
    return _Request(
        expand(data), model, None, chosen, labelled, tested, counted_as, foreign, target
    )


def _to_test(labelled: LabelledSet, model: Classifier) -> tuple[list[ImageFile], dict[str, str]]:
    """Return the images to evaluate, with the model's names of their classes, and what other
    classes are counted as.

    Raises:
        InvalidArgument: if the model doesn't know a class.
    """
    marked = [image for image in labelled.images if image.split == "test"]
    tested = replace(labelled, images=marked or labelled.images)
    known = {fold(name) for name in model.class_names}
    present = {str(image.label) for image in tested.images}
    strange = [name for name in labelled.class_names if name in present and fold(name) not in known]
    catch_all = None if model.catch_all is None else model.class_names[model.catch_all]
    if strange and catch_all is None:
        raise InvalidArgument(
            f"The model has no class '{strange[0]}'; it knows: {some_of(model.class_names)}. "
            "Take it out of the data, or train with it."
        )
    counted_as = {name: str(catch_all) for name in strange}
    return relabel(tested, model.class_names, catch_all).images, counted_as


def _judge_all(
    request: _Request,
    embedder: Embedder,
    embed: Embed,
    files: list[ImageFile],
    what: str,
    progress: Progress | None,
) -> Judged:
    """Decide on every file with the model; `embed` makes the embeddings.

    Raises:
        InvalidArgument: if none of them can be read.
    """

    def told() -> Iterator[Embedded]:
        for done, item in enumerate(embedder.embed_all(files, embed), start=1):
            yield item
            if progress:
                progress(done, len(files), what)

    judged = judge(request.model, told(), request.threshold, bool(request.others))
    if not judged.files:
        name, reason = judged.unreadable[0]
        raise InvalidArgument(
            f"None of the {len(files)} pictures can be read; the first: '{name}': {reason}."
        )
    return judged


def _measure(
    request: _Request, own: Judged, truth: np.ndarray, foreign: Judged | None
) -> Evaluation:
    """Compute all figures."""
    names = request.model.class_names
    correct = own.top == truth
    confusion = metrics.confusion(truth, own.top, len(names))
    hits, shown, taken = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    accepted, right, read = int(own.accepted.sum()), int((own.accepted & correct).sum()), len(truth)
    positive = positive_class(request.model)
    return Evaluation(
        data=request.data,
        model=request.model_path,
        output=request.target,
        class_names=names,
        threshold=request.threshold,
        split="test" if request.tested[0].split == "test" else None,
        set_aside=len(request.labelled.images) - len(request.tested),
        counted_as=request.counted_as,
        total=len(request.tested),
        accepted=accepted,
        right=right,
        total_accuracy=proportion(int(correct.sum()), read),
        selective_accuracy=proportion(right, accepted),
        coverage=proportion(accepted, read),
        classes=[
            ClassFigures(
                n, int(shown[i]), proportion(hits[i], taken[i]), proportion(hits[i], shown[i])
            )
            for i, n in enumerate(names)
        ],
        confusion=confusion,
        calibration=metrics.calibration(own.probability, correct),
        risk_coverage=metrics.risk_coverage(own.confidence, ~correct),
        positive=None if positive is None else names[positive],
        positive_ranking=None
        if positive is None
        else metrics.ranking(own.positive[truth == positive], own.positive[truth != positive]),
        others=None if foreign is None else _measure_others(request, own, truth, foreign),
        unreadable=own.unreadable + (foreign.unreadable if foreign is not None else []),
        skipped=request.labelled.skipped,
        unused=request.labelled.unused,
    )


def _belonging(model: Classifier, truth: np.ndarray) -> np.ndarray:
    """Return which images belong to a class, (n,) bool. Images of the catch-all don't: they
    count as none of the classes.
    """
    return np.ones(len(truth), dtype=bool) if model.catch_all is None else truth != model.catch_all


def _measure_others(
    request: _Request, own: Judged, truth: np.ndarray, foreign: Judged
) -> OthersFigures:
    """Compare images of the classes with images of none. For one class against the rest, only a
    label of that class is wrong.
    """
    belongs = _belonging(request.model, truth)
    could = (
        np.ones(len(foreign.top), dtype=bool)
        if request.model.catch_all is None
        else foreign.top != request.model.catch_all
    )
    labelled = int((foreign.accepted & could).sum())
    alone = (
        0
        if request.threshold is None
        else int(((foreign.probability >= request.threshold) & could).sum())
    )
    return OthersFigures(
        images=len(foreign.files),
        unreadable=len(foreign.unreadable),
        belonging=int(belongs.sum()),
        familiarity=metrics.ranking(own.familiarity[belongs], foreign.familiarity),
        probability=metrics.ranking(own.positive[belongs], foreign.positive),
        labelled=labelled,
        labelled_share=proportion(labelled, len(foreign.files)),
        labelled_by_probability=alone,
        labelled_by_probability_share=proportion(alone, len(foreign.files)),
    )


def _files(
    request: _Request, result: Evaluation, own: Judged, truth: np.ndarray, foreign: Judged | None
) -> dict[str, bytes]:
    """Return file name -> content of everything the report holds."""
    drawn = {f"{name}.png": figure for name, figure in result.plots().items()}
    files = {"predictions.csv": predictions_table(own, result.class_names, truth)}
    if foreign is not None and result.others is not None:
        files["others.csv"] = predictions_table(foreign, result.class_names, None)
        belongs = _belonging(request.model, truth)
        if belongs.any():
            drawn["others.png"] = plots.others(
                {
                    "familiarity": (
                        own.familiarity[belongs],
                        foreign.familiarity,
                        result.others.familiarity,
                    ),
                    "probability": (
                        own.positive[belongs],
                        foreign.positive,
                        result.others.probability,
                    ),
                }
            )
    files |= {name: plots.png(figure) for name, figure in drawn.items()}
    mistakes = _mistakes(result, own, truth)
    if mistakes is not None:
        files["mistakes.png"] = mistakes
    return files | {"evaluation.json": json.dumps(result.as_json(), indent=1).encode()}


def _mistakes(result: Evaluation, own: Judged, truth: np.ndarray) -> bytes | None:
    """Return a contact sheet of the images whose top label is wrong: the surest first, strangers
    (rejected anyway) last.
    """
    wrong = np.flatnonzero(own.top != truth)
    worst = wrong[np.lexsort((-own.probability[wrong], -own.confidence[wrong]))]
    rows = []
    for index in worst.tolist():
        said = f"{result.class_names[truth[index]]} taken for {result.class_names[own.top[index]]}"
        fate = (
            "labelled" if own.accepted[index] else "stranger" if own.stranger[index] else "unsure"
        )
        rows.append((own.files[index].name, said, f"{own.probability[index]:.4f}, {fate}"))
    return contact_sheet(data_root(result.data), rows, "Mistakes", "the surest first")
