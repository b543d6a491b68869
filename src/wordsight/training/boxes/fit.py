"""Train a box head on a classifier's frozen backbone from annotated images, judge it on held-out
ones, and show what it learns from.

The backbone does not change, so the model's class answers stay the same, and the losses of classes
and boxes need not be weighed against each other. The loss of a box is 1 - GIoU (Rezatofighi et al.
2019) + 2 × the mean distance of the edges + 0.5 × the cross-entropy of "this cell lies in the
box" + the mean distance of the edges that the cells in the box predict.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...backbones.backbone import Backbone
from ...backbones.embedder import Embedder, input_pixels, read
from ...backbones.preprocessing import STRIDE
from ...backbones.runtime import Encoding, callers
from ...classification.classifier import Classifier
from ...classification.record import BoxRecord
from ...core.progress import Progress
from ...core.threads import parallel_map
from ...datasets.annotations import Annotated
from ...errors import InvalidArgument, UnreadableImage
from ...heads.boxes import EDGES, FAR, NEAR, OUTWARD, PLANES, SHAPES, BoxHead, centres
from ...heatmaps.heatmap import extent_of
from ...heatmaps.one_pass import MASK_THRESHOLD, class_heatmap, heatmap_box
from ...images.decoding import decode
from ...metrics.boxes import box_accuracy, paired_iou
from .augment import view
from .course import Course
from .directions import principal_directions
from .keeping import Arrays, Keeper, Parts

log = logging.getLogger("wordsight")

VIEWS = 1000  # random views that are aimed at, besides the images themselves
FEWEST_VIEWS, MOST_VIEWS = 3, 12  # of one image
MOST_IN_ALL, BYTES = 6000, 64_000  # images and views; what each takes, in memory
DIRECTIONS, MIDDLE_DIRECTIONS = 128, 48  # of the last and of the middle map that are kept
WIDTH = 64  # channels within the head
SAMPLED, CELLS = 75, 50  # images that the directions are learned from, cells of each map
EPOCHS, LEAST_STEPS, BATCH = 4, 400, 16
STEEPEST = 2.0  # norm of a step's gradient
DROP_DIRECTIONS, DROP_LAST = 0.1, 0.2
EDGE_WEIGHT, INSIDE_WEIGHT = 2.0, 0.5
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


def train_boxes(
    model: Classifier,
    images: list[Annotated],
    embedder: Embedder,
    seed: int = 0,
    progress: Progress | None = None,
    keeper: Keeper | None = None,
) -> TrainedBoxes:
    """Train a box head for a classifier; in an image with several objects, the largest counts.

    Args:
        model: the classifier.
        images: with their boxes.
        embedder: of the model's backbone.
        seed: same seed, same head.
        progress: called with (done, total, what).
        keeper: keeps what an interrupted training goes on from; None keeps nothing.

    Raises:
        InvalidArgument: if fewer than five images can be read, or the backbone gives no feature
            map.
    """
    check_backbone(model.backbone)
    keeper = keeper or Keeper()
    turning = _directions(images, embedder, seed, keeper)
    samples, unreadable = _samples(model, images, embedder, turning, seed, keeper, progress)
    if len(samples) < FEWEST:
        raise InvalidArgument(
            f"Boxes need at least {FEWEST} readable annotated pictures, got {len(samples)}."
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    held = [samples[i] for i in np.sort(order[: max(1, len(samples) // HELD_OUT)])]
    known = [samples[i] for i in np.sort(order[max(1, len(samples) // HELD_OUT) :])]

    def note(head: BoxHead, epoch: int, epochs: int, loss: float) -> dict:
        return _judged(head, held, epoch, epochs, loss)

    told = _steps(progress, "steps, judged on held-out pictures")
    judged, history = _Learner(turning, seed, "judged", keeper).learn(known, told, note)
    told = _steps(progress, "steps, with all pictures")
    head, _ = _Learner(turning, seed, "kept", keeper).learn(samples, told)
    found = np.stack([judged.box_of(sample.maps[0]) for sample in held])
    truth = np.stack([sample.boxes[0] for sample in held])
    median = np.median([sample.boxes[0] for sample in known], axis=0)
    return TrainedBoxes(
        head,
        history,
        [s.image for s in held],
        found,
        truth,
        median,
        _mask_threshold(samples),
        len(samples),
        unreadable,
    )


def _steps(progress: Progress | None, what: str) -> Callable[[int, int], None]:
    """Return a function (done, total) that reports steps as `what`."""

    def report(done: int, total: int) -> None:
        if progress:
            progress(done, total, what)

    return report


def _judged(head: BoxHead, held: list[Sample], epoch: int, epochs: int, loss: float) -> dict:
    """Return an epoch's row of the history, with the mean IoU of held-out images; log it."""
    overlaps = paired_iou(
        np.stack([head.box_of(sample.maps[0]) for sample in held]),
        np.stack([sample.boxes[0] for sample in held]),
    )
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


def _directions(images: list[Annotated], embedder: Embedder, seed: int, keeper: Keeper) -> BoxHead:
    """Return a head without layers, with the mean and the half whitened principal directions, of
    mean square 1, of cells of the last feature map, and of the middle one where it has four cells
    for each of the last; those kept, or new ones.
    """
    if (kept := keeper.load("directions")) is not None:
        arrays = kept[0]
        levels = [(arrays[f"{i}.mean"], arrays[f"{i}.of"]) for i in range(len(arrays) // 2)]
    else:
        levels = _new_directions(images, embedder, seed)
        arrays = {f"{i}.mean": mean for i, (mean, _) in enumerate(levels)}
        keeper.save("directions", arrays | {f"{i}.of": of for i, (_, of) in enumerate(levels)}, {})
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
    seed: int,
    keeper: Keeper,
    progress: Progress | None,
) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Return samples of all images, and (name, reason) of those that can't be read.

    Every image and view goes through the network once; only the directions of its map are kept.
    """
    count = min(max(FEWEST_VIEWS, VIEWS // len(images)), MOST_VIEWS)
    count = max(0, min(count, MOST_IN_ALL // len(images) - 1))

    def make(number: int) -> Sample | tuple[str, str]:
        image = images[number]
        try:
            made = _views(image, embedder.backbone.preprocessing, count, seed, number)
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
        keeper,
        len(images),
        len(images) * (count + 1) * BYTES,
        lambda number, arrays: Sample.of(images[number], arrays),
    )
    for done, sample in enumerate(parts.made(make, callers(embedder.engine)), start=1):
        if isinstance(sample, Sample):
            samples.append(sample)
        else:
            unreadable.append(sample)
        if progress and done > parts.read:
            progress(done, len(images), f"pictures, each with {count} random views")
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


class _Network(nn.Module):
    """The box head as torch trains it; see `BoxHead` for what it computes."""

    def __init__(self, directions: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(directions, WIDTH, 1)
        self.near = nn.Conv2d(WIDTH, WIDTH, 3, padding=NEAR, dilation=NEAR)
        self.far = nn.Conv2d(WIDTH, WIDTH, 3, padding=FAR, dilation=FAR)
        self.leave = nn.Conv2d(WIDTH, PLANES, 1)
        with torch.no_grad():
            self.leave.weight.mul_(0.3)

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return boxes (n, 4), the box that each cell predicts (n, 4, h, w), and each cell's
        logit for lying in the box (n, h, w), for maps (n, c, h, w).
        """
        x = functional.relu(self.enter(functional.dropout2d(maps, DROP_DIRECTIONS, self.training)))
        x = functional.relu(self.near(x)) + x
        x = functional.relu(self.far(x)) + x
        out = self.leave(functional.dropout(x, DROP_LAST, self.training))
        cell_boxes = torch.from_numpy(centres(*maps.shape[2:])) + torch.from_numpy(OUTWARD).view(
            1, EDGES, 1, 1
        ) * functional.softplus(out[:, :EDGES])
        votes = out[:, -EDGES:].flatten(2).softmax(dim=2)
        return (cell_boxes.flatten(2) * votes).sum(dim=2), cell_boxes, out[:, EDGES]

    def numpy(self, turning: BoxHead) -> BoxHead:
        """Return the head with the present weights, and the directions of another."""
        weights = {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}
        layers = {name: (weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in SHAPES}
        return replace(turning, layers=layers)


class _Batches:
    """All maps and boxes of samples, in random batches of one map shape each."""

    def __init__(self, samples: list[Sample], rng: np.random.Generator) -> None:
        self.maps = [m for sample in samples for m in sample.maps]
        self.boxes = torch.from_numpy(np.concatenate([sample.boxes for sample in samples]))
        self._groups: dict[tuple[int, ...], list[int]] = defaultdict(list)  # map shape -> rows
        for index, m in enumerate(self.maps):
            self._groups[m.shape].append(index)
        self._rng = rng

    def __len__(self) -> int:
        return sum(-(-len(rows) // BATCH) for rows in self._groups.values())

    def order(self) -> list[list[int]]:
        """Return the rows of each batch of an epoch, in random order."""
        batches = [
            part[i : i + BATCH].tolist()
            for rows in self._groups.values()
            for part in [self._rng.permutation(rows)]
            for i in range(0, len(rows), BATCH)
        ]
        return [batches[index] for index in self._rng.permutation(len(batches))]

    def batch(self, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return maps (n, c, h, w) and boxes (n, 4), every other time mirrored."""
        maps = torch.from_numpy(np.stack([self.maps[i] for i in rows]).astype(np.float32))
        boxes = self.boxes[rows]
        if self._rng.random() < 0.5:
            maps = maps.flip(3)
            boxes = torch.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], dim=1)
        return maps, boxes


class _Learner:
    """A head that learns.

    Args:
        turning: a head without layers; see `_directions`.
        seed: same seed, same head.
        name: of the head, among those that are kept.
        keeper: keeps it as it learns.
    """

    def __init__(self, turning: BoxHead, seed: int, name: str, keeper: Keeper) -> None:
        self._turning, self._seed, self._name, self._keeper = turning, seed, name, keeper

    def learn(
        self,
        samples: list[Sample],
        after_step: Callable[[int, int], None],
        after_epoch: Callable[[BoxHead, int, int, float], dict] | None = None,
    ) -> tuple[BoxHead, list[dict]]:
        """Return the head that has learned from samples, and its history.

        Args:
            samples: images with their views.
            after_step: called with (steps done, steps in all).
            after_epoch: called with (head so far, epoch, epochs in all, mean loss); returns a row
                of the history.
        """
        rng = np.random.default_rng(self._seed)
        batches = _Batches(samples, rng)
        epochs = max(EPOCHS, -(-LEAST_STEPS // len(batches)))
        steps = len(batches) * epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            network = _Network(len(samples[0].maps[0]))
            course = Course(network, steps, STEEPEST, rng)
            order, total, history = self._restore(course)
            network.train()
            while course.done < steps:
                order = order or batches.order()
                maps, truth = batches.batch(order.pop(0))
                loss = _loss(*network(maps), truth).sum()
                course.step(loss / BATCH)
                total += float(loss.detach())
                after_step(course.done, steps)
                if not order:
                    epoch = course.done // len(batches)
                    if after_epoch is not None:
                        head = network.numpy(self._turning)
                        history.append(after_epoch(head, epoch, epochs, total / len(batches.maps)))
                    total = 0.0
                if self._keeper.is_due() or course.done == steps:
                    arrays, note = course.state()
                    note |= {"order": order, "total": total, "history": history}
                    self._keeper.save(self._name, arrays, note)
        return network.numpy(self._turning), history

    def _restore(self, course: Course) -> tuple[list[list[int]], float, list[dict]]:
        """Go on from what is kept, if anything is; return what is left of the present epoch, the
        sum of its losses so far, and the history.
        """
        if (kept := self._keeper.load(self._name)) is None:
            return [], 0.0, []
        course.restore(*kept)
        note = kept[1]
        return note["order"], note["total"], note["history"]


def _loss(
    boxes: torch.Tensor, cell_boxes: torch.Tensor, inside: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Return the loss (n,).

    Args:
        boxes: (n, 4) predicted boxes.
        cell_boxes: (n, 4, h, w) the box that each cell predicts.
        inside: (n, h, w) each cell's logit for lying in the box.
        truth: (n, 4) true boxes.
    """
    x, y = torch.from_numpy(centres(*inside.shape[1:])[:2])
    left, top, right, bottom = (truth[:, i, None, None] for i in range(EDGES))
    within = ((x > left) & (x < right) & (y > top) & (y < bottom)).float()
    shared = (
        (torch.minimum(boxes[:, 2:], truth[:, 2:]) - torch.maximum(boxes[:, :2], truth[:, :2]))
        .clamp(min=0)
        .prod(dim=1)
    )
    areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(dim=1) for b in (boxes, truth)]
    union = areas[0] + areas[1] - shared
    hull = (
        torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    ).prod(dim=1)
    giou = shared / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
    of_cells = ((cell_boxes - truth[:, :, None, None]).abs().mean(dim=1) * within).sum(
        dim=(1, 2)
    ) / within.sum(dim=(1, 2)).clamp(min=1)
    cross = functional.binary_cross_entropy_with_logits(inside, within, reduction="none").mean(
        dim=(1, 2)
    )
    return (
        1
        - giou
        + EDGE_WEIGHT * (boxes - truth).abs().mean(dim=1)
        + INSIDE_WEIGHT * cross
        + of_cells
    )
