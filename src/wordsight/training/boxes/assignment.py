"""Which cells learn which object, and the loss of an object head.

Sources: dynamic assignment by cost (Ge et al. 2021, SimOTA; Lyu et al. 2022, RTMDet), varifocal
loss (Zhang et al. 2021), GIoU (Rezatofighi et al. 2019).
"""

from __future__ import annotations

import torch
from torch.nn import functional

from ...heads.objects import EDGES, STRIDE

NEAR = 2.5 * STRIDE  # pixels about an object's centre within which its cells lie
CANDIDATES = 10  # cells whose overlaps say how many an object gets
OVERLAP_COST = 3.0  # weight of the logarithm of the overlap in an object's choice of cells
GIOU_WEIGHT = 2.0
_FAR_OFF = 1e5  # cost of a cell that is not both near and inside


def objects_loss(
    logits: torch.Tensor, boxes: torch.Tensor, centres: torch.Tensor, truth: list[torch.Tensor]
) -> torch.Tensor:
    """Return the mean loss of a batch.

    Args:
        logits: (n, cells, classes) scores.
        boxes: (n, cells, 4) `xyxy` that each cell predicts, pixels.
        centres: (cells, 4) x, y, x, y of each cell.
        truth: for each image (objects, 5): `xyxy` in pixels and the class index.
    """
    targets = torch.zeros_like(logits)
    count, weight, giou_sum = 0, logits.new_zeros(()), logits.new_zeros(())
    for index, objects in enumerate(truth):
        if not len(objects):
            continue
        labels, edges = objects[:, EDGES].long(), objects[:, :EDGES]
        with torch.no_grad():
            cells, which = assign(logits[index], boxes[index], centres, edges, labels)
        if not len(cells):
            continue
        overlap, giou = _paired(boxes[index, cells], edges[which])
        quality = overlap.detach().clamp(0, 1)
        targets[index, cells, labels[which]] = quality
        each = quality.clamp(min=0.1)
        giou_sum = giou_sum + ((1 - giou) * each).sum()
        weight, count = weight + each.sum(), count + len(cells)
    focus = (targets - logits.detach().sigmoid()).square()
    scores = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (scores * focus).sum() / max(1, count) + GIOU_WEIGHT * giou_sum / weight.clamp(min=1)


def assign(
    logits: torch.Tensor,
    boxes: torch.Tensor,
    centres: torch.Tensor,
    edges: torch.Tensor,
    labels: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cells that learn an object, (m,), and which object each learns, (m,).

    An object gets as many cells as the overlaps of its best ones add up to, at least one: those
    that already predict it best, of the cells within it or near its centre.

    Args:
        logits: (cells, classes).
        boxes: (cells, 4) predicted.
        centres: (cells, 4).
        edges: (objects, 4) true boxes.
        labels: (objects,) class indices.
    """
    x, y = centres[:, 0, None], centres[:, 1, None]
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    near = ((x - middle[:, 0]).abs() < NEAR) & ((y - middle[:, 1]).abs() < NEAR)
    inside = (x > edges[:, 0]) & (x < edges[:, 2]) & (y > edges[:, 1]) & (y < edges[:, 3])
    overlap = _pairwise_iou(boxes, edges)
    scores = logits.sigmoid()[:, labels]
    wrong = functional.binary_cross_entropy(
        scores.clamp(1e-6, 1 - 1e-6), overlap.clamp(0, 1), reduction="none"
    )
    cost = (scores - overlap).square() * wrong - OVERLAP_COST * torch.log(overlap + 1e-7)
    cost = torch.where(near & inside, cost, cost + _FAR_OFF)
    cost = torch.where(near | inside, cost, torch.inf)
    best = overlap.topk(min(CANDIDATES, len(boxes)), dim=0).values
    wanted = best.sum(dim=0).int().clamp(min=1, max=CANDIDATES)
    order = cost.topk(min(CANDIDATES, len(boxes)), dim=0, largest=False)
    ranks = torch.arange(len(order.indices))[:, None]
    taken = (ranks < wanted) & order.values.isfinite()
    chosen = torch.full_like(cost, torch.inf)
    chosen.scatter_(0, order.indices, torch.where(taken, order.values, torch.inf))
    least, which = chosen.min(dim=1)  # a cell that several want learns the one it fits best
    cells = least.isfinite().nonzero()[:, 0]
    return cells, which[cells]


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _pairwise_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the IoU (n, m) of boxes (n, 4) and (m, 4)."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    union = _areas(boxes)[:, None] + _areas(others)[None] - shared
    return shared / union.clamp(min=1e-6)


def _paired(boxes: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return IoU and GIoU (n,) of each box (n, 4) with its true one."""
    low = torch.maximum(boxes[:, :2], truth[:, :2])
    high = torch.minimum(boxes[:, 2:], truth[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = _areas(boxes) + _areas(truth) - shared
    hull = torch.maximum(boxes[:, 2:], truth[:, 2:]) - torch.minimum(boxes[:, :2], truth[:, :2])
    spread = hull.prod(dim=1).clamp(min=1e-6)
    overlap = shared / union.clamp(min=1e-6)
    return overlap, overlap - (spread - union) / spread
