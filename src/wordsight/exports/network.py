"""A model as one torch module, from pixels to everything it answers, for other tools to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..backbones.networks.fixed_padding import with_fixed_padding
from ..backbones.networks.timm_models import build_module, maps_of
from ..backbones.torch_engine import pixels_to_input
from ..heads.boxes import EDGES, FAR, NEAR, OUTWARD, SHAPES, BoxHead
from ..heads.novelty import CONCEPT_TEMPERATURE, Neighbourhood
from ..heads.objects import STRIDE, UNIT, ObjectHead
from ..heads.zero_shot import FINAL, SHARPNESS, TINY_SHARE, UNDECIDED, WordsHead
from .answers import MIDDLE, TINY, answers_of, map_strides

if TYPE_CHECKING:
    from ..classification.classifier import Classifier


class ExportedNetwork(nn.Module):
    """The whole of a classifier: backbone, head, heat maps, the sense of what is foreign to it, the
    box head and the object head.

    Attributes:
        outputs: names of what `forward` returns, in order.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self._backbone = model.backbone
        self._pooled = model.backbone.pooled
        self._catch_all, self._nothing = model.catch_all, model.nothing
        self.network = _with_clipping(
            with_fixed_padding(build_module(model.backbone), model.backbone.preprocessing)
        )
        self.weight = _constant(model.head.weight)
        self.bias = _constant(model.head.bias)
        self._temperature = float(model.head.temperature)
        self.neighbourhood = (
            None if model.neighbourhood is None else _Neighbourhood(model.neighbourhood)
        )
        self.words = None if model.words is None else _Words(model.words)
        self.box_head = None if model.box_head is None else _BoxHead(model.box_head)
        self.object_head = None
        if model.object_head is not None:
            self.object_head = _ObjectHead(model.object_head, map_strides(model))
        self._maps = None
        if self.object_head or (self.box_head and self.box_head.middle):
            self._maps = maps_of(self.network, model.backbone.architecture)
        self.outputs = answers_of(model)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the model says of images (n, height, width, 3), uint8, RGB, upright.

        Returns:
            probabilities (n, classes), calibrated; heatmap (n, classes, h, w), 0–1, where the head
            allows it in one pass; stranger (n,) bool, where the model has a sense of it: such a
            image gets no label, however probable; box (n, 4), `xyxy` as shares of width and
            height, 0–1, where the model has a box head; object_probabilities (n, cells, object
            classes), calibrated, and object_boxes (n, cells, 4), as box, of each cell, where it has
            an object head: boxes that show one object are not yet merged.
        """
        inputs, maps = pixels_to_input(pixels, self._backbone), ()
        if self._maps is None:
            features = self.network.forward_features(inputs)  # type: ignore[operator]  # timm's networks have it
        else:
            maps = self._maps(inputs)
            features = maps[-1]
        embedding = self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]
        probabilities = (
            functional.softmax((embedding @ self.weight.T + self.bias) / self._temperature, dim=1)
            if self.words is None
            else self.words(embedding)
        )
        answers = [probabilities]
        if self._pooled:
            evidence = functional.conv2d(features, self.weight[:, :, None, None]).clamp(min=0)
            answers.append(evidence / evidence.amax(dim=(2, 3), keepdim=True).clamp(min=TINY))
        if "stranger" in self.outputs:
            answers.append(self._stranger(embedding, probabilities))
        if self.box_head is not None:
            answers.append(self.box_head(features, *maps[MIDDLE : MIDDLE + 1]))
        if self.object_head is not None:
            answers += self.object_head(*maps)
        return tuple(answers)

    def _stranger(self, embedding: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        stranger = torch.zeros_like(probabilities[:, 0], dtype=torch.bool)
        if self.neighbourhood is not None:
            stranger = stranger | self.neighbourhood(embedding)
        if self.words is not None:
            found = probabilities[:, : self.words.count]
            stranger = stranger | (found.amax(dim=1) < UNDECIDED)
        if self._catch_all is not None:
            stranger = stranger & (probabilities.argmax(dim=1) != self._catch_all)
        if self._nothing is not None:
            stranger = stranger | (probabilities.argmax(dim=1) == self._nothing)
        return stranger


class _Clip(nn.Module):
    """What `nn.ReLU6` does, in an operation that torch traces several times as fast."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clamp(0, 6)


def _with_clipping(module: nn.Module) -> nn.Module:
    """Replace the layers that tracing is slow for. Their results don't change."""
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU6):
            setattr(module, name, _Clip())
        else:
            _with_clipping(child)
    return module


class _Neighbourhood(nn.Module):
    """See `Neighbourhood.familiarity`; here, whether it is below the limit."""

    def __init__(self, near: Neighbourhood) -> None:
        super().__init__()
        self.references = _constant(near.references)
        self._k, self._limit, self._scales = (
            min(near.k, len(near.references)),
            near.limit,
            near.scales,
        )
        self.concepts = None
        if near.concepts is not None and near.concept_head is not None:
            self.concepts = nn.ParameterList(
                [_constant(array) for array in (near.concepts, *near.concept_head)]
            )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        unit = embedding / embedding.norm(dim=1, keepdim=True).clamp(min=TINY)
        views = [unit @ self.references.T]
        if self.concepts is not None:
            concepts, weight, bias = self.concepts
            views.append(
                functional.softmax(
                    (embedding @ weight.T + bias) / CONCEPT_TEMPERATURE, dim=1
                ).sqrt()
                @ concepts.T
            )
        nearest = [view.topk(self._k, dim=1).values.mean(dim=1) for view in views]
        familiarity = sum(
            (similarity - middle) / spread
            for similarity, (middle, spread) in zip(nearest, self._scales, strict=True)
        )
        return familiarity < self._limit  # type: ignore[operator]  # a sum of tensors is one


class _Words(nn.Module):
    """See `WordsHead.probabilities`."""

    def __init__(self, head: WordsHead) -> None:
        super().__init__()
        self.count = len(head.groups)
        self.weight = _constant(head.weight / SHARPNESS)
        self.bias = _constant(head.bias / SHARPNESS + np.log(np.maximum(head.prior, TINY_SHARE)))
        self.members = _constant(head.members())
        self.learned_weight = _constant(head.learned_weight)
        self.learned_bias = _constant(head.learned_bias)
        self.trust = _constant(head.trust)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        shares = functional.softmax(embedding @ self.weight.T + self.bias, dim=1) @ self.members
        own = torch.logit(shares.clamp(TINY_SHARE, 1 - TINY_SHARE))
        learned = embedding @ self.learned_weight.T + self.learned_bias
        words = torch.sigmoid(FINAL * ((1 - self.trust) * own + self.trust * learned))
        return torch.cat([words, 1 - words], dim=1) if self.count == 1 else words


class _BoxHead(nn.Module):
    """See `BoxHead.box_of`."""

    def __init__(self, head: BoxHead) -> None:
        super().__init__()
        self.mean, self.directions = _constant(head.mean), _constant(head.directions)
        self.middle = nn.ParameterList([_constant(array) for array in head.middle or ()])
        self.outward = _constant(OUTWARD.reshape(1, EDGES, 1, 1))
        self.layers = nn.ParameterList(
            [_constant(array) for name in SHAPES for array in head.layers[name]]
        )

    def forward(
        self, features: torch.Tensor, middle_map: torch.Tensor | None = None
    ) -> torch.Tensor:
        reduced = _projected(features, self.mean, self.directions)
        if self.middle:
            assert middle_map is not None
            finer = functional.pixel_unshuffle(_projected(middle_map, *self.middle), 2)
            reduced = torch.cat([reduced, finer], dim=1)
        out = _layers(reduced, self.layers)
        said = _centres(out) + self.outward * functional.softplus(out[:, :EDGES])
        votes = functional.softmax(out[:, -EDGES:].flatten(2), dim=2)
        return (said.flatten(2) * votes).sum(dim=2).clamp(0, 1)


class _ObjectHead(nn.Module):
    """See `ObjectHead.reduce` and `ObjectHead.cells`."""

    def __init__(self, head: ObjectHead, strides: list[int]) -> None:
        super().__init__()
        self.projections = nn.ParameterList(
            [_constant(array) for projection in head.projections for array in projection]
        )
        self.layers = nn.ParameterList(
            [_constant(array) for name in SHAPES for array in head.layers[name]]
        )
        self.outward = _constant(OUTWARD.reshape(1, EDGES, 1, 1))
        self._strides, self._calibration = strides, head.calibration

    def forward(self, *maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        reduced = []
        for index, (one, stride) in enumerate(zip(maps, self._strides, strict=True)):
            x = _projected(one, self.projections[2 * index], self.projections[2 * index + 1])
            if stride < STRIDE:
                x = functional.avg_pool2d(x, STRIDE // stride)
            if stride > STRIDE:
                x = functional.interpolate(x, scale_factor=stride // STRIDE, mode="nearest")
            reduced.append(x)
        out = _layers(torch.cat(reduced, dim=1), self.layers)
        height, width = out.shape[2], out.shape[3]
        sides = torch.stack([out.new_full((), width), out.new_full((), height)]).repeat(2)
        sides = (sides * STRIDE)[None, :, None, None]
        edges = functional.softplus(out[:, -EDGES:]) * UNIT / sides
        boxes = (_centres(out) + self.outward * edges).clamp(0, 1)
        scale, shift = self._calibration
        probabilities = torch.sigmoid(scale * out[:, :-EDGES] + shift)
        return probabilities.flatten(2).mT, boxes.flatten(2).mT


def _projected(
    features: torch.Tensor, mean: torch.Tensor, directions: torch.Tensor
) -> torch.Tensor:
    """Return a map (n, C, h, w) on the directions (c, C) about the mean (C,)."""
    return functional.conv2d(features - mean[None, :, None, None], directions[:, :, None, None])


def _layers(x: torch.Tensor, layers: nn.ParameterList) -> torch.Tensor:
    """Return what the four layers of a head on feature maps make of a map."""
    (enter, near, far, leave) = ((layers[2 * i], layers[2 * i + 1]) for i in range(4))
    x = functional.relu(functional.conv2d(x, *enter))
    x = functional.relu(functional.conv2d(x, *near, padding=NEAR, dilation=NEAR)) + x
    x = functional.relu(functional.conv2d(x, *far, padding=FAR, dilation=FAR)) + x
    return functional.conv2d(x, *leave)


def _centres(out: torch.Tensor) -> torch.Tensor:
    """Return x, y, x, y of the centre of each cell of a map, as shares of it, (1, 4, h, w)."""
    height, width = out.shape[2], out.shape[3]
    down = ((torch.arange(height, device=out.device) + 0.5) / height)[:, None].expand(height, width)
    right = ((torch.arange(width, device=out.device) + 0.5) / width)[None, :].expand(height, width)
    return torch.stack([right, down, right, down])[None]


def _constant(array: np.ndarray) -> nn.Parameter:
    return nn.Parameter(
        torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)), requires_grad=False
    )
