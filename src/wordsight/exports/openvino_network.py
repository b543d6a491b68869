"""A model as one OpenVINO network, from pixels to everything it answers, made without torch: the
backbone as it was prepared, and what follows it in OpenVINO's own operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backbones.openvino_engine import convert
from ..heads.boxes import EDGES, FAR, NEAR, OUTWARD, BoxHead
from ..heads.novelty import CONCEPT_TEMPERATURE, Neighbourhood
from ..heads.objects import STRIDE, UNIT, ObjectHead
from ..heads.zero_shot import FINAL, SHARPNESS, TINY_SHARE, UNDECIDED, WordsHead
from .answers import MIDDLE, TINY, answers_of, map_strides

if TYPE_CHECKING:
    from ..classification.classifier import Classifier


def openvino_network(ov: Any, model: Classifier) -> Any:
    """Return a classifier as an OpenVINO model. `ExportedNetwork.forward` says what goes in and
    what comes out.
    """
    many = model.object_head is not None
    backbone = ov.Core().read_model(convert(model.backbone, multiscale=many))
    ports = [port.get_node().input_value(0) for port in backbone.outputs]
    if many:
        results = _Network(_pooled(ports[-1])).answers(model, ports[-1], ports[MIDDLE], ports)
    else:  # embedding, and the last, the fine and the middle map as far as the backbone has them
        results = _Network(ports[0]).answers(model, *ports[1:2], *ports[3:4])
    ports = [results[name] for name in answers_of(model)]
    whole = ov.Model(ports, backbone.get_parameters(), "wordsight")
    whole.inputs[0].get_tensor().set_names({"pixels"})
    for port, name in zip(whole.outputs, answers_of(model), strict=True):
        port.get_tensor().set_names({name})
    return whole


def _pooled(features: Any) -> Any:
    from openvino import opset13

    return opset13.reduce_mean(features, np.array([2, 3]), False)


class _Network:
    """Puts operations on an embedding (n, C)."""

    def __init__(self, embedding: Any) -> None:
        from openvino import opset13

        self._op, self._embedding = opset13, embedding

    def answers(
        self,
        model: Classifier,
        features: Any | None = None,
        middle_map: Any | None = None,
        maps: Sequence[Any] = (),
    ) -> dict[str, Any]:
        """Return all that a model says, by name.

        Args:
            model: the model.
            features: feature map (n, C, h, w), where the backbone has one.
            middle_map: feature map at stride 16, likewise.
            maps: feature maps at several strides, where the model has an object head.
        """
        op, head = self._op, model.head
        logits = self._linear(head.weight, head.bias)
        found = {
            "probabilities": op.softmax(op.divide(logits, _number(head.temperature)), 1)
            if model.words is None
            else self._words(model.words)
        }
        if features is not None:
            kernel = head.weight[:, :, None, None]
            evidence = op.relu(self._convolved(features, kernel, None))
            peak = op.reduce_max(evidence, np.array([2, 3]), True)
            found["heatmap"] = op.divide(evidence, op.maximum(peak, _number(TINY)))
        strange = []
        if model.neighbourhood is not None:
            strange.append(self._far(model.neighbourhood))
        if model.words is not None:
            words = found["probabilities"]
            if len(model.words.groups) == 1:
                words = op.gather(words, np.array([0]), np.int64(1))
            highest = op.reduce_max(words, np.array([1]), False)
            strange.append(op.less(highest, _number(UNDECIDED)))
        if strange:
            stranger = strange[0] if len(strange) == 1 else op.logical_or(*strange)
            if model.catch_all is not None:
                best = op.topk(found["probabilities"], np.int32(1), 1, "max", "value").output(1)
                top = op.squeeze(best, np.array([1]))
                other = op.not_equal(top, np.int32(model.catch_all))
                stranger = op.logical_and(stranger, other)
                if model.nothing is not None:
                    none = op.equal(top, np.int32(model.nothing))
                    stranger = op.logical_or(stranger, none)
            found["stranger"] = stranger
        if model.box_head is not None:
            found["box"] = self._box(model.box_head, features, middle_map)
        if model.object_head is not None:
            found |= self._objects(model.object_head, maps, map_strides(model))
        return found

    def _linear(self, weight: np.ndarray, bias: np.ndarray) -> Any:
        product = self._op.matmul(self._embedding, _array(weight), False, True)
        return self._op.add(product, _array(bias)[None])

    def _far(self, near: Neighbourhood) -> Any:
        """Return whether the familiarity is below the limit; see `Neighbourhood.familiarity`."""
        op = self._op
        length = op.reduce_l2(self._embedding, np.array([1]), True)
        unit = op.divide(self._embedding, op.maximum(length, _number(TINY)))
        views = [op.matmul(unit, _array(near.references), False, True)]
        if near.concepts is not None and near.concept_head is not None:
            sharp = op.divide(self._linear(*near.concept_head), _number(CONCEPT_TEMPERATURE))
            concepts = op.sqrt(op.softmax(sharp, 1))
            views.append(op.matmul(concepts, _array(near.concepts), False, True))
        k = np.int32(min(near.k, len(near.references)))
        scaled = [
            op.divide(
                op.subtract(self._mean(op.topk(view, k, 1, "max", "none").output(0)), _number(m)),
                _number(spread),
            )
            for view, (m, spread) in zip(views, near.scales, strict=True)
        ]
        familiarity = scaled[0] if len(scaled) == 1 else op.add(*scaled)
        return op.less(familiarity, _number(near.limit))

    def _mean(self, values: Any) -> Any:
        return self._op.reduce_mean(values, np.array([1]), False)

    def _words(self, head: WordsHead) -> Any:
        """Return the probabilities of words; see `WordsHead.probabilities`."""
        op = self._op
        frequent = np.log(np.maximum(head.prior, TINY_SHARE))
        sharp = self._linear(head.weight / SHARPNESS, head.bias / SHARPNESS + frequent)
        shares = op.matmul(op.softmax(sharp, 1), _array(head.members()), False, False)
        shares = op.clamp(shares, TINY_SHARE, 1 - TINY_SHARE)
        own = op.subtract(op.log(shares), op.log(op.subtract(_number(1), shares)))
        learned = self._linear(head.learned_weight, head.learned_bias)
        blended = op.add(
            op.multiply(own, _array(1 - head.trust)[None]),
            op.multiply(learned, _array(head.trust)[None]),
        )
        words = op.sigmoid(op.multiply(blended, _number(FINAL)))
        if len(head.groups) > 1:
            return words
        return op.concat([words, op.subtract(_number(1), words)], 1)

    def _box(self, head: BoxHead, features: Any, middle_map: Any | None) -> Any:
        """Return the box; see `BoxHead.box_of`."""
        op = self._op
        x = self._projected(features, head.mean, head.directions)
        if head.middle is not None:
            finer = op.space_to_depth(self._projected(middle_map, *head.middle), "depth_first", 2)
            x = op.concat([x, finer], 1)
        x = self._layers(x, head.layers)
        distances, _, votes = op.variadic_split(
            x, np.int64(1), np.array([EDGES, 1, EDGES])
        ).outputs()
        outward = _array(OUTWARD).reshape(1, EDGES, 1, 1)
        said = op.add(self._centres(features), op.multiply(outward, op.softplus(distances)))
        flat = np.array([0, 0, -1])
        shares = op.softmax(op.reshape(votes, flat, True), 2)
        edges = op.multiply(op.reshape(said, flat, True), shares)
        return op.clamp(op.reduce_sum(edges, np.array([2]), False), 0.0, 1.0)

    def _objects(self, head: ObjectHead, maps: Sequence[Any], strides: list[int]) -> dict[str, Any]:
        """Return what each cell says; see `ObjectHead.reduce` and `ObjectHead.cells`."""
        op, reduced = self._op, []
        for one, projection, stride in zip(maps, head.projections, strides, strict=True):
            x, ratio = self._projected(one, *projection), STRIDE / stride
            if ratio > 1:
                side = [round(ratio)] * 2
                x = op.avg_pool(x, side, [0, 0], [0, 0], side, True)
            if ratio < 1:
                grow = np.array([1 / ratio] * 2, dtype=np.float32)
                axes = np.array([2, 3], dtype=np.int32)
                # each cell repeated
                x = op.interpolate(
                    x,
                    grow,
                    "nearest",
                    "scales",
                    axes=axes,
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            reduced.append(x)
        out = self._layers(op.concat(reduced, 1), head.layers)
        classes = len(head.class_names)
        scores, distances = op.variadic_split(
            out, np.int64(1), np.array([classes, EDGES])
        ).outputs()
        shape = op.convert(op.gather(op.shape_of(out), np.array([3, 2, 3, 2]), np.int64(0)), "f32")
        sides = op.reshape(
            op.multiply(shape, _number(STRIDE / UNIT)), np.array([1, EDGES, 1, 1]), False
        )
        outward = _array(OUTWARD).reshape(1, EDGES, 1, 1)
        edges = op.multiply(outward, op.divide(op.softplus(distances), sides))
        boxes = op.clamp(op.add(self._centres(out), edges), 0.0, 1.0)
        scale, shift = head.calibration
        logits = op.add(op.multiply(scores, _number(scale)), _number(shift))
        return {
            "object_probabilities": self._by_cell(op.sigmoid(logits)),
            "object_boxes": self._by_cell(boxes),
        }

    def _by_cell(self, x: Any) -> Any:
        """Return a map (n, c, h, w) as (n, cells, c), row by row."""
        flat = self._op.reshape(x, np.array([0, 0, -1]), True)
        return self._op.transpose(flat, np.array([0, 2, 1]))

    def _projected(self, features: Any, mean: np.ndarray, directions: np.ndarray) -> Any:
        """Return a map on the directions (c, C) about the mean (C,)."""
        centred = self._op.subtract(features, _array(mean)[None, :, None, None])
        return self._convolved(centred, directions[:, :, None, None], None)

    def _layers(self, x: Any, layers: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
        """Return what the four layers of a head on feature maps make of a map."""
        op = self._op
        x = op.relu(self._convolved(x, *layers["enter"]))
        for name, dilation in (("near", NEAR), ("far", FAR)):
            x = op.add(op.relu(self._convolved(x, *layers[name], dilation)), x)
        return self._convolved(x, *layers["leave"])

    def _centres(self, features: Any) -> Any:
        """Return x, y, x, y of the centre of each cell, (1, 4, h, w); see `centres`."""
        op = self._op
        shape = op.shape_of(features)
        places = []
        for axis, turned in ((2, [1, 1, -1, 1]), (3, [1, 1, 1, -1])):
            length = op.gather(shape, np.int64(axis), np.int64(0))
            steps = op.range(np.int64(0), length, np.int64(1), "f32")
            middle = op.divide(op.add(steps, _number(0.5)), op.convert(length, "f32"))
            places.append(op.reshape(middle, np.array(turned), False))
        down, right = places
        zero = op.multiply(op.add(down, right), _number(0))  # (1, 1, h, w)
        x, y = op.add(right, zero), op.add(down, zero)
        return op.concat([x, y, x, y], 1)

    def _convolved(
        self, x: Any, weight: np.ndarray, bias: np.ndarray | None, dilation: int = 1
    ) -> Any:
        """Return the convolution of a map, padded with zeros, so that it keeps its size."""
        edge = [dilation * (weight.shape[-1] // 2)] * 2
        y = self._op.convolution(x, _array(weight), [1, 1], edge, edge, [dilation] * 2)
        return y if bias is None else self._op.add(y, _array(bias).reshape(1, -1, 1, 1))


def _array(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)


def _number(value: float) -> np.ndarray:
    return np.array(value, dtype=np.float32)
