"""How a box head learns: its network, batches, steps and loss.

The loss of a box is 1 - GIoU (Rezatofighi et al. 2019) + 2 × the mean distance of the edges + 0.5 ×
the cross-entropy of "this cell lies in the box" + the mean distance of the edges that the cells in
the box predict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...heads.boxes import EDGES, FAR, NEAR, OUTWARD, PLANES, SHAPES, BoxHead, centres
from .course import Course
from .keeping import Circumstances

if TYPE_CHECKING:
    from .fit import Sample

WIDTH = 64  # channels within the head
EPOCHS, LEAST_STEPS, BATCH = 4, 400, 16
STEEPEST = 2.0  # norm of a step's gradient
DROP_DIRECTIONS, DROP_LAST = 0.1, 0.2
EDGE_WEIGHT, INSIDE_WEIGHT = 2.0, 0.5


class Network(nn.Module):
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


class Batches:
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


class Learner:
    """A head that learns.

    Args:
        turning: a head without layers, with the directions of the maps.
        name: of the head, among those that are kept.
        how: seed, keeper and progress.
    """

    def __init__(self, turning: BoxHead, name: str, how: Circumstances) -> None:
        self._turning, self._name, self._how = turning, name, how

    def learn(
        self,
        samples: list[Sample],
        what: str,
        after_epoch: Callable[[BoxHead, int, int, float], dict] | None = None,
    ) -> tuple[BoxHead, list[dict]]:
        """Return the head that has learned from samples, and its history.

        Args:
            samples: images with their views.
            what: name of the steps, for the progress.
            after_epoch: called with (head so far, epoch, epochs in all, mean loss); returns a row
                of the history.
        """
        rng = np.random.default_rng(self._how.seed)
        batches = Batches(samples, rng)
        epochs = max(EPOCHS, -(-LEAST_STEPS // len(batches)))
        steps = len(batches) * epochs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._how.seed)
            network = Network(len(samples[0].maps[0]))
            course = Course(network, steps, STEEPEST, rng)
            order, total, history = self._restore(course)
            network.train()
            while course.done < steps:
                order = order or batches.order()
                maps, truth = batches.batch(order.pop(0))
                found, cell_boxes, inside = network(maps)
                loss = _loss(found, cell_boxes, inside, truth).sum()
                course.step(loss / BATCH)
                total += float(loss.detach())
                if self._how.progress:
                    self._how.progress(course.done, steps, what)
                if not order:
                    epoch = course.done // len(batches)
                    if after_epoch is not None:
                        head = network.numpy(self._turning)
                        history.append(after_epoch(head, epoch, epochs, total / len(batches.maps)))
                    total = 0.0
                if self._how.keeper.is_due() or course.done == steps:
                    arrays, note = course.state()
                    note |= {"order": order, "total": total, "history": history}
                    self._how.keeper.save(self._name, arrays, note)
        return network.numpy(self._turning), history

    def _restore(self, course: Course) -> tuple[list[list[int]], float, list[dict]]:
        """Go on from what is kept, if anything is; return what is left of the present epoch, the
        sum of its losses so far, and the history.
        """
        if (kept := self._how.keeper.load(self._name)) is None:
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
