"""Evaluate a model on labelled images it has not seen: accuracy, calibration, and images it
should have rejected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backbones.embedder import Embedded, Embedder
from ..classification.classifier import Classifier, load
from ..core.home import expand
from ..core.progress import Progress, or_notebook
from ..datasets.annotations import read_labels
from ..datasets.files import ImageFile, data_root, find_images
from ..datasets.labelled import LabelledSet, relabel
from ..errors import InvalidArgument, some_of
from ..heads.decision import accepts
from ..images.contact_sheet import contact_sheet
from ..metrics import classification as metrics
from ..metrics.classification import proportion
from ..reports import figures as plots
from ..reports.canvas import png
from ..words.class_names import fold
from .batch_decisions import Judged, judge, positive_class
from .folder import check_target, predictions_table, write_files
from .report import EvaluationReport

if TYPE_CHECKING:
    pass
from .results import ClassFigures, Evaluation, OthersFigures

Embed = Callable[[ImageFile], Embedded]


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
    sources = [others] if isinstance(others, str | os.PathLike) else list(others or ())
    request = replace(
        _check(data, classifier, output, threshold, sources),
        model_path=None if path is None else str(path),
    )
    embedder = classifier.embedder
    report = None
    if request.target is not None:
        report = EvaluationReport(request.target, classifier, embedder, request.threshold)
    embed = embedder.embed if report is None else report.look_at
    try:
        own = _judge_all(request, embedder, embed, request.tested, "pictures", progress)
        foreign = None
        if sources:
            foreign = _judge_all(request, embedder, embed, request.others, "others", progress)
        truth = np.array([classifier.class_names.index(str(file.label)) for file in own.files])
        result = _measure(request, own, truth, foreign)
        if request.target is not None and report is not None:
            files = _files(request, result, own, truth, foreign)
            write_files(request.target, files, report.pages(result))
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
    # as if no image were a stranger
    alone = int(accepts(foreign.probability, ~could, request.threshold).sum())
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
    files |= {name: png(figure) for name, figure in drawn.items()}
    mistakes = _mistakes(result, own, truth)
    if mistakes is not None:
        files["mistakes.png"] = mistakes
    return files | {"evaluation.json": json.dumps(result.to_dict(), indent=1).encode()}


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
