"""int8: weights and maps as bytes without calibration; chosen where it is faster and agrees; what a
model promised holds in the other type, too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wordsight
from conftest import small_model
from wordsight.backbones import precision
from wordsight.backbones.backbone import DEFAULT_BACKBONE
from wordsight.backbones.embedder import Embedder, input_pixels, open_photo
from wordsight.backbones.networks.int8 import (
    LARGEST,
    Statistics,
    mean_error,
    round_weights,
)
from wordsight.backbones.openvino_engine import OpenVinoRuntime
from wordsight.backbones.precision import Choice, choose_dtype, measured
from wordsight.backbones.registry import embedded_backbones, load_backbone
from wordsight.backbones.runtime import open_runtime
from wordsight.datasets.files import find_images
from wordsight.errors import InvalidArgument


def test_the_mean_after_clipping_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    mean, variance = np.array([-3.0, 0.0, 2.0, 5.5, 30.0]), np.array([1.0, 4.0, 9.0, 0.25, 1.0])
    draws = rng.normal(mean, np.sqrt(variance), (400_000, 5)).clip(0, 6)
    clipped = Statistics(mean, variance).clipped()
    np.testing.assert_allclose(clipped.mean, draws.mean(axis=0), atol=0.01)


def test_the_range_holds_the_map_and_its_ends_are_steps_of_a_byte():
    low, high = Statistics(np.array([1.0, -2.0]), np.array([4.0, 9.0])).range()
    assert high == 17 and low == -17 * 128 / 127


@pytest.mark.parametrize("shape", [(32, 3, 3, 3), (64, 1, 5, 5), (40, 20, 1, 1)])
def test_rounded_weights_are_near_and_keep_their_sums(shape):
    kernel = np.random.default_rng(1).normal(0.05, 0.1, shape).astype(np.float32)
    values, step = round_weights(kernel, keep_sums=shape[2] > 1)
    assert values.dtype == np.int8 and np.abs(values.astype(int)).max() == LARGEST
    error = np.abs(values * step - kernel) / step
    assert error.max() <= (1.0 if shape[2] > 1 else 0.5001)
    if shape[2] > 1:
        sums = np.abs((values * step - kernel).sum(axis=(2, 3))) / step[:, :, 0, 0]
        plain = np.round(kernel / step) * step - kernel
        assert sums.max() <= 0.51 < np.abs(plain.sum(axis=(2, 3)) / step[:, :, 0, 0]).max()


@pytest.mark.parametrize("inputs", [1, 6])
def test_the_mean_error_is_what_rounding_adds_to_a_map_of_means(inputs):
    rng = np.random.default_rng(2)
    kernel = rng.normal(0, 1, (6, inputs, 3, 3)).astype(np.float32)
    values, step = round_weights(kernel, keep_sums=False)
    mean = rng.uniform(0, 6, 6)
    each = (values * step - kernel).sum(axis=(2, 3))
    wanted = each[:, 0] * mean if inputs == 1 else (each * mean).sum(axis=1)
    np.testing.assert_allclose(mean_error(kernel, values, step, mean), wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_zeros_stay_zeros():
    values, step = round_weights(np.zeros((2, 3, 1, 1), np.float32), keep_sums=False)
    assert not values.any() and np.isfinite(step).all() and (step > 0).all()


def _cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == DEFAULT_BACKBONE else pytest.mark.slow)
        for name in embedded_backbones()
    ],
)
def test_int8_agrees_with_f32_on_real_photos(name, data):
    backbone = load_backbone(name)
    embeddings, maps = [], []
    for file in find_images([data / "imagenet_sample"]).images[::20]:
        pixels = input_pixels(open_photo(file.path), backbone.preprocessing)
        both = [
            open_runtime(backbone, "openvino", dtype).encode(pixels, True)
            for dtype in ("int8", "f32")
        ]
        embeddings.append([one.embedding for one in both])
        maps.append([one.feature_map.ravel() for one in both])
    cosines = _cosines(*np.stack(embeddings, axis=1))
    assert cosines.min() > 0.97 and cosines.mean() > 0.995
    assert np.mean([_cosines(*np.stack(pair)[:, None])[0] for pair in maps]) > 0.985


def test_a_byte_of_the_picture_stays_what_it_was():
    """All 256 values are told apart: the first layer's input has as many steps."""
    from wordsight.backbones.networks.efficientnet_lite import openvino_network
    from wordsight.backbones.openvino_engine import import_openvino

    ov = import_openvino()
    network = openvino_network(ov, load_backbone(), "int8")
    (first,) = [
        node
        for node in network.get_ordered_ops()
        if node.get_type_name() == "FakeQuantize"
        and node.input_value(0).get_node().get_type_name() == "Divide"
    ]
    probe = ov.Model([first.output(0)], network.get_parameters(), "probe")
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    scaled = ov.Core().compile_model(probe, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[0]
    np.testing.assert_allclose(
        scaled[0, 0].ravel() * 127.5 + 127.5, np.arange(256), rtol=0, atol=1e-3
    )


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_choice_is_measured_once_and_again_where_it_was_damaged(own_home, monkeypatch):
    calls = []
    monkeypatch.setattr(
        precision, "_measure", lambda backbone: calls.append(1) or Choice("int8", 2.0, 1.0)
    )
    backbone = load_backbone()
    assert [choose_dtype(backbone, "openvino") for _ in range(3)] == ["int8"] * 3
    assert len(calls) == 1
    (note,) = own_home.rglob("dtype-*.json")
    for damage in ("", "{}", '{"dtype": "f64", "speed": 1, "cosine": 1}', note.read_text()[:9]):
        note.write_text(damage)
        assert choose_dtype(backbone, "openvino") == "int8"
        assert json.loads(note.read_text())["dtype"] == "int8"
    assert len(calls) == 5
    monkeypatch.setattr(precision, "_processor", lambda: "another")
    assert measured(backbone).speed == 2.0 and len(calls) == 6


@pytest.mark.parametrize(
    ("pause", "turn", "chosen"), [(0.0, 1.0, "int8"), (0.05, 1.0, "f32"), (0.0, -1.0, "f32")]
)
def test_int8_is_chosen_where_it_is_faster_and_agrees(monkeypatch, own_home, pause, turn, chosen):
    """The engine is a seam here: int8 that takes a pause, or whose sums overflow."""
    import time

    class Engine:
        def __init__(self, backbone, dtype):
            self.dtype = dtype

        def encode(self, pixels):
            time.sleep(pause if self.dtype == "int8" else 0.02)
            from wordsight.backbones.encoding import Encoding

            embedding = np.array([1.0, 2.0], np.float32)
            return Encoding(embedding * (turn if self.dtype == "int8" else 1), None)

    monkeypatch.setattr(precision, "OpenVinoRuntime", Engine)
    assert choose_dtype(load_backbone(), "openvino") == chosen


def test_only_what_has_int8_runs_in_it(own_home, shapes_model):
    lite, other = load_backbone(), small_model("small_resnet").backbone
    assert choose_dtype(other, "openvino") == "f32" and choose_dtype(lite, "torch") == "f32"
    with pytest.raises(InvalidArgument, match="int8 is for tf_efficientnet_lite0"):
        Embedder(replace(other, dtype="int8"))
    with pytest.raises(InvalidArgument, match="int8 is for"):
        open_runtime(lite, "torch", "int8")
    with pytest.raises(InvalidArgument, match="Choose one of: auto, int8, bf16, f32"):
        wordsight.load(shapes_model, dtype="int4")


@pytest.mark.parametrize("learned", ["int8", pytest.param("f32", marks=pytest.mark.slow)])
def test_a_model_of_one_type_keeps_its_limits_in_the_other(learned, data, tmp_path):
    backbone = load_backbone(dtype=learned)
    wordsight.train(data / "clothing" / "train", tmp_path / "m", backbone=backbone)
    other = {"int8": "f32", "f32": "int8"}[learned]
    own, moved = (wordsight.load(tmp_path / "m", dtype=dtype) for dtype in ("auto", other))
    assert own.record.dtype == learned and moved.embedder.dtype == other
    pairs = list(
        zip(
            own.predict(data / "clothing" / "test"),
            moved.predict(data / "clothing" / "test"),
            strict=True,
        )
    )
    same = np.mean([a.label == b.label for a, b in pairs])
    right = [b.label == Path(b.file_name).parts[0] for _, b in pairs if b.label]
    there = [a.label == Path(a.file_name).parts[0] for a, _ in pairs if a.label]
    assert same >= 0.95 and np.mean(right) >= np.mean(there) - 0.02
    strangers = [p.stranger for p in moved.predict(data / "street" / "photos")]
    assert (
        np.mean(strangers)
        >= np.mean([p.stranger for p in own.predict(data / "street" / "photos")]) - 0.08
    )


def test_a_model_goes_on_in_the_type_it_learned_in(shapes_model, monkeypatch):
    learned = wordsight.load(shapes_model).record.dtype
    assert learned in ("int8", "f32")
    monkeypatch.setattr(precision, "measured", lambda backbone: Choice("int8", 2.0, 1.0))
    assert wordsight.load(shapes_model).embedder.dtype == learned
    monkeypatch.setattr(precision, "measured", lambda backbone: Choice("f32", 0.9, 1.0))
    assert wordsight.load(shapes_model).embedder.dtype == "f32"  # int8 doesn't pay here


def test_embeddings_of_different_types_are_kept_apart(shapes):
    backbone = load_backbone()
    keys = {Embedder(replace(backbone, dtype=dtype)).key for dtype in ("int8", "bf16", "f32")}
    assert len(keys) == 3


def test_int8_runs_images_of_any_size(own_home):
    runtime = OpenVinoRuntime(load_backbone(), "int8")
    for size in ((32, 32), (320, 96), (64, 640)):
        encoding = runtime.encode(np.full((*size, 3), 128, np.uint8), True)
        assert encoding.feature_map.shape[1:] == (size[0] // 32, size[1] // 32)
        np.testing.assert_allclose(
            encoding.embedding, encoding.feature_map.mean(axis=(1, 2)), rtol=0, atol=1e-4
        )
