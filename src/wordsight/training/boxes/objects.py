"""Train an object head, which finds every object of an image, on a classifier's frozen backbone;
judge it on images it has not seen.

Every image goes through the network once for each of several random views. A first head learns from
four fifths of the images (all but 500, if they are many) and is judged on the rest, where its
scores are calibrated, too. The head that is kept learns from all of them, and longer, and takes
over the calibration. So the figures are those of a lesser head.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn
from torch.nn import functional

from ...backbones.devices import cpu_has_bf16
from ...backbones.embedder import Embedder
from ...backbones.runtime import open_multiscale
from ...classification.record import ObjectRecord
from ...datasets.annotations import Annotated
from ...errors import InvalidArgument
from ...heads.logistic import fit_logistic, logit
from ...heads.objects import (
    EDGES,
    FAR,
    NEAR,
    OBJECT_THRESHOLD,
    SHAPES,
    SIDE,
    UNIT,
    ObjectHead,
    cell_centres,
)
from ...metrics.detection import Found, Known, average_precision, count_errors, matches
from .assignment import objects_loss
from .course import Course
from .keeping import Arrays, Circumstances, Keeper
from .samples import Sample, SampleMaker, Whole

log = logging.getLogger("wordsight")

WIDTH = 128  # channels within the head
JUDGED_STEPS, STEPS, BATCH = 700, 1300, 16  # of the head that is judged; of the one that is kept
EPOCHS = 8  # at least, of all views, for the one that is kept
NOTED = 10  # times that it is judged
STEEPEST = 5.0  # norm of a step's gradient
AVERAGED = 0.995  # of the mean of past weights that stays at a step
DROP_DIRECTIONS, DROP_LAST = 0.1, 0.1
UNLIKELY, AT_FIRST = -4.0, 1.0  # logit of a score, and an edge's distance, at the start
HELD_OUT, MOST_HELD_OUT = 5, 500  # every fifth image, and no more than that
FEWEST = 5  # images
RAW = 0.02  # score below which no box is judged
LOOSE = 1e3  # inverse penalty of the calibration: none to speak of


@dataclass
class TrainedObjects:
    """An object head and how it was judged.

    Attributes:
        head: trained on all images.
        record: the figures that the model keeps.
        held_out: the images that a first head, which had not seen them, was judged on.
        found: of each the true objects and those that it found, boxes in pixels.
    """

    head: ObjectHead
    record: ObjectRecord
    held_out: list[Annotated]
    found: list[tuple[list[Known], list[Found]]]


@dataclass
class _Judged:
    """A first head that was judged, and what it learned from.

    Attributes:
        head: calibrated.
        samples: of all images.
        unreadable: (name, reason) of images that could not be read.
        held: the images that judged it.
        found: of each the true objects and those that it found, boxes in pixels.
        history: a row for each time it was judged.
        steps: that a head of all images takes.
    """

    head: ObjectHead
    samples: list[Sample]
    unreadable: list[tuple[str, str]]
    held: list[Whole]
    found: list[tuple[list[Known], list[Found]]]
    history: list[dict]
    steps: int


def judge_objects(
    images: list[Annotated], embedder: Embedder, how: Circumstances
) -> tuple[float, int]:
    """Return how good an object head on a backbone is, as the mean average precision over IoU
    0.5:0.95 on images that it has not seen, 0–1, and how many these are; otherwise as
    `train_objects`.
    """
    judged = _judge(images, embedder, how)
    figures = average_precision(judged.found, judged.head.class_names)
    return figures.get("0.5:0.95", 0.0), len(judged.held)


def train_objects(
    images: list[Annotated], embedder: Embedder, how: Circumstances | None = None
) -> TrainedObjects:
    """Train an object head on every annotated box.

    Raises:
        InvalidArgument: if fewer than five images can be read, or the backbone gives no feature
            maps at three strides.
        OutputError: if what doesn't fit into memory doesn't fit on the disk.
    """
    how = how or Circumstances()
    judged = _judge(images, embedder, how)
    class_names, samples, found = judged.head.class_names, judged.samples, judged.found
    kept = _Learner(judged.head, "kept", how)
    kept.learn(samples, judged.steps, "steps, with all pictures")
    record = ObjectRecord(
        images=len(samples),
        objects=sum(len(one.image.boxes) for one in samples),
        held_out=len(judged.held),
        average_precision=average_precision(found, class_names),
        count_error=count_errors(found, class_names, OBJECT_THRESHOLD)[""],
        history=judged.history,
        unreadable=judged.unreadable,
        class_names=list(class_names),
    )
    return TrainedObjects(kept.head(), record, [one.image for one in judged.held], found)


def _judge(images: list[Annotated], embedder: Embedder, how: Circumstances) -> _Judged:
    """Train a first head and judge it."""
    class_names = tuple(sorted({box.label for image in images for box in image.boxes}))
    runtime = open_multiscale(embedder.backbone, embedder.engine, embedder.dtype)
    maker = SampleMaker(images, class_names, runtime, embedder, how.seed)
    side = float(np.median([math.sqrt(math.prod(image.size)) for image in images]))
    head = ObjectHead(class_names, _projections(maker, how.keeper), {}, side, SIDE)
    samples, unreadable = maker.samples(head, how.keeper, how.progress)
    if len(samples) < FEWEST:
        raise InvalidArgument(
            f"Boxes need at least {FEWEST} readable annotated pictures, got {len(samples)}."
        )
    count = min(MOST_HELD_OUT, max(1, len(samples) // HELD_OUT))
    judging, learning = how.split([one.image for one in samples], count)
    held = maker.wholes(head, [samples[i].image for i in judging])
    learner = _Learner(head, "judged", how)
    steps = _steps(samples)

    def note(step: int, loss: float) -> dict:
        head = learner.head()
        figures = average_precision([_found(head, one) for one in held], class_names)
        row = {"step": step, "loss": loss, "ap50": figures.get("0.5", 0.0)}
        log.info("Objects, step %d: loss %.4f, AP50 of held-out pictures %.3f.", *row.values())
        return row

    learner.learn(
        [samples[i] for i in learning],
        steps * JUDGED_STEPS // STEPS,
        "steps, judged on held-out pictures",
        note,
    )
    judged = learner.head()
    judged = replace(judged, calibration=_calibrate(judged, held))
    found = [_found(judged, one) for one in held]
    return _Judged(judged, samples, unreadable, held, found, learner.history, steps)


def _projections(maker: SampleMaker, keeper: Keeper) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return the projections that all samples are made with: those kept, or new ones."""
    if (kept := keeper.load("directions")) is not None:
        arrays = kept[0]
        return tuple((arrays[f"{i}.mean"], arrays[f"{i}.of"]) for i in range(len(arrays) // 2))
    made = maker.projections()
    arrays = {f"{i}.mean": mean for i, (mean, _) in enumerate(made)}
    keeper.save("directions", arrays | {f"{i}.of": of for i, (_, of) in enumerate(made)}, {})
    return made


def _steps(samples: list[Sample]) -> int:
    views = sum(len(one.views) for one in samples)
    return max(STEPS, EPOCHS * views // BATCH)


class _Network(nn.Module):
    """The object head as torch trains it; see `ObjectHead` for what it computes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, WIDTH, 1)
        self.near = nn.Conv2d(WIDTH, WIDTH, 3, padding=NEAR, dilation=NEAR)
        self.far = nn.Conv2d(WIDTH, WIDTH, 3, padding=FAR, dilation=FAR)
        self.leave = nn.Conv2d(WIDTH, classes + EDGES, 1)
        with torch.no_grad():
            self.leave.weight.mul_(0.3)
            start = torch.tensor([UNLIKELY] * classes + [AT_FIRST] * EDGES)
            self.leave.bias = nn.Parameter(start)

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return score logits (n, cells, classes) and boxes (n, cells, 4) in pixels, for maps (n,
        c, h, w).
        """
        x = functional.relu(self.enter(functional.dropout2d(maps, DROP_DIRECTIONS, self.training)))
        x = functional.relu(self.near(x)) + x
        x = functional.relu(self.far(x)) + x
        out = self.leave(functional.dropout(x, DROP_LAST, self.training)).flatten(2).mT.float()
        centres = torch.from_numpy(cell_centres(*maps.shape[2:]))
        outward = out.new_tensor([-1.0, -1.0, 1.0, 1.0])
        boxes = centres + outward * functional.softplus(out[..., -EDGES:]) * UNIT
        return out[..., :-EDGES], boxes


class _Learner:
    """A head that learns. What it gives is the mean of its past weights.

    Args:
        head: its layers are not used.
        name: of the head, among those that are kept.
        how: seed, keeper and progress.

    Attributes:
        history: a row for each time it was judged.
    """

    def __init__(self, head: ObjectHead, name: str, how: Circumstances) -> None:
        self._head, self._rng = head, np.random.default_rng(how.seed)
        self._name, self._how = name, how
        self.history: list[dict] = []
        channels = sum(len(directions) for _, directions in head.projections)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(how.seed)
            network = _Network(channels, len(head.class_names))
        # channels last: a sixth faster
        self._network = network.to(memory_format=torch.channels_last)
        self._autocast = torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16())
        self._mean = [value.detach().clone() for value in self._network.parameters()]

    def head(self) -> ObjectHead:
        """Return the head with the present mean weights."""
        names = [name for name, _ in self._network.named_parameters()]
        kept = {name: v.numpy().copy() for name, v in zip(names, self._mean, strict=True)}
        layers = {name: (kept[f"{name}.weight"], kept[f"{name}.bias"]) for name in SHAPES}
        return replace(self._head, layers=layers)

    def learn(
        self,
        samples: list[Sample],
        steps: int,
        what: str,
        note: Callable[[int, float], dict] | None = None,
    ) -> None:
        """Learn from samples for so many steps, reported as `what`; `note` is called with (step,
        mean loss since) and returns a row of the history.
        """
        views = [
            (maps, objects)
            for one in samples
            for maps, objects in zip(one.views, one.objects, strict=True)
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._how.seed)
            course = Course(self._network, steps, STEEPEST, self._rng)
            self._network.train()
            order, losses = self._restore(course)
            for step in range(course.done + 1, steps + 1):
                while len(order) < BATCH:
                    order += self._rng.permutation(len(views)).tolist()
                batch, order = order[:BATCH], order[BATCH:]
                loss = self._loss([views[index] for index in batch])
                course.step(loss)
                self._average(step)
                losses.append(float(loss.detach()))
                if self._how.progress:
                    self._how.progress(step, steps, what)
                if note is not None and step % max(1, steps // NOTED) == 0:
                    self.history.append(note(step, float(np.mean(losses))))
                    losses = []
                if self._how.keeper.is_due() or step == steps:
                    self._keep(course, order, losses)

    def _keep(self, course: Course, order: list[int], losses: list[float]) -> None:
        arrays, note = course.state()
        means: Arrays = {f"mean/{number}": one.numpy() for number, one in enumerate(self._mean)}
        more = {"order": order, "losses": losses, "history": self.history}
        self._how.keeper.save(self._name, arrays | means, note | more)

    def _restore(self, course: Course) -> tuple[list[int], list[float]]:
        """Go on from what is kept, if anything is; return what is left of the present order of
        views, and the losses since the head was judged.
        """
        if (kept := self._how.keeper.load(self._name)) is None:
            return [], []
        arrays, note = kept
        course.restore(arrays, note)
        for number, mean in enumerate(self._mean):
            mean.copy_(torch.from_numpy(arrays[f"mean/{number}"]))
        self.history = note["history"]
        return note["order"], note["losses"]

    def _loss(self, views: list[tuple[ArrayLike, np.ndarray]]) -> torch.Tensor:
        maps = torch.from_numpy(np.stack([one for one, _ in views])).float()
        truth = [torch.from_numpy(objects) for _, objects in views]
        if self._rng.random() < 0.5:
            maps = maps.flip(3)
            width = maps.shape[3] * (UNIT / 2)
            truth = [
                torch.stack([width - o[:, 2], o[:, 1], width - o[:, 0], o[:, 3], o[:, 4]], dim=1)
                for o in truth
            ]
        maps = maps.contiguous(memory_format=torch.channels_last)
        with self._autocast:
            logits, boxes = self._network(maps)
        centres = torch.from_numpy(cell_centres(*maps.shape[2:]))
        return objects_loss(logits, boxes, centres, truth)

    def _average(self, step: int) -> None:
        keep = min(AVERAGED, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(self._mean, self._network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)


def _found(head: ObjectHead, whole: Whole) -> tuple[list[Known], list[Found]]:
    """Return the true objects of an image and those that a head finds, boxes in pixels."""
    height, width = whole.size
    boxes, _ = head.find_in(whole.maps, RAW)
    scale = np.array(whole.image.size[::-1] * 2) / [width, height, width, height]
    labels = [head.class_names[label] for label in boxes.labels]
    xyxy = (boxes.xyxy * scale).tolist()
    known: list[Known] = [(box.label, box.xyxy) for box in whole.image.boxes]
    return known, list(zip(labels, boxes.probabilities.tolist(), xyxy, strict=True))


def _calibrate(head: ObjectHead, held: list[Whole]) -> tuple[float, float]:
    """Return scale and shift of a score's logit such that its sigmoid is the chance that the object
    is there, by logistic regression on held-out images; the score itself where that can't be told.
    """
    if not held:  # they could be read before
        return head.calibration
    logits, right = [], []
    for whole in held:
        known, found = _found(head, whole)
        right.append(matches(known, found))
        logits.append(logit(np.array([probability for _, probability, _ in found])))
    x, y = np.concatenate(logits), np.concatenate(right)
    if not y.any() or y.all():
        return head.calibration
    scale, shift = fit_logistic(x[:, None], y, LOOSE).tolist()
    return (scale, shift) if scale > 0 else head.calibration
