"""How right boxes are: those that `predict` gives and those that `detect` finds, beside boxes
that look at no image.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backbones.embedder import Embedder, read
from ..backbones.runtime import callers
from ..classification.classifier import Classifier, load
from ..core import cells
from ..core.home import expand
from ..core.progress import Progress, or_notebook
from ..datasets.annotations import Annotated, BoxSet, read_boxes
from ..datasets.work import over_images, refuse_none_readable
from ..detection.detector import WindowSettings, detect_image
from ..errors import UnreadableImage
from ..heads.objects import OBJECT_THRESHOLD
from ..heatmaps.heatmap import HeatmapSettings
from ..heatmaps.one_pass import fine_heatmap
from ..heatmaps.regions import mask_to_boxes, scale_box
from ..images.decoding import decode
from ..metrics import classification as metrics
from ..metrics.boxes import IOUS, box_accuracy, max_box_acc, max_box_acc_v2, paired_iou
from ..metrics.detection import average_precision, count_errors
from .box_report import BoxReport
from .box_results import BoxEvaluation, BoxFigures
from .folder import check_target, write_files

CENTRE = (0.1464, 0.1464, 0.8536, 0.8536)  # the middle half of the image's area
THRESHOLDS = np.arange(0.05, 0.96, 0.05)
# probability from which a detection counts, as far down as the curve of precision goes; further for
# objects, which cost no more there
LEAST, LEAST_OF_OBJECTS = 0.05, 0.005


@dataclass(frozen=True)
class _Looked:
    """The boxes found in one image, in pixels, and their IoUs with the truth."""

    image: Annotated
    label: str
    predicted: tuple[float, ...]
    head: tuple[float, ...] | None
    largest: np.ndarray  # (thresholds,) IoU of the heat map's strongest region's box
    best: np.ndarray  # (thresholds,) of the best region's
    at_default: tuple[float, ...]
    detections: Sequence[tuple[str, float, Sequence[float]]]


def evaluate_boxes(
    annotations: str | os.PathLike,
    model: str | os.PathLike | Classifier,
    *,
    images: str | os.PathLike | None = None,
    output: str | os.PathLike | None = "report",
    progress: Progress | None = None,
    windows: WindowSettings | None = None,
    detections: bool = True,
    heatmap_settings: HeatmapSettings | None = None,
    exif: str | None = None,
) -> BoxEvaluation:
    """Measure a model's boxes on annotated images, and write a report.

    Every image is looked at, whatever the probability: a box is measured, not a label. Where
    annotations mark images as "test", only those are measured.

    Args:
        annotations: a CSV, a COCO .json, a folder of Pascal VOC .xml, a YOLO data.yaml.
        model: model folder or classifier.
        images: their folder; by default that of the annotations.
        output: folder of the report; None writes nothing.
        progress: called with (done, total, "images").
        windows: of detections; see `detect`.
        detections: whether to measure those, too, which takes longest.
        heatmap_settings: how heat maps are made; by default in one pass.
        exif: on what boxes are drawn; see `wordsight.datasets.read_boxes`.

    Raises:
        NotFound: if there are no such annotations, or no such model.
        InvalidArgument: if nothing can be read, or the folder can't take the report.
        OutputError: if the report can't be written.
    """
    classifier = model if isinstance(model, Classifier) else load(model)
    found = read_boxes(annotations, images, exif)
    target = None if output is None else expand(output)
    if target is not None:
        check_target(target, [found.source])
    windows, settings = windows or WindowSettings(), heatmap_settings or HeatmapSettings()
    windows.check()
    settings.check(classifier.backbone)
    path = classifier.record.path if isinstance(model, Classifier) else model
    threads = callers(classifier.embedder.engine)
    tested = [p for p in found.images if p.file.split == "test"] or found.images
    run = _Run(classifier, windows if detections else None, settings, found, target, path)
    over_images(
        run.measure, tested, run, threads=threads, progress=or_notebook(progress), what="pictures"
    )
    assert run.result is not None
    return run.result


class _Run:
    """One run of `evaluate_boxes`: measures each image and collects the figures.

    Attributes:
        result: the evaluation, once every image is measured.
    """

    def __init__(
        self,
        model: Classifier,
        windows: WindowSettings | None,
        settings: HeatmapSettings,
        annotations: BoxSet,
        target: Path | None,
        path: str | os.PathLike | None,
    ) -> None:
        self.result: BoxEvaluation | None = None
        self._model, self._windows, self._settings = model, windows, settings
        self._annotations, self._target, self._path = annotations, target, path
        self._report = None if target is None else BoxReport(target)
        self._looked: list[_Looked] = []
        self._unreadable: list[tuple[str, str]] = []

    def measure(self, image: Annotated) -> _Looked | tuple[str, str]:
        """Return the figures of one image, or its name and why it can't be read."""
        model = self._model
        try:
            return _look(image, model, model.embedder, self._windows, self._settings, self._report)
        except UnreadableImage as error:
            return image.file.name, str(error)

    def add(self, one: _Looked | tuple[str, str]) -> None:
        """Add one image's figures."""
        if isinstance(one, _Looked):
            self._looked.append(one)
        else:
            self._unreadable.append(one)

    def finish(self) -> None:
        """Sum up, and write the report.

        Raises:
            InvalidArgument: if not one image could be read.
            OutputError: if the report can't be written.
        """
        looked, names = self._looked, self._model.class_names
        refuse_none_readable(self._unreadable, len(looked) + len(self._unreadable))
        kinds, median_of = _measure(looked, self._model)
        annotated = {box.label for one in looked for box in one.image.boxes}
        pairs = [
            ([(box.label, box.xyxy) for box in one.image.boxes], one.detections) for one in looked
        ]
        measured = self._windows is not None or self._model.object_head is not None
        chosen = _threshold(self._model)
        self.result = BoxEvaluation(
            annotations=self._annotations.source,
            model=None if self._path is None else str(self._path),
            output=self._target,
            images=len(looked),
            objects=sum(len(one.image.boxes) for one in looked),
            kinds=kinds,
            median_of=median_of,
            ap=average_precision(pairs, _wanted(self._model)) if measured else {},
            count_errors=count_errors(pairs, _wanted(self._model), chosen)
            if measured and chosen is not None
            else {},
            unknown=sorted(annotated - {*names, *_wanted(self._model)}),
            skipped=self._annotations.skipped,
            unreadable=self._unreadable,
        )
        if self._target is not None and self._report is not None:
            write_files(self._target, _files(self.result, looked), self._report.pages(self.result))

    def close(self) -> None:
        """Delete the report's temporary files."""
        if self._report is not None:
            self._report.close()


def _wanted(model: Classifier) -> list[str]:
    """Return the classes that can be detected."""
    if model.object_head is not None:
        return list(model.object_head.class_names)
    return [name for index, name in enumerate(model.class_names) if index != model.catch_all]


def _threshold(model: Classifier) -> float | None:
    """Return the probability from which a detection counts, or None if none does."""
    return model.record.threshold if model.object_head is None else OBJECT_THRESHOLD


def _look(
    image: Annotated,
    model: Classifier,
    embedder: Embedder,
    windows: WindowSettings | None,
    heatmap_settings: HeatmapSettings,
    report: BoxReport | None,
) -> _Looked:
    data = read(image.file)[0]
    photo = decode(data)
    height, width = photo.size
    encoding = embedder.encode(photo, feature_map=True)
    prediction = model.decide(image.file.name, encoding.embedding, 0.0)
    prediction.label = prediction.top_label
    model.localize(prediction, photo, encoding, heatmap_settings)
    assert prediction.map is not None and prediction.reach is not None
    truth = np.array(image.boxes[0].xyxy)
    fine = fine_heatmap(prediction.reach, photo.size)
    by_threshold = [_regions(fine, float(threshold), photo.size) for threshold in THRESHOLDS]
    overlaps = [
        paired_iou(np.array(boxes), np.tile(truth, (len(boxes), 1))) for boxes in by_threshold
    ]
    largest, best = (
        np.array([row[0] for row in overlaps]),
        np.array([row.max() for row in overlaps]),
    )
    at_default = tuple(_regions(fine, model.mask_threshold, photo.size)[0])
    head = None
    if model.box_head is not None and encoding.feature_map is not None:
        head = tuple(
            (
                model.box_head.box(encoding.feature_map, encoding.middle_map)
                * (width, height, width, height)
            ).tolist()
        )
    found = []
    if windows is not None or model.object_head is not None:
        least = LEAST if model.object_head is None else LEAST_OF_OBJECTS
        found = detect_image(data, model, least, windows or WindowSettings()).detections
    detections = [(d.label, d.probability, d.xyxy) for d in found]
    predicted = tuple(prediction.box_xyxy or (0.0, 0.0, 0.0, 0.0))
    if report is not None:
        report.keep(image, str(prediction.top_label), predicted, photo, prediction.map)
    return _Looked(
        image, str(prediction.top_label), predicted, head, largest, best, at_default, detections
    )


def _regions(fine: np.ndarray, threshold: float, size: tuple[int, int]) -> list[list[float]]:
    """Return the `xyxy` boxes in pixels of all regions, the strongest first; an empty one where
    there is none.
    """
    found = mask_to_boxes(fine >= threshold, fine) if fine.max() > 0 else []
    return [scale_box(box, fine.shape, size) for box in found] or [[0.0, 0.0, 0.0, 0.0]]


def _measure(looked: list[_Looked], model: Classifier) -> tuple[dict[str, BoxFigures], str]:
    """Return the figures of every kind of box, and what the median box is the median of."""
    truth = np.array([one.image.boxes[0].xyxy for one in looked])
    sizes = np.array([[one.image.size[1], one.image.size[0]] * 2 for one in looked], dtype=float)
    kinds = {"predict": _one_box([one.predicted for one in looked], truth)}
    if all(one.head is not None for one in looked):
        kinds["box head"] = _one_box([one.head for one in looked], truth)
    columns = [
        list(np.stack([getattr(one, name) for one in looked], axis=1))
        for name in ("largest", "best")
    ]
    share, index = max_box_acc(columns[0])
    whole = _one_box([one.at_default for one in looked], truth)
    kinds["heat map"] = BoxFigures(
        whole.mean_iou,
        whole.box_accuracy,
        share,
        float(THRESHOLDS[index]),
        max_box_acc_v2(columns[1]),
    )
    known = None if model.record.boxes is None else model.record.boxes.median_box
    median = np.array(known) if known else np.median(truth / sizes, axis=0)
    kinds["centre box"] = _one_box(np.array(CENTRE) * sizes, truth)
    kinds["median box"] = _one_box(median * sizes, truth)
    return kinds, "the boxes learned from" if known else "these very boxes, which flatters it"


def _one_box(found: Sequence | np.ndarray, truth: np.ndarray) -> BoxFigures:
    """Return the figures of boxes that have no threshold: of each image one."""
    overlaps = paired_iou(np.array(found), truth)
    levels = np.mean([overlaps >= least for least in IOUS], axis=0)
    return BoxFigures(
        metrics.mean(overlaps),
        metrics.mean(levels),
        max_box_acc([overlaps])[0],
        None,
        box_accuracy(overlaps),
    )


def _files(result: BoxEvaluation, looked: list[_Looked]) -> dict[str, bytes]:
    """Return file name -> content of everything the report holds."""
    from ..reports.box_sheets import truth_sheet

    text = io.StringIO()
    writer = cells.writer(text)
    writer.writerow(
        ["file_name", "label", "top_label", "iou", "x_min", "y_min", "x_max", "y_max", "error"]
    )
    rows = list(_rows(looked))
    for one, overlap, _ in rows:
        sides = [round(side, 1) for side in one.predicted]
        writer.writerow(
            [
                one.image.file.name,
                one.image.boxes[0].label,
                one.label,
                round(overlap, 4),
                *sides,
                "",
            ]
        )
    writer.writerows(
        [name, "", "", "", "", "", "", "", reason] for name, reason in result.unreadable
    )
    shown = [
        (
            one.image.file,
            np.array(one.image.boxes[0].xyxy) / scale,
            np.array(one.predicted) / scale,
            overlap,
        )
        for one, overlap, scale in rows
    ]
    table = cells.table_bytes(text.getvalue())
    return {
        "boxes.csv": table,
        "boxes.png": truth_sheet(shown),
        "boxes.json": json.dumps(result.to_dict(), indent=1).encode(),
    }


def _rows(looked: list[_Looked]) -> Iterator[tuple[_Looked, float, np.ndarray]]:
    """Yield each image with the IoU of its predicted box and its (width, height) twice."""
    for one in looked:
        height, width = one.image.size
        overlap = paired_iou(np.array([one.predicted]), np.array([one.image.boxes[0].xyxy]))[0]
        yield one, float(overlap), np.array([width, height] * 2, dtype=float)
