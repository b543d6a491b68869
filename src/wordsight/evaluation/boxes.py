"""How right boxes are: those that `predict` gives and those that `detect` finds, beside boxes
that look at no image.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..backbones.embedder import Embedder, read
from ..backbones.runtime import callers
from ..classification.classifier import Classifier, load
from ..core.home import expand
from ..core.notebook import block, frame, line, table
from ..core.progress import Progress, or_notebook
from ..core.threads import parallel_map
from ..datasets.annotations import Annotated, read_boxes
from ..detection.detector import WindowSettings, detect_image
from ..errors import InvalidArgument, UnreadableImage
from ..heatmaps.heatmap import HeatmapSettings
from ..heatmaps.one_pass import fine_heatmap
from ..heatmaps.regions import mask_to_boxes, scale_box
from ..images.decoding import decode
from ..metrics import classification as metrics
from ..metrics.boxes import IOUS, box_accuracy, max_box_acc, max_box_acc_v2, paired_iou
from ..metrics.classification import Estimate
from .box_report import BoxReport
from .folder import check_target, write_files

if TYPE_CHECKING:
    import pandas


CENTRE = (0.1464, 0.1464, 0.8536, 0.8536)  # the middle half of the image's area
THRESHOLDS = np.arange(0.05, 0.96, 0.05)
# probability from which a detection counts, as far down as the curve of precision goes
LEAST = 0.05
AP_IOUS = (0.3, 0.5, *np.arange(0.55, 0.96, 0.05).round(2).tolist())
MOST_DETECTIONS = 100  # an image, as COCO has it


@dataclass(frozen=True)
class BoxFigures:
    """How right one kind of box is.

    Attributes:
        mean_iou: of the one box an image gets, with the true one.
        box_accuracy: mean over IoU 0.3, 0.5 and 0.7 of the share of images whose one box overlaps
            the truth that much.
        max_box_acc: share with IoU 0.5 or more at the best threshold, the largest region's box
            (Choe et al. 2020).
        threshold: that threshold; None for boxes that have none.
        max_box_acc_v2: mean over IoU 0.3, 0.5, 0.7 of the share at the best threshold of each, the
            best of all regions' boxes.
    """

    mean_iou: Estimate
    box_accuracy: Estimate
    max_box_acc: float
    threshold: float | None
    max_box_acc_v2: float

    def as_json(self) -> dict:
        """Return the figures, ready for JSON."""
        plain = {
            name: value if value is None else round(value, 6)
            for name, value in vars(self).items()
            if not isinstance(value, Estimate)
        }
        return {
            "mean_iou": self.mean_iou.as_json(),
            "box_accuracy": self.box_accuracy.as_json(),
            **plain,
        }


@dataclass
class BoxEvaluation:
    """How right a model's boxes are.

    Attributes:
        annotations: where the true boxes are from.
        model: folder of the model, or None.
        output: folder of the report, or None.
        images: how many were looked at; each counts with its largest box.
        objects: how many boxes they have in all, which detections are measured on.
        kinds: figures by kind of box: "predict" (what `predict` gives), "box head" or "heat map",
            "centre box", "median box".
        median_of: what the median box is the median of.
        ap: COCO's average precision of detections by IoU, "0.3", "0.5" and "0.5:0.95"; empty where
            none could be looked for.
        unknown: classes of the annotations that the model doesn't know; detections are measured
            without them.
        skipped: (where, reason) of annotations that could not be used.
        unreadable: (file name, reason) of images that could not be read.
    """

    annotations: Path
    model: str | None
    output: Path | None
    images: int
    objects: int
    kinds: dict[str, BoxFigures]
    median_of: str
    ap: dict[str, float]
    unknown: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def _repr_html_(self) -> str:
        rows = [
            [row["box"], *(f"{value:.3f}" for value in list(row.values())[1:])]
            for row in self._rows()
        ]
        headings = ["box", "mean IoU", "at least", "at most", "share at IoU 0.3, 0.5, 0.7, mean"]
        return block(
            f"Boxes of {self.images:,} pictures",
            table(headings, rows),
            line(f"Report: {self.output}" if self.output else ""),
        )

    def _rows(self) -> Iterator[dict]:
        for name, kind in self.kinds.items():
            mean = kind.mean_iou
            yield {
                "box": name,
                "mean_iou": mean.value,
                "low": mean.low,
                "high": mean.high,
                "box_accuracy": kind.box_accuracy.value,
            }

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with a row a kind of box: its mean IoU with the bounds of its 95 %
        interval, and its box accuracy.
        """
        return frame(self._rows())

    def as_json(self) -> dict:
        """Return everything, ready for JSON."""
        return {
            "wordsight_version": __version__,
            "annotations": str(self.annotations),
            "model": self.model,
            "output": None if self.output is None else str(self.output),
            "pictures": self.images,
            "objects": self.objects,
            "boxes": {name: figures.as_json() for name, figures in self.kinds.items()},
            "median_of": self.median_of,
            "average_precision": {name: round(value, 6) for name, value in self.ap.items()},
            "unknown_classes": self.unknown,
            "skipped": [{"where": where, "reason": reason} for where, reason in self.skipped],
            "unreadable": [
                {"file_name": name, "error": reason} for name, reason in self.unreadable
            ],
        }


@dataclass(frozen=True)
class _Looked:
    """What was seen on one image: boxes in pixels, and IoUs with the truth."""

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

    Raises:
        NotFound, InvalidArgument: no such annotations or model, nothing readable, a folder that
            can't take the report.
        OutputError: the report can't be written.
    """
    progress = or_notebook(progress)
    classifier = model if isinstance(model, Classifier) else load(model)
    found = read_boxes(annotations, images)
    target = None if output is None else expand(output)
    if target is not None:
        check_target(target, [found.source])
    tested = [p for p in found.images if p.file.split == "test"] or found.images
    windows, heatmap_settings = windows or WindowSettings(), heatmap_settings or HeatmapSettings()
    windows.check()
    heatmap_settings.check(classifier.backbone)
    embedder = classifier.embedder
    report = None if target is None else BoxReport(target)
    looked: list[_Looked] = []
    unreadable: list[tuple[str, str]] = []

    def job(image: Annotated) -> _Looked | tuple[str, str]:
        try:
            return _look(
                image,
                classifier,
                embedder,
                windows if detections else None,
                heatmap_settings,
                report,
            )
        except UnreadableImage as error:
            return image.file.name, str(error)

    try:
        for done, one in enumerate(parallel_map(job, tested, callers(embedder.engine)), start=1):
            if isinstance(one, _Looked):
                looked.append(one)
            else:
                unreadable.append(one)
            if progress:
                progress(done, len(tested), "pictures")
        if not looked:
            raise InvalidArgument(
                f"None of the {len(tested)} pictures can be read; the first: "
                f"'{unreadable[0][0]}': {unreadable[0][1]}."
            )
        kinds, median_of = _measure(looked, classifier)
        unknown = sorted(
            {box.label for one in looked for box in one.image.boxes} - set(classifier.class_names)
        )
        path = classifier.record.path if isinstance(model, Classifier) else model
        objects = sum(len(one.image.boxes) for one in looked)
        ap = (
            average_precision([(one.image, one.detections) for one in looked], _wanted(classifier))
            if detections
            else {}
        )
        result = BoxEvaluation(
            found.source,
            None if path is None else str(path),
            target,
            len(looked),
            objects,
            kinds,
            median_of,
            ap,
            unknown,
            found.skipped,
            unreadable,
        )
        if target is not None and report is not None:
            write_files(target, _files(result, looked))
            report.write(result)
    finally:
        if report is not None:
            report.close()
    return result


def average_precision(
    images: Sequence[tuple[Annotated, Iterable[tuple[str, float, Sequence[float]]]]],
    class_names: Sequence[str],
) -> dict[str, float]:
    """Return COCO's average precision of detections by IoU: "0.3", "0.5" and the mean over
    "0.5:0.95"; empty if there is no object.

    Args:
        images: each with its (label, probability, `xyxy`) detections.
        class_names: the classes that count; others are left out on both sides.
    """
    numbers = {name: number for number, name in enumerate(class_names, start=1)}
    truth: list[_CocoBox] = []
    found: list[_CocoBox] = []
    for number, (image, detections) in enumerate(images, start=1):
        truth += [
            (number, numbers[box.label], box.xyxy, 1.0)
            for box in image.boxes
            if box.label in numbers
        ]
        found += [
            (number, numbers[label], xyxy, probability)
            for label, probability, xyxy in detections
            if label in numbers
        ]
    if not truth:
        return {}
    names = ("0.3", "0.5", "0.5:0.95")
    if not found:
        return dict.fromkeys(names, 0.0)
    precision = _coco_precision(truth, found, len(images), numbers)
    by_iou = [float(row[row > -1].mean()) for row in precision]  # -1: a class without an object
    return dict(zip(names, (by_iou[0], by_iou[1], float(np.mean(by_iou[1:]))), strict=True))


_CocoBox = tuple[int, int, Sequence[float], float]  # image number, class number, xyxy, score


def _coco_precision(
    truth: list[_CocoBox], found: list[_CocoBox], images: int, numbers: dict[str, int]
) -> np.ndarray:
    """Return pycocotools' precision (IoUs, recalls, classes) of found boxes, at `AP_IOUS`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints to the terminal
        known = COCO()
        known.dataset = {
            "images": [{"id": number} for number in range(1, images + 1)],
            "annotations": _coco_rows(truth),
            "categories": [{"id": n, "name": name} for name, n in numbers.items()],
        }
        known.createIndex()
        measured = COCOeval(known, known.loadRes(_coco_rows(found)), "bbox")
        measured.params.iouThrs = np.array(AP_IOUS)
        measured.params.maxDets = [1, 10, MOST_DETECTIONS]
        measured.evaluate()
        measured.accumulate()
    # (IoUs, recalls, classes, areas, limits) -> (IoUs, recalls, classes)
    return measured.eval["precision"][:, :, :, 0, -1]


def _coco_rows(boxes: list[_CocoBox]) -> list[dict]:
    """Return boxes as COCO writes annotations."""
    rows = []
    for number, (image, category, (x_min, y_min, x_max, y_max), score) in enumerate(boxes, start=1):
        width, height = x_max - x_min, y_max - y_min
        rows.append(
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": [x_min, y_min, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": score,
            }
        )
    return rows


def _wanted(model: Classifier) -> list[str]:
    """Return the classes that can be detected."""
    return [name for index, name in enumerate(model.class_names) if index != model.catch_all]


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
    model.localize(prediction, photo, encoding.feature_map, heatmap_settings)
    assert prediction.map is not None
    truth = np.array(image.boxes[0].xyxy)
    fine = fine_heatmap(prediction.map, photo.size)
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
            (model.box_head.box(encoding.feature_map) * (width, height, width, height)).tolist()
        )
    found = [] if windows is None else detect_image(data, model, LEAST, windows).detections
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
    writer = csv.writer(text)
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
    table = text.getvalue().encode("utf-8", "surrogateescape")
    return {
        "boxes.csv": table,
        "boxes.png": truth_sheet(shown),
        "boxes.json": json.dumps(result.as_json(), indent=1).encode(),
    }


def _rows(looked: list[_Looked]) -> Iterator[tuple[_Looked, float, np.ndarray]]:
    """Yield each image with the IoU of its predicted box and its (width, height) twice."""
    for one in looked:
        height, width = one.image.size
        overlap = paired_iou(np.array([one.predicted]), np.array([one.image.boxes[0].xyxy]))[0]
        yield one, float(overlap), np.array([width, height] * 2, dtype=float)
