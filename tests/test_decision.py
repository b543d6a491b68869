"""When an answer becomes a label: one rule, asked by every way in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

import wordsight
from wordsight.datasets.files import find_images
from wordsight.evaluation.batch_decisions import judge
from wordsight.heads.decision import accepts, decide
from wordsight.reports.page import Outcomes
from wordsight.webapp.workspace import Workspace


def test_accepts_what_is_sure_enough_and_no_stranger():
    probability, stranger = np.array([0.9, 0.95, 0.99, 1.0]), np.array([False, False, True, False])
    assert accepts(probability, stranger, 0.95).tolist() == [False, True, False, True]
    assert accepts(probability, stranger, 0.0).tolist() == [True, True, False, True]
    assert not accepts(probability, stranger, None).any()


def test_nothing_is_a_stranger_to_the_catch_all():
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9]])
    decisions = decide(probabilities, np.array([True, True]), 0.5, catch_all=1)
    assert decisions.stranger.tolist() == [True, False]
    assert decisions.accepted.tolist() == [False, True]
    assert decide(probabilities, np.array([True, True]), 0.5).accepted.tolist() == [False, False]


@pytest.fixture(scope="module")
def silent(shapes_model, tmp_path_factory):
    """A model as sure as can be (probabilities of exactly 1), whose promise can't be kept."""
    folder = tmp_path_factory.mktemp("silent") / "model"
    shutil.copytree(shapes_model, folder)
    record = json.loads((folder / "wordsight.json").read_text())
    record["threshold"] = None
    (folder / "wordsight.json").write_text(json.dumps(record))
    model = wordsight.load(folder)
    model.head = replace(model.head, temperature=1e-4)
    return model.save(folder.with_name("saved"))


def test_without_a_threshold_that_keeps_its_promise_nothing_is_labelled_anywhere(
    silent, other_shapes, tmp_path
):
    model, images = wordsight.load(silent), find_images([other_shapes]).images
    told = list(model.predict(other_shapes))
    # as sure as can be, so that a threshold of 1 would let them through
    assert any(one.probability == 1.0 and not one.stranger for one in told)
    assert all(one.label is None for one in told)
    assert all(model.predict_file(image, None).label is None for image in images)
    assert not judge(model, model.embedder.embed_all(images), None).accepted.any()
    run = wordsight.run("disc,square", other_shapes, model=silent, output=tmp_path / "run")
    assert run.counts.total == len(images) and not run.counts.accepted

    assert not any(one.detections for one in wordsight.detect(other_shapes, model, output=None))
    assert wordsight.evaluate(other_shapes, model, output=None).accepted == 0
    exported = wordsight.export(model, format="openvino", output=tmp_path / "silent.xml")
    from wordsight.exports.answers import about

    assert about(model)["threshold"] is None and exported.path.exists()

    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 5, (320, 240))
    for image in images[:5]:
        writer.write(cv2.imread(str(image.path)))
    writer.release()
    seen = wordsight.video(clip, model=model)
    assert seen.frames == 5 and all(frame.label is None for frame in seen)

    from wordsight.webapp.tab_try import NONE, _shown  # loads Gradio, which takes seconds

    viewer = Workspace(silent).viewer(None)
    assert viewer.threshold is None
    looked = [viewer.look(image.path, image.name, viewer.threshold) for image in images]
    assert all(one.label_at(viewer.threshold) is None for one in looked)
    assert all(one.record(viewer.threshold)["label"] is None for one in looked)
    assert all(viewer.decide(image.path, image.name, None).label is None for image in images)
    sentence, shown, _ = _shown(looked, NONE, 0)
    assert "No picture" in sentence
    silent_captions = ("not sure: ", "none of these")
    assert len(shown) == len(images)
    assert all(caption.startswith(silent_captions) for _, caption in shown)

    outcomes = Outcomes(["disc", "square"], None)
    outcomes.p, outcomes.stranger = [1.0, 1.0], [False, False]
    assert not outcomes._accepted().any()
