"""Learning boxes, interrupted: the same command goes on, and ends as if nothing had happened."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import logging
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import wordsight
from test_boxes import write_boxes
from test_objects import learn_in_fewer_steps, write_scenes
from wordsight.core.result_folder import Build
from wordsight.datasets import read_boxes
from wordsight.errors import InvalidArgument, OutputError
from wordsight.training.boxes import fit, keeping, learner, recipe, samples
from wordsight.training.settings import TrainingSettings

PICTURES = "random views"
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Annotations of one object a picture, and of many."""
    folder = tmp_path_factory.mktemp("sources")
    return {
        "one": write_boxes(folder / "one", 6),
        "many": write_scenes(folder / "many", 12),
    }


def hurry(patch):
    """Learn little, and keep everything at once."""
    learn_in_fewer_steps(patch, 6, 9)
    for name, value in (("EPOCHS", 2), ("LEAST_STEPS", 6)):
        patch.setattr(learner, name, value)
    for name in ("MOST_VIEWS", "FEWEST_VIEWS"):
        patch.setattr(fit, name, 2)
    patch.setattr(keeping, "EVERY_S", 0.0)


@pytest.fixture
def hasty(monkeypatch):
    """Little is learned, and everything is kept at once."""
    hurry(monkeypatch)


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory):
    """What a training that nothing interrupts gives, of one object a picture or of many."""

    @functools.cache
    def result(objects):
        target = tmp_path_factory.mktemp("whole") / "whole"
        with pytest.MonkeyPatch.context() as patch:
            hurry(patch)
            learn(sources[objects], target, objects=objects)
        return learned(target)

    return result


def learn(annotations, target, progress=None, objects=None):
    return wordsight.train(
        annotations.parent,
        target,
        boxes=annotations,
        settings=TrainingSettings(objects=objects),
        progress=progress,
    )


def learned(folder):
    """Return what a model folder says of boxes, and the weights of their heads."""
    record = json.loads((folder / "wordsight.json").read_text())["info"]
    heads = [path.read_bytes() for path in sorted(folder.glob("*box*.safetensors"))]
    heads += [path.read_bytes() for path in sorted(folder.glob("*object*.safetensors"))]
    assert heads
    return record.get("boxes"), record.get("objects"), heads


class Stop:
    """Interrupts at a step of something that is counted."""

    def __init__(self, what="", at=0):
        self.what, self.at = what, at
        self.first = {}  # what is counted -> the first count

    def __call__(self, done, total, what):
        self.first.setdefault(what, done)
        if self.what and self.what in what and done >= self.at:
            raise KeyboardInterrupt


MOMENTS = [(PICTURES, 9), ("judged", 3), ("with all", 4)]
MORE = [(PICTURES, 5), *MOMENTS[:2], ("judged", 5), MOMENTS[2]]


@pytest.mark.parametrize(
    ("objects", "moments"),
    [
        pytest.param("many", MOMENTS, id="many"),
        *(pytest.param(one, MORE, id=f"{one}-more", marks=SLOW) for one in ("one", "many")),
    ],
)
def test_interrupted_at_any_moment_the_same_training_ends_alike(
    sources, objects, moments, tmp_path, hasty, whole
):
    annotations = sources[objects]
    for what, at in moments:
        with pytest.raises(KeyboardInterrupt):
            learn(annotations, tmp_path / "torn", Stop(what, at), objects)
        assert list((tmp_path / "torn-training").glob("boxes-*.safetensors"))
        assert not (tmp_path / "torn-boxes.png").exists()
    last = Stop()
    learn(annotations, tmp_path / "torn", last, objects)
    assert learned(tmp_path / "torn") == whole(objects)
    assert not any(PICTURES in what or "judged" in what for what in last.first)  # all were kept
    assert [count for what, count in last.first.items() if "with all" in what] == [4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn"]


def test_what_another_training_kept_is_not_used_and_goes(sources, tmp_path, hasty):
    with pytest.raises(KeyboardInterrupt):
        learn(sources["many"], tmp_path / "m", Stop(PICTURES, 5))
    before = {path.name for path in (tmp_path / "m-training").glob("boxes-*")}
    changed = tmp_path / "boxes.json"
    content = json.loads(sources["many"].read_text())
    content["annotations"][0]["bbox"][2] -= 1
    changed.write_text(json.dumps(content))
    seen = Stop("judged", 1)
    with pytest.raises(KeyboardInterrupt):
        wordsight.train(sources["many"].parent, tmp_path / "m", boxes=changed, progress=seen)
    after = {path.name for path in (tmp_path / "m-training").glob("boxes-*")}
    assert before and after and not before & after
    assert [count for what, count in seen.first.items() if PICTURES in what] == [1]


def test_a_changed_part_is_refused_and_one_that_is_gone_is_made_anew(
    sources, tmp_path, hasty, whole
):
    with pytest.raises(KeyboardInterrupt):
        learn(sources["many"], tmp_path / "torn", Stop("judged", 2), "many")
    (damaged,) = (tmp_path / "torn-training").glob("*views-000003*")
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(InvalidArgument, match="was changed since"):
        learn(sources["many"], tmp_path / "torn", objects="many")
    damaged.unlink()
    learn(sources["many"], tmp_path / "torn", objects="many")
    assert learned(tmp_path / "torn") == whole("many")


@pytest.mark.parametrize("objects", ["one", "many"])
def test_a_full_disk_costs_going_on_and_not_the_training(
    sources, objects, tmp_path, hasty, whole, monkeypatch, caplog
):
    expected = whole(objects)
    place, placed = Build.place, []

    def full(build, name, data, sync=False):
        if name.startswith("boxes-"):
            placed.append(name)
            if len(placed) > 4:
                raise OSError(errno.ENOSPC, "No space left on device")
        place(build, name, data, sync)

    monkeypatch.setattr(Build, "place", full)
    with caplog.at_level(logging.WARNING, "wordsight"):
        learn(sources[objects], tmp_path / "full", objects=objects)
    assert learned(tmp_path / "full") == expected
    (told,) = [line.getMessage() for line in caplog.records if "No space" in line.getMessage()]
    assert "can't be continued" in told and len(placed) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_a_disk_without_room_keeps_heads_only_and_says_so(
    sources, tmp_path, hasty, whole, monkeypatch, caplog
):
    expected = whole("many")
    monkeypatch.setattr(keeping, "SPARE", 1 << 60)
    with caplog.at_level(logging.INFO, "wordsight"), pytest.raises(KeyboardInterrupt):
        learn(sources["many"], tmp_path / "m", Stop("judged", 4), "many")
    assert sum("has no room" in line.getMessage() for line in caplog.records) == 1
    kept = [path.name.split("-", 2)[2] for path in (tmp_path / "m-training").glob("boxes-*")]
    assert sorted(kept) == ["directions.safetensors", "judged.safetensors"]
    learn(sources["many"], tmp_path / "m", objects="many")
    assert learned(tmp_path / "m") == expected


@pytest.mark.parametrize("room", [True, pytest.param(False, marks=SLOW)])
def test_views_that_do_not_fit_into_memory_are_kept_too(
    room, sources, tmp_path, hasty, monkeypatch
):
    monkeypatch.setattr(samples, "MOST_VIEWS", 1)
    learn(sources["many"], tmp_path / "whole")
    monkeypatch.setattr(samples, "MOST_IN_ALL", 0)
    if not room:
        monkeypatch.setattr(keeping, "SPARE", 1 << 60)
    for what, at in ((PICTURES, 5), ("judged", 2)):
        with pytest.raises(KeyboardInterrupt):
            learn(sources["many"], tmp_path / "torn", Stop(what, at))
        assert bool(list((tmp_path / "torn-training").glob("*views*"))) == room
    learn(sources["many"], tmp_path / "torn")
    assert learned(tmp_path / "torn")[2] == learned(tmp_path / "whole")[2]


def test_a_disk_that_fills_with_views_that_do_not_fit_into_memory_is_one_sentence(
    sources, tmp_path, hasty, monkeypatch
):
    monkeypatch.setattr(samples, "MOST_VIEWS", 1)
    monkeypatch.setattr(samples, "MOST_IN_ALL", 0)
    place, full = Build.place, True

    def filling(build, name, data, sync=False):
        if full and "views-000006" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        place(build, name, data, sync)

    monkeypatch.setattr(Build, "place", filling)
    with pytest.raises(OutputError, match="No space left on device"):
        learn(sources["many"], tmp_path / "m")
    full, seen = False, Stop()
    learn(sources["many"], tmp_path / "m", seen)  # with more room, from where it was
    assert [count for what, count in seen.first.items() if "judged" in what] == [1]
    assert not (tmp_path / "m-training").exists()


def test_what_takes_seconds_is_not_kept(sources, tmp_path, hasty, monkeypatch):
    monkeypatch.setattr(keeping, "EVERY_S", 3600.0)
    with pytest.raises(KeyboardInterrupt):
        learn(sources["many"], tmp_path / "m", Stop("with all", 2))
    kept = [path.name.split("-", 2)[2] for path in (tmp_path / "m-training").glob("boxes-*")]
    assert sorted(kept) == ["directions.safetensors", "judged.safetensors"]


SIGNALS = [("*views*", signal.SIGINT), ("*judged*", signal.SIGKILL), ("*kept*", signal.SIGINT)]


@pytest.mark.parametrize("signals", [SIGNALS[:2], pytest.param(SIGNALS, marks=SLOW)], ids=len)
def test_ctrl_c_and_kill_while_learning_boxes(signals, sources, tmp_path):
    """The command itself, by signals, with what it keeps by itself."""
    code = (
        "from wordsight.training.boxes import keeping, objects, samples; keeping.EVERY_S = 0.02; "
        "objects.JUDGED_STEPS, objects.STEPS, objects.EPOCHS, objects.BATCH = 40, 50, 0, 4; "
        "samples.FEWEST_VIEWS = samples.MOST_VIEWS = 3; samples.VIEW_SIDE = 256; "
        "from wordsight.__main__ import main; main()"
    )
    command = [sys.executable, "-c", code, "train", sources["many"].parent, "--boxes"]
    command = [*map(str, [*command, sources["many"], "-o", tmp_path / "m", "--objects", "many"])]
    kept = tmp_path / "m-training"
    for number, (pattern, sent) in enumerate(signals):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while not list(kept.glob(pattern)) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(sent)
        told = process.communicate(timeout=60)[1]
        assert "Traceback" not in told
        if sent == signal.SIGINT:
            assert process.returncode == 130, (number, told)
            _, ours, rest = told.partition("kept: the same command goes on from there.\n")
            # below it, at most what a library under torch says of itself as it ends
            assert ours and (not rest or rest.startswith("nanobind: leaked")), told
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert wordsight.load(tmp_path / "m").object_head is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


@pytest.fixture
def lowering(monkeypatch):
    """Fine-tuning that lowers the validation loss."""
    from wordsight.training import finetuning

    fit_network = finetuning.fit
    monkeypatch.setattr(
        finetuning, "fit", lambda job: dataclasses.replace(fit_network(job), start_loss=99.0)
    )


def tune(annotations, target, objects, progress=None):
    return wordsight.train(
        annotations.parent,
        target,
        boxes=annotations,
        recipe="finetune",
        settings=TrainingSettings(1, 1e-4, 8, image_size=128, objects=objects),
        progress=progress,
    )


@pytest.mark.parametrize(
    ("wins", "objects"),
    [
        ("frozen", "one"),
        pytest.param("frozen", "many", marks=SLOW),
        *(pytest.param("fine-tuned", objects, marks=SLOW) for objects in ("one", "many")),
    ],
)
def test_boxes_and_classes_decide_together_which_network_is_kept(
    wins, objects, sources, tmp_path, hasty, lowering, monkeypatch
):
    figures = {"fine-tuned": iter([0.6, 0.5]), "frozen": iter([0.5, 0.6])}[wins]
    name = {"one": "judge_boxes", "many": "judge_objects"}[objects]
    judge, judged = getattr(recipe, name), []

    def told(*given):
        judged.append((given[-1].judges, judge(*given)))
        return next(figures), judged[-1][1][1]

    monkeypatch.setattr(recipe, name, told)
    model = tune(sources[objects], tmp_path / "m", objects)
    assert model.record.recipe == {"fine-tuned": "finetune", "frozen": "probe"}[wins]
    (judges, (figure, count)), (same, _) = judged
    assert judges == same and 0 < figure < 1
    record = model.record.objects if objects == "many" else model.record.boxes
    assert record.held_out == count >= 2
    assert {image.file.name for image in read_boxes(sources[objects]).images} > judges
    note = model.record.notes()[-3]
    assert f"Boxes of {count} held-out pictures" in note and f"The {wins} one is kept" in note
    assert "0.600" in note and "0.500" in note
    assert wordsight.load(tmp_path / "m").record.fine_tuning == model.record.fine_tuning
    if wins == "frozen":  # the same answers as if it had never been fine-tuned
        settings = TrainingSettings(image_size=128, objects=objects)
        same = wordsight.train(
            sources[objects].parent, tmp_path / "plain", boxes=sources[objects], settings=settings
        )
        assert np.array_equal(model.head.weight, same.head.weight)
        assert model.backbone.fingerprint == same.backbone.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "plain") == ["m"]


@pytest.mark.parametrize("moments", [MOMENTS[:2], pytest.param(MOMENTS, marks=SLOW)], ids=len)
def test_classes_are_not_fine_tuned_again_when_boxes_were_interrupted(
    moments, sources, tmp_path, hasty, lowering
):
    tune(sources["many"], tmp_path / "whole", "many")
    for what, at in moments:
        stop = Stop(what, at)
        with pytest.raises(KeyboardInterrupt):
            tune(sources["many"], tmp_path / "torn", "many", stop)
        assert any("epoch" in one for one in stop.first) == (what == PICTURES)
    tune(sources["many"], tmp_path / "torn", "many")
    assert learned(tmp_path / "torn") == learned(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn", "whole"]
