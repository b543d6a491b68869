"""Train a box head on a classifier's frozen backbone from annotated images, judge it on held-out
ones, and show what it learns from.

The backbone does not change, so the model's class answers stay the same, and the losses of classes
and boxes need not be weighed against each other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ...backbones.backbone import Backbone
from ...backbones.embedder import Embedder, input_pixels, read
from ...backbones.encoding import Encoding
from ...backbones.preprocessing import STRIDE
from ...backbones.runtime import callers
from ...classification.classifier import Classifier
from ...classification.record import BoxRecord
from ...core.threads import parallel_map
from ...datasets.annotations import Annotated
from ...errors import InvalidArgument, UnreadableImage
from ...heads.boxes import BoxHead
from ...heatmaps.heatmap import extent_of
from ...heatmaps.one_pass import MASK_THRESHOLD, class_heatmap, heatmap_box
from ...images.decoding import decode
from ...metrics.boxes import box_accuracy, paired_iou
from .augment import view
from .directions import principal_directions
from .keeping import Arrays, Circumstances, Parts
from .learner import BATCH, EDGE_WEIGHT, INSIDE_WEIGHT, Learner

log = logging.getLogger("wordsight")

VIEWS = 1000  # random views that are aimed at, besides the images themselves
FEWEST_VIEWS, MOST_VIEWS = 3, 12  # of one image
MOST_IN_ALL, BYTES = 6000, 64_000  # images and views; what each takes, in memory
DIRECTIONS, MIDDLE_DIRECTIONS = 128, 48  # of the last and of the middle map that are kept
SAMPLED, CELLS = 75, 50  # images that the directions are learned from, cells of each map
HELD_OUT = 5  # every fifth image
FEWEST = 5  # images
FEWEST_FOR_THRESHOLD = 20
THRESHOLDS = np.arange(0.05, 0.65, 0.05)


@dataclass
class Sample:
    """Views of one image.

    Attributes:
        image: the annotated image.
        maps: what the head takes of the image itself, then of its views, each (c, h, w) float16.
        boxes: (views, 4) in fractions of each view.
        overlaps: (thresholds,) IoU of the heat map's box with the truth at each of `THRESHOLDS`, or
            None where the class is unknown.
    """

    image: Annotated
    maps: list[np.ndarray]
    boxes: np.ndarray
    overlaps: np.ndarray | None

    def arrays(self) -> Arrays:
        """Return maps, boxes and overlaps by name."""
        kept: Arrays = {f"{number}.maps": one for number, one in enumerate(self.maps)}
        kept["boxes"] = self.boxes
        return kept if self.overlaps is None else kept | {"overlaps": self.overlaps}

    @classmethod
    def of(cls, image: Annotated, arrays: Arrays) -> Sample:
        """Return the sample that `arrays` came from."""
        maps = [arrays[f"{number}.maps"] for number in range(len(arrays["boxes"]))]
        return cls(image, maps, arrays["boxes"], arrays.get("overlaps"))


@dataclass
class TrainedBoxes:
    """A box head and how it was judged.

    Attributes:
        head: trained on all images.
        history: a row per epoch of a head that was trained without the held-out images: its loss,
            and its mean IoU on them.
        held_out: the images on which that head was judged.
        found: (n, 4) the boxes that it found on them, in fractions.
        truth: (n, 4) the true boxes, in fractions.
        median: (4,) the median box of the images it was trained on, in fractions.
        mask_threshold: of heat maps, chosen on the annotated images; None if they are too few.
        images: how many images `head` was trained on.
        unreadable: (name, reason) of images that could not be read.
    """

    head: BoxHead
    history: list[dict]
    held_out: list[Annotated]
    found: np.ndarray
    truth: np.ndarray
    median: np.ndarray
    mask_threshold: float | None
    images: int
    unreadable: list[tuple[str, str]]

    def record(self) -> BoxRecord:
        """Return the figures that the model keeps."""
        overlaps = paired_iou(self.found, self.truth)
        simple = paired_iou(np.tile(self.median, (len(self.truth), 1)), self.truth)
        return BoxRecord(
            images=self.images,
            held_out=len(self.truth),
            mean_iou=float(overlaps.mean()),
            box_accuracy=box_accuracy(overlaps),
            median_box_mean_iou=float(simple.mean()),
            median_box=[round(float(side), 6) for side in self.median],
            loss_weights={
                "giou": 1.0,
                "edges": EDGE_WEIGHT,
                "inside": INSIDE_WEIGHT,
                "edges_of_cells": 1.0,
            },
            history=self.history,
            unreadable=self.unreadable,
        )


@dataclass
class _Judging:
    """A first head that was judged, and what it learned from.

    Attributes:
        head: not calibrated.
        turning: a head without layers, with the directions of the maps.
        samples: of all images.
        unreadable: (name, reason) of images that could not be read.
        known: those of the samples that it learned from.
        held: those that judged it.
        history: a row per epoch.
    """

    head: BoxHead
    turning: BoxHead
    samples: list[Sample]
    unreadable: list[tuple[str, str]]
    known: list[Sample]
    held: list[Sample]
    history: list[dict]


def judge_boxes(
    model: Classifier, images: list[Annotated], embedder: Embedder, how: Circumstances
) -> tuple[float, int]:
    """Return how good a box head on a classifier's backbone is, as the mean IoU on images that it
    has not seen, 0–1, and how many these are; otherwise as `train_boxes`.
    """
    judging = _judge(model, images, embedder, how)
    return float(_overlaps(judging.head, judging.held).mean()), len(judging.held)


def train_boxes(
    model: Classifier,
    images: list[Annotated],
    embedder: Embedder,
    how: Circumstances | None = None,
) -> TrainedBoxes:
    """Train a box head for a classifier; in an image with several objects, the largest counts.

    Raises:
        InvalidArgument: if fewer than five images can be read, or the backbone gives no feature
            map.
    """
    how = how or Circumstances()
    judging = _judge(model, images, embedder, how)
    samples, held = judging.samples, judging.held
    learner = Learner(judging.turning, "kept", how)
    head, _ = learner.learn(samples, "steps, with all pictures")
    return TrainedBoxes(
        head,
        judging.history,
        [s.image for s in held],
        np.stack([judging.head.box_of(sample.maps[0]) for sample in held]),
        np.stack([sample.boxes[0] for sample in held]),
        np.median([sample.boxes[0] for sample in judging.known], axis=0),
        _mask_threshold(samples),
        len(samples),
        judging.unreadable,
    )


def _judge(
    model: Classifier, images: list[Annotated], embedder: Embedder, how: Circumstances
) -> _Judging:
    """Train a first head and judge it."""
    check_backbone(model.backbone)
    turning = _directions(images, embedder, how)
    samples, unreadable = _samples(model, images, embedder, turning, how)
    if len(samples) < FEWEST:
        raise InvalidArgument(
            f"Boxes need at least {FEWEST} readable annotated pictures, got {len(samples)}."
        )
    count = max(1, len(samples) // HELD_OUT)
    judging, learning = how.split([sample.image for sample in samples], count)
    held, known = ([samples[i] for i in rows] for rows in (judging, learning))

    def note(head: BoxHead, epoch: int, epochs: int, loss: float) -> dict:
        return _row(head, held, epoch, epochs, loss)

    learner = Learner(turning, "judged", how)
    head, history = learner.learn(known, "steps, judged on held-out pictures", note)
    return _Judging(head, turning, samples, unreadable, known, held, history)


def _overlaps(head: BoxHead, held: list[Sample]) -> np.ndarray:
    """Return the IoU (n,) of a head's boxes with the true ones."""
    return paired_iou(
        np.stack([head.box_of(sample.maps[0]) for sample in held]),
        np.stack([sample.boxes[0] for sample in held]),
    )


def _row(head: BoxHead, held: list[Sample], epoch: int, epochs: int, loss: float) -> dict:
    """Return an epoch's row of the history, with the mean IoU of held-out images; log it."""
    overlaps = _overlaps(head, held)
    row = {"epoch": epoch, "loss": loss, "mean_iou": float(overlaps.mean())}
    log.info(
        "Boxes, epoch %d of %d: loss %.4f, mean IoU of %d held-out pictures %.3f.",
        epoch,
        epochs,
        loss,
        len(held),
        row["mean_iou"],
    )
    return row


def check_backbone(backbone: Backbone) -> None:
    """Refuse a backbone that can't carry a box head.

    Raises:
        InvalidArgument: if its embedding is not the mean of a feature map.
    """
    if not backbone.pooled:
        raise InvalidArgument(
            f"'{backbone.name}' gives no feature map that boxes can be learned from. Use the "
            "default backbone, or another with one."
        )


def one_batch(
    images: list[Annotated], model: Classifier, seed: int
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Return random views, one of each of up to sixteen images: pixels, box (4,) in fractions,
    label.
    """
    shown = []
    chosen = np.random.default_rng(seed).permutation(len(images))
    for index in chosen.tolist():
        try:
            image = decode(read(images[index].file)[0]).image
        except UnreadableImage:
            continue
        pixels, box = view(
            image,
            _fractions(images[index]),
            model.backbone.preprocessing,
            np.random.default_rng([seed, index, 1]),
        )
        shown.append((pixels, box, images[index].boxes[0].label))
        if len(shown) == BATCH:
            break
    return shown


def _fractions(image: Annotated) -> np.ndarray:
    height, width = image.size
    return np.array(image.boxes[0].xyxy) / [width, height, width, height]


def _views(
    image: Annotated, preprocessing, count: int, seed: int, number: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pixels and box of the image itself, then of `count` random views.

    Raises:
        UnreadableImage: if it can't be read.
    """
    photo = decode(read(image.file)[0])
    truth = _fractions(image)
    return [(input_pixels(photo, preprocessing), truth)] + [
        view(photo.image, truth, preprocessing, np.random.default_rng([seed, number, i + 1]))
        for i in range(count)
    ]


def _directions(images: list[Annotated], embedder: Embedder, how: Circumstances) -> BoxHead:
    """Return a head without layers, with the mean and the half whitened principal directions, of
    mean square 1, of cells of the last feature map, and of the middle one where it has four cells
    for each of the last; those kept, or new ones.
    """
    if (kept := how.keeper.load("directions")) is not None:
        arrays = kept[0]
        levels = [(arrays[f"{i}.mean"], arrays[f"{i}.of"]) for i in range(len(arrays) // 2)]
    else:
        levels = _new_directions(images, embedder, how.seed)
        arrays = {f"{i}.mean": mean for i, (mean, _) in enumerate(levels)}
        arrays |= {f"{i}.of": of for i, (_, of) in enumerate(levels)}
        how.keeper.save("directions", arrays, {})
    (mean, directions), *finer = levels
    return BoxHead(mean, directions, {}, finer[0] if finer else None)


def _new_directions(
    images: list[Annotated], embedder: Embedder, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return mean and directions of the last feature map, and of the middle one if it counts.

    Raises:
        InvalidArgument: if not one image can be read.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:SAMPLED].tolist()

    def cells(number: int) -> list[np.ndarray]:
        try:
            made = _views(images[number], embedder.backbone.preprocessing, 1, seed, number)
        except UnreadableImage:
            return []
        rng = np.random.default_rng([seed, number])
        levels = zip(*(_maps(embedder, pixels) for pixels, _ in made), strict=True)
        return [np.concatenate([_some_cells(m, rng) for m in level]) for level in levels]

    rows = [one for one in parallel_map(cells, chosen, callers(embedder.engine)) if one]
    if not rows:
        raise InvalidArgument("None of the annotated pictures can be read.")
    return [
        principal_directions(np.concatenate(level), count)
        for level, count in zip(
            zip(*rows, strict=True), (DIRECTIONS, MIDDLE_DIRECTIONS), strict=False
        )
    ]


def _some_cells(feature_map: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return random cells of a map (C, h, w), (`CELLS`, C)."""
    cells = feature_map.reshape(len(feature_map), -1)
    return cells[:, rng.integers(0, cells.shape[1], CELLS)].T


def _maps(embedder: Embedder, pixels: np.ndarray) -> list[np.ndarray]:
    """Return the last feature map of an image, and the middle one if it can be learned from."""
    encoding = embedder.runtime.encode(pixels, feature_map=True)
    assert encoding.feature_map is not None
    if encoding.middle_map is None or not _has_even_maps(embedder.backbone):
        return [encoding.feature_map]
    return [encoding.feature_map, encoding.middle_map]


def _has_even_maps(backbone: Backbone) -> bool:
    """Whether four cells of the middle map lie in one of the last, for images of any size."""
    preprocessing = backbone.preprocessing
    return preprocessing.fit == "area" or not any(s % STRIDE for s in preprocessing.image_size)


def _samples(
    model: Classifier,
    images: list[Annotated],
    embedder: Embedder,
    turning: BoxHead,
    how: Circumstances,
) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Return samples of all images, and (name, reason) of those that can't be read.

    Every image and view goes through the network once; only the directions of its map are kept.
    """
    count = min(max(FEWEST_VIEWS, VIEWS // len(images)), MOST_VIEWS)
    count = max(0, min(count, MOST_IN_ALL // len(images) - 1))

    def make(number: int) -> Sample | tuple[str, str]:
        image = images[number]
        try:
            made = _views(image, embedder.backbone.preprocessing, count, how.seed, number)
        except UnreadableImage as error:
            return image.file.name, str(error)
        maps = []
        overlaps = None
        for index, (pixels, _) in enumerate(made):
            encoding = embedder.runtime.encode(pixels, feature_map=True)
            assert encoding.feature_map is not None
            reduced = turning.reduce(encoding.feature_map, encoding.middle_map)
            maps.append(reduced.astype(np.float16))
            if index == 0 and image.boxes[0].label in model.class_names:
                overlaps = _heatmap_overlaps(
                    encoding,
                    model.head.weight[model.class_names.index(image.boxes[0].label)],
                    image,
                )
        return Sample(image, maps, np.stack([box for _, box in made]).astype(np.float32), overlaps)

    samples, unreadable = [], []
    parts = Parts(
        how.keeper,
        len(images),
        len(images) * (count + 1) * BYTES,
        lambda number, arrays: Sample.of(images[number], arrays),
    )
    for done, sample in enumerate(parts.made(make, callers(embedder.engine)), start=1):
        if isinstance(sample, Sample):
            samples.append(sample)
        else:
            unreadable.append(sample)
        if how.progress and done > parts.read:
            how.progress(done, len(images), f"pictures, each with {count} random views")
    return samples, unreadable


def _heatmap_overlaps(encoding: Encoding, class_weight: np.ndarray, image: Annotated) -> np.ndarray:
    """Return the IoU (thresholds,) with the truth of the box that the extent, or the heat map where
    there is none, gives at each threshold.
    """
    assert encoding.feature_map is not None
    heatmap = class_heatmap(encoding.feature_map, class_weight)
    reach = extent_of(heatmap, encoding)
    if reach is None:
        reach = heatmap
    found = [
        heatmap_box(reach, image.size, float(threshold)) or (0.0, 0.0, 0.0, 0.0)
        for threshold in THRESHOLDS
    ]
    return paired_iou(np.array(found), np.tile(np.array(image.boxes[0].xyxy), (len(found), 1)))


def _mask_threshold(samples: list[Sample]) -> float | None:
    """Return the threshold at which heat maps give the best boxes, by the mean over IoU 0.3, 0.5
    and 0.7, or None if there are too few images.
    """
    known = [sample.overlaps for sample in samples if sample.overlaps is not None]
    if len(known) < FEWEST_FOR_THRESHOLD:
        return None
    scores = np.array([box_accuracy(column) for column in np.stack(known).T])
    best = float(THRESHOLDS[int(scores.argmax())])
    usual = int(np.abs(THRESHOLDS - MASK_THRESHOLD).argmin())
    return MASK_THRESHOLD if scores[usual] == scores.max() else round(best, 2)
