"""Train a box head on a classifier's frozen backbone from annotated images, judge it on held-out
ones, and show what it learns from.

The backbone stays as it is, so a model's class answers do, too, and its loss of classes and the
loss of boxes need no weights against each other. Within the loss of boxes: 1 - GIoU (Rezatofighi et
al. 2019) + 2 × the mean distance of the edges + 0.5 × the cross-entropy of "this cell lies in the
box" + the mean distance of the edges that cells in the box say.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...backbones.embedder import Embedder, input_pixels, read
from ...backbones.registry import Backbone
from ...backbones.runtime import callers
from ...classification.classifier import Classifier
from ...classification.record import BoxRecord
from ...core.progress import Progress
from ...core.threads import parallel_map
from ...datasets.annotations import Annotated
from ...errors import InvalidArgument, UnreadableImage
from ...heads.boxes import EDGES, FAR, NEAR, OUTWARD, PLANES, SHAPES, BoxHead, centres
from ...heatmaps.one_pass import MASK_THRESHOLD, class_heatmap, heatmap_box
from ...images.decoding import decode
from ...metrics.boxes import box_accuracy, paired_iou
from .augment import view

log = logging.getLogger("wordsight")

VIEWS, MOST_VIEWS = 12, 6000  # random views of each image, besides itself; and in all
DIRECTIONS, WIDTH = 128, 64  # of the feature map that are kept; channels within the head
SAMPLED, CELLS = 150, 25  # images that the directions are learned from, cells of each map
EPOCHS, LEAST_STEPS, BATCH = 8, 600, 16
RATE, DECAY, WARMUP, STEEPEST = 3e-3, 0.05, 0.15, 2.0
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
        image: which.
        maps: the image itself first, then its views, on the head's directions, (c, h, w) float16
            each.
        boxes: (views, 4) in fractions of each.
        overlaps: (thresholds,) IoU of the heat map's box with the truth at each of `THRESHOLDS`, or
            None where the class is unknown.
    """

    image: Annotated
    maps: list[np.ndarray]
    boxes: np.ndarray
    overlaps: np.ndarray | None


@dataclass
class TrainedBoxes:
    """A box head and how it was judged.

    Attributes:
        head: learned from all images.
        history: a row an epoch: loss of those learned from, mean IoU of those held out.
        held_out: images that a head that had not seen them was judged on.
        found: (n, 4) the boxes that one gave, in fractions.
        truth: (n, 4) the true ones.
        median: (4,) the median box of those learned from, in fractions.
        mask_threshold: of heat maps, chosen on the annotated images; None where they are too few.
        images: how many were learned from.
        unreadable: (name, reason) of those that could not be read.
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
) -> TrainedBoxes:
    """Train a box head for a classifier; of an image with several objects, the largest counts.

    Raises:
        InvalidArgument: fewer than five images can be read, or the backbone gives no feature map.
    """
    check_backbone(model.backbone)
    directions = _directions(images, embedder, seed)
    samples, unreadable = _samples(model, images, embedder, directions, seed, progress)
    if len(samples) < FEWEST:
        raise InvalidArgument(
            f"Boxes need at least {FEWEST} readable annotated pictures, got {len(samples)}."
        )
    order = np.random.default_rng(seed).permutation(len(samples))
    held = [samples[i] for i in np.sort(order[: max(1, len(samples) // HELD_OUT)])]
    known = [samples[i] for i in np.sort(order[max(1, len(samples) // HELD_OUT) :])]
    history: list[dict] = []
    judged = _fit(
        known, directions, seed, progress, "steps, judged on held-out pictures", held, history
    )
    head = _fit(samples, directions, seed, progress, "steps, with all pictures")
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


def check_backbone(backbone: Backbone) -> None:
    """Refuse a backbone that a box head can't stand on.

    Raises:
        InvalidArgument: its embedding is not the mean of a feature map.
    """
    if not backbone.pooled:
        raise InvalidArgument(
            f"'{backbone.name}' gives no feature map that boxes can be learned from. Use the "
            "default backbone, or another with one."
        )


def one_batch(
    images: list[Annotated], model: Classifier, seed: int
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Return one random view of each of up to sixteen images: pixels, box (4,) in fractions,
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
    """Return an image's pixels and box: as it is, then in `count` random views.

    Raises:
        UnreadableImage: it can't be read.
    """
    photo = decode(read(image.file)[0])
    truth = _fractions(image)
    return [(input_pixels(photo, preprocessing), truth)] + [
        view(photo.image, truth, preprocessing, np.random.default_rng([seed, number, i + 1]))
        for i in range(count)
    ]


def _directions(
    images: list[Annotated], embedder: Embedder, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (C,) and the half whitened principal directions (c, C) of cells of the
    feature map, of mean square 1.
    """
    chosen = np.random.default_rng(seed).permutation(len(images))[:SAMPLED].tolist()

    def cells(number: int) -> list[np.ndarray]:
        try:
            made = _views(images[number], embedder.backbone.preprocessing, 1, seed, number)
        except UnreadableImage:
            return []
        rng = np.random.default_rng([seed, number])
        maps = [_feature_map(embedder, pixels) for pixels, _ in made]
        return [m.reshape(len(m), -1)[:, rng.integers(0, m[0].size, CELLS)].T for m in maps]

    rows = [row for some in parallel_map(cells, chosen, callers(embedder.engine)) for row in some]
    if not rows:
        raise InvalidArgument("None of the annotated pictures can be read.")
    every = np.concatenate(rows)
    mean = every.mean(axis=0)
    every -= mean
    values, vectors = np.linalg.eigh(every.T @ every / len(every))
    values, vectors = values[::-1][:DIRECTIONS], vectors[:, ::-1][:, :DIRECTIONS]
    turned = (vectors / np.maximum(values, max(1e-6, values[0] * 1e-4)) ** 0.25).T.astype(
        np.float32
    )
    return mean, turned / np.sqrt(np.mean((every @ turned.T) ** 2))


def _feature_map(embedder: Embedder, pixels: np.ndarray) -> np.ndarray:
    feature_map = embedder.runtime.encode(pixels, feature_map=True).feature_map
    assert feature_map is not None
    return feature_map


def _samples(
    model: Classifier,
    images: list[Annotated],
    embedder: Embedder,
    directions: tuple[np.ndarray, np.ndarray],
    seed: int,
    progress: Progress | None,
) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Send every image and its views through the network once; of the maps only the
    directions are kept.
    """
    count = max(0, min(VIEWS, MOST_VIEWS // len(images) - 1))
    turning = BoxHead(*directions, {})

    def make(number: int) -> Sample | tuple[str, str]:
        image = images[number]
        try:
            made = _views(image, embedder.backbone.preprocessing, count, seed, number)
        except UnreadableImage as error:
            return image.file.name, str(error)
        maps = []
        overlaps = None
        for index, (pixels, _) in enumerate(made):
            feature_map = _feature_map(embedder, pixels)
            maps.append(turning.reduce(feature_map).astype(np.float16))
            if index == 0 and image.boxes[0].label in model.class_names:
                overlaps = _heatmap_overlaps(
                    feature_map,
                    model.head.weight[model.class_names.index(image.boxes[0].label)],
                    image,
                )
        return Sample(image, maps, np.stack([box for _, box in made]).astype(np.float32), overlaps)

    samples, unreadable = [], []
    for done, sample in enumerate(
        parallel_map(make, range(len(images)), callers(embedder.engine)), start=1
    ):
        if isinstance(sample, Sample):
            samples.append(sample)
        else:
            unreadable.append(sample)
        if progress:
            progress(done, len(images), f"pictures, each with {count} random views")
    return samples, unreadable


def _heatmap_overlaps(
    feature_map: np.ndarray, class_weight: np.ndarray, image: Annotated
) -> np.ndarray:
    """Return the IoU (thresholds,) with the truth of the box that the heat map gives at each
    threshold.
    """
    heatmap = class_heatmap(feature_map, class_weight)
    found = [
        heatmap_box(heatmap, image.size, float(threshold)) or (0.0, 0.0, 0.0, 0.0)
        for threshold in THRESHOLDS
    ]
    return paired_iou(np.array(found), np.tile(np.array(image.boxes[0].xyxy), (len(found), 1)))


def _mask_threshold(samples: list[Sample]) -> float | None:
    """Return the threshold at which heat maps give the best boxes by the mean over IoU 0.3, 0.5
    and 0.7, or None for too few images.
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
        """Return boxes (n, 4), the box of every cell (n, 4, h, w) and its in-the-box logit (n,
        h, w), of maps (n, c, h, w).
        """
        x = functional.relu(self.enter(functional.dropout2d(maps, DROP_DIRECTIONS, self.training)))
        x = functional.relu(self.near(x)) + x
        x = functional.relu(self.far(x)) + x
        out = self.leave(functional.dropout(x, DROP_LAST, self.training))
        said = torch.from_numpy(centres(*maps.shape[2:])) + torch.from_numpy(OUTWARD).view(
            1, EDGES, 1, 1
        ) * functional.softplus(out[:, :EDGES])
        votes = out[:, -EDGES:].flatten(2).softmax(dim=2)
        return (said.flatten(2) * votes).sum(dim=2), said, out[:, EDGES]

    def numpy(self, directions: tuple[np.ndarray, np.ndarray]) -> BoxHead:
        """Return the head as it is now."""
        weights = {name: value.detach().numpy().copy() for name, value in self.state_dict().items()}
        return BoxHead(
            *directions,
            {name: (weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in SHAPES},
        )


def _fit(
    samples: list[Sample],
    directions: tuple[np.ndarray, np.ndarray],
    seed: int,
    progress: Progress | None,
    what: str,
    held: list[Sample] | None = None,
    history: list[dict] | None = None,
) -> BoxHead:
    """Train a head; where there are held-out images, note and tell their mean IoU after each
    epoch.
    """
    maps = [m for sample in samples for m in sample.maps]
    boxes = torch.from_numpy(np.concatenate([sample.boxes for sample in samples]))
    groups = defaultdict(list)
    for index, m in enumerate(maps):
        groups[m.shape].append(index)
    steps = sum(-(-len(rows) // BATCH) for rows in groups.values())
    epochs = max(EPOCHS, -(-LEAST_STEPS // steps))
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(len(directions[1]))
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, RATE, total_steps=steps * epochs, pct_start=WARMUP
        )
        done = 0
        for epoch in range(1, epochs + 1):
            network.train()
            total = 0.0
            batches = [
                part[i : i + BATCH]
                for rows in groups.values()
                for part in [rng.permutation(rows)]
                for i in range(0, len(rows), BATCH)
            ]
            for index in rng.permutation(len(batches)):
                rows = batches[index]
                some, truth = (
                    torch.from_numpy(np.stack([maps[i] for i in rows]).astype(np.float32)),
                    boxes[rows],
                )
                if rng.random() < 0.5:
                    some, truth = (
                        some.flip(3),
                        torch.stack(
                            [1 - truth[:, 2], truth[:, 1], 1 - truth[:, 0], truth[:, 3]], dim=1
                        ),
                    )
                optimizer.zero_grad()
                found, said, inside = network(some)
                loss = _loss(found, said, inside, truth).sum()
                (loss / BATCH).backward()
                nn.utils.clip_grad_norm_(network.parameters(), STEEPEST)
                optimizer.step()
                schedule.step()
                total += float(loss.detach())
                done += 1
                if progress:
                    progress(done, steps * epochs, what)
            if held is not None and history is not None:
                head = network.numpy(directions)
                overlaps = paired_iou(
                    np.stack([head.box_of(s.maps[0]) for s in held]),
                    np.stack([s.boxes[0] for s in held]),
                )
                row = {
                    "epoch": epoch,
                    "loss": total / len(maps),
                    "mean_iou": float(overlaps.mean()),
                }
                history.append(row)
                log.info(
                    "Boxes, epoch %d of %d: loss %.4f, mean IoU of %d held-out pictures %.3f.",
                    epoch,
                    epochs,
                    row["loss"],
                    len(held),
                    row["mean_iou"],
                )
    return network.numpy(directions)


def _loss(
    boxes: torch.Tensor, said: torch.Tensor, inside: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Return the loss (n,) of boxes (n, 4) against the truth (n, 4), of what cells say (n, 4,
    h, w), and of their in-the-box logits (n, h, w).
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
    of_cells = ((said - truth[:, :, None, None]).abs().mean(dim=1) * within).sum(
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
