"""How far things reach: heat spread over what looks alike."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import wordsight
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.registry import load_backbone
from wordsight.classification.predictions import Prediction
from wordsight.heatmaps.extent import extent
from wordsight.images.decoding import decode
from wordsight.metrics.boxes import iou
from wordsight.recognition.recognizer import Recognizer


def halves():
    """Return a fine map (8, 16, 32) whose left and right half look different, a little noisy."""
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(2, 8)).astype(np.float32)
    cells = np.repeat(looks, 16, axis=0)[None].repeat(16, axis=0)  # (16, 32, 8)
    return (cells + 0.1 * rng.normal(size=cells.shape)).transpose(2, 0, 1).astype(np.float32)


def test_heat_reaches_what_looks_alike_and_stops_where_it_does_not():
    heat = np.array([[0.9, 0.5, 0.3, 0.2], [1.0, 0.5, 0.3, 0.2]], np.float32)
    reach = extent(heat, halves())
    assert reach.shape == (8, 16) and reach.dtype == np.float32 and reach.max() == 1
    left, right = reach[:, :8], reach[:, 8:]
    # the heat itself says nothing of where it ends: it falls evenly
    assert left.min() > 0.5 and right.max() < 0.2


def test_no_heat_reaches_nowhere():
    assert not extent(np.zeros((2, 4), np.float32), halves()).any()


def test_a_photo_that_looks_the_same_everywhere_has_an_extent_of_numbers():
    for heat in (np.ones((2, 4), np.float32), np.eye(2, 4, dtype=np.float32)):
        reach = extent(heat, np.ones((8, 16, 32), np.float32))
        assert np.isfinite(reach).all() and reach.max() == 1
    assert (extent(np.ones((2, 4), np.float32), halves()) == 1).all()


def scene(tmp_path):
    """Write a cat on a lawn; return its path and the cat's box."""
    data = pytest.importorskip("skimage.data")
    lawn = Image.fromarray(data.grass()).convert("RGB").resize((480, 360))
    cat = Image.fromarray(data.chelsea()).crop((60, 0, 360, 300)).resize((200, 200))
    lawn.paste(cat, (220, 90))
    lawn.save(tmp_path / "scene.png")
    return tmp_path / "scene.png", (220, 90, 420, 290)


def test_boxes_and_masks_are_cut_from_the_extent(tmp_path):
    path, truth = scene(tmp_path)
    shown = wordsight.heatmap(path, "cat")
    assert shown.extent is not None
    overlaps = [float(iou(one.boxes()[0], truth)[0, 0]) for one in (shown, plain(shown))]
    assert overlaps[0] > 0.75 and overlaps[0] > overlaps[1]
    mask = shown.mask()
    inside = np.zeros_like(mask)
    inside[90:290, 220:420] = True
    assert (mask & inside).sum() / (mask | inside).sum() > 0.7
    # the heat map itself stays what it was
    assert np.array_equal(shown.grid, plain(shown).grid)


def plain(shown):
    """Return a heat map without its extent."""
    from dataclasses import replace

    return replace(shown, extent=None)


def test_predictions_and_the_recognizer_cut_from_it_too(tmp_path, shapes_model):
    path, truth = scene(tmp_path)
    recognizer = Recognizer(["cat"])
    _, box = recognizer.locate(recognizer.see(decode(path.read_bytes())), "cat")
    assert iou(box, truth)[0, 0] > 0.75
    model = wordsight.load(shapes_model)
    photo = decode(path.read_bytes())
    told = Prediction("scene", model.class_names[0])
    model.localize(told, photo)
    assert told.extent is not None and told.reach is told.extent
    assert told.without_maps().reach is None


def test_one_pass_gives_all_three(tmp_path):
    path, _ = scene(tmp_path)
    embedder = Embedder(load_backbone())
    encoding = embedder.encode(decode(path.read_bytes()), feature_map=True)
    assert encoding.fine_map.shape[1:] == tuple(4 * n for n in encoding.feature_map.shape[1:])
    assert embedder.encode(decode(path.read_bytes())).fine_map is None
