"""Photos taken one soon after another show one scene, so they count as one observation."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta

import numpy as np
import pytest
from PIL import Image

import wordsight
from wordsight.classification.predictions import EventPool, Prediction
from wordsight.datasets.training_set import apart
from wordsight.heads.guarantee import HeldOut, keep_promise
from wordsight.heads.linear import _folds, softmax
from wordsight.heads.pooling import pooled_logits
from wordsight.images.taken import grouped, taken_at

START = datetime(2024, 5, 1, 6, 30)
EXIF_IFD, TAKEN, DIGITISED = 0x8769, 0x9003, 0x9004


def after(*seconds: float | None) -> list[datetime | None]:
    return [None if s is None else START + timedelta(seconds=s) for s in seconds]


def photo(path, colour, seconds=None, tag=TAKEN):
    """Write a picture of noise about a colour, taken so many seconds after the start."""
    rng = np.random.default_rng(abs(hash(path.name)) % 1000)
    pixels = np.clip(np.array(colour) + rng.normal(0, 12, (48, 48, 3)), 0, 255).astype(np.uint8)
    exif = Image.Exif()
    if seconds is not None:
        taken = START + timedelta(seconds=seconds)
        exif.get_ifd(EXIF_IFD)[tag] = taken.strftime("%Y:%m:%d %H:%M:%S")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def test_a_burst_goes_on_while_photos_follow_within_a_minute():
    assert grouped("aaaaaa", after(0, 50, 110, 171, 5000, 5060)).tolist() == [0, 0, 0, 1, 2, 2]
    # in any order, and each folder by itself
    assert grouped("abab", after(60, 0, 0, 61)).tolist() == [0, 1, 0, 2]
    # an unknown time belongs to none
    assert grouped("aaa", after(0, None, 1)).tolist() == [0, 1, 0]
    assert grouped("aa", after(0, 1), gap=0.5).tolist() == [0, 1]
    assert grouped([], []).tolist() == []


def test_only_the_camera_says_when(tmp_path):
    assert taken_at(photo(tmp_path / "a.jpg", (200, 0, 0), 5)) == START + timedelta(seconds=5)
    assert taken_at(photo(tmp_path / "b.jpg", (200, 0, 0), 7, DIGITISED)).second == 7
    assert taken_at(photo(tmp_path / "c.jpg", (200, 0, 0))) is None
    (tmp_path / "d.jpg").write_bytes(b"\xff\xd8 broken")
    assert taken_at(tmp_path / "d.jpg") is None


def test_folds_keep_events_whole():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    events = np.concatenate([rng.integers(0, 12, 50), 20 + rng.integers(0, 12, 50)])
    folds = list(_folds(labels, 0, events))
    assert sum(len(held) for _, held in folds) == 100
    for train, held in folds:
        assert not {*events[train]} & {*events[held]}
        assert {*labels[train]} == {0, 1}
    # without events, what 0.1 drew
    for one, other in zip(_folds(labels, 3), _folds(labels, 3, np.arange(100)), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_class_of_few_occasions_is_named_and_its_photos_are_held_out_one_by_one(caplog):
    labels = np.repeat([0, 1], 10)
    events = np.array([*range(10), *[10] * 5, *[11] * 5])
    parted = apart(events, labels, ["cat", "dog"])
    assert len({*parted}) == 20 and "'dog'" in caplog.text and "'cat'" not in caplog.text
    caplog.clear()
    assert apart(events[:10], labels[:10], ["cat", "dog"]).tolist() == events[:10].tolist()
    assert not caplog.text


def bursts(rng: np.random.Generator, count: int, wrong: float) -> HeldOut:
    """Answers for events of one to ten photos: all right, or all wrong."""
    sizes = rng.integers(1, 11, count)
    right = np.repeat(rng.random(count) >= wrong, sizes)
    n = len(right)
    return HeldOut(
        [str(i) for i in range(n)],
        ["a"] * n,
        ["a" if one else "b" for one in right],
        np.full(n, 0.9, np.float32),
        np.zeros(n, dtype=bool),
        np.repeat(np.arange(count), sizes),
    )


def test_a_promise_holds_for_bursts_where_it_would_break_without_events():
    """Of 200 models whose labels are right in just under the promised share, at most one in twenty
    may get the promise.
    """
    rng = np.random.default_rng(0)
    together, alone = 0, 0
    for _ in range(200):
        held_out = bursts(rng, 60, wrong=0.101)
        together += keep_promise(held_out, 0.9).threshold is not None
        held_out = HeldOut(*list(vars(held_out).values())[:-1])
        alone += keep_promise(held_out, 0.9).threshold is not None
    assert together <= 14  # 5 %, and what chance may add to it
    assert alone > 30


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    """Two classes, each of six events of four photos a second apart."""
    root = tmp_path_factory.mktemp("camera")
    for label, colour in (("red", (190, 40, 40)), ("blue", (40, 40, 190))):
        for number in range(24):
            seconds = number // 4 * 3600 + number % 4
            photo(root / label / f"{number:02}.jpg", colour, seconds)
    return root


def test_training_judges_on_other_events_and_notes_them(camera, tmp_path):
    model = wordsight.train(camera, tmp_path / "model")
    assert "48 pictures of 12 events" in model.record.judged_on
    with open(tmp_path / "model" / "held_out.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    events = {}
    for row in rows:
        label, number = row["file_name"].split("/")
        events.setdefault(row["event"], set()).add((label, int(number[:2]) // 4))
    assert len(events) == 12 and all(len(scenes) == 1 for scenes in events.values())
    again = wordsight.load(tmp_path / "model")
    assert np.array_equal(again.held_out.events, model.held_out.events)
    # twelve events are twelve observations
    assert again.promise(0.9).held_out == 12
    alone = wordsight.train(
        camera, tmp_path / "alone", settings=wordsight.TrainingSettings(events=False)
    )
    assert "48 pictures, each" in alone.record.judged_on and alone.promise(0.9).held_out == 48


def test_split_keeps_events_on_one_side(camera, tmp_path):
    import shutil

    root = shutil.copytree(camera, tmp_path / "data")
    wordsight.cleaning.split(root, test=0.34, val=0)
    sides: dict[tuple[str, int], set[str]] = {}
    with open(root / "metadata.csv", newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            label, number = row["file_name"].split("/")
            sides.setdefault((label, int(number[:2]) // 4), set()).add(row["split"])
    assert all(len(of) == 1 for of in sides.values())
    assert {side for of in sides.values() for side in of} == {"train", "test"}


def test_a_clear_photo_decides_and_contradiction_leaves_open():
    clear, blurred = [0.99, 0.005, 0.005], [0.3, 0.4, 0.3]
    pooled = softmax(pooled_logits(np.array([clear, blurred, blurred, blurred, blurred])))
    assert pooled.argmax() == 0 and pooled[0] > 0.95
    other = [0.005, 0.99, 0.005]
    assert softmax(pooled_logits(np.array([clear, other]))).max() < 0.6
    assert np.allclose(softmax(pooled_logits(np.array([clear]))), clear)


def said(name, *, several=False, stranger=False, **shares):
    top = max(shares, key=shares.get)
    return Prediction(
        name,
        top_label=top,
        probability=None if stranger else shares[top],
        probabilities=None if stranger else shares,
        stranger=stranger,
        several=several,
        taken_at=f"2024-05-01T06:30:0{name[-1]}",
    )


def test_an_event_takes_photos_that_show_something():
    numbers = {"cam/1": 1, "cam/2": 1, "cam/3": 1, "cam/4": 2, "cam/5": 2, "cam/6": 3, "cam/7": 4}
    pool = EventPool(numbers, 0.9, 1.0, none=["empty"])
    for one in (
        said("cam/1", deer=0.97, fox=0.02, empty=0.01),
        said("cam/2", deer=0.001, fox=0.001, empty=0.998),  # it has walked by
        said("cam/3", deer=1.0, stranger=True),
        said("cam/4", deer=0.6, fox=0.4, empty=0.0),
        said("cam/5", deer=0.4, fox=0.6, empty=0.0),
        said("cam/6", deer=1.0, stranger=True),
        Prediction("cam/7", error="broken"),
    ):
        pool.add(one)
    first, second, third = pool.events()
    assert (first.label, first.photos, first.best_photo) == ("deer", 3, "cam/1")
    assert (first.start, first.end) == ("2024-05-01T06:30:01", "2024-05-01T06:30:03")
    assert (second.status, second.label) == ("unsure", None) and 0.4 < second.probability < 0.6
    assert (third.status, third.probability, third.best_photo) == ("none_of_these", None, None)


def test_words_of_an_event_are_those_of_any_of_its_photos():
    pool = EventPool({"1": 1, "2": 1}, 0.9, 1.0)
    pool.add(said("1", several=True, deer=0.95, fox=0.1))
    pool.add(said("2", several=True, deer=0.2, fox=0.92))
    (event,) = pool.events()
    assert event.labels == ("deer", "fox") and event.best_photo == "1"


def test_predict_gives_one_answer_an_event(camera, tmp_path):
    model = wordsight.train(camera, tmp_path / "model")
    results = wordsight.predict(camera, model, output=tmp_path / "results", events="60s")
    with open(tmp_path / "results" / "events.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results.events) == 12 and {row["photos"] for row in rows} == {"4"}
    assert all(row["folder"] in ("red", "blue") for row in rows)
    assert {row["top_label"] for row in rows if row["folder"] == "red"} == {"red"}
    predictions = list(results)
    assert {one.event for one in predictions} == {*range(1, 13)}
    assert predictions[0].taken_at == "2024-05-01T06:30:00"
    assert {one.time_source for one in predictions} == {"camera"}
    assert any("12 events" in note for note in results.notes())
    # a second run without events takes the table away
    wordsight.predict(camera, model, output=tmp_path / "results")
    assert not (tmp_path / "results" / "events.csv").exists()
    with pytest.raises(wordsight.errors.InvalidArgument, match="got 'soon'"):
        wordsight.predict(camera, model, output=None, events="soon")


def test_without_a_camera_s_time_the_file_s_is_told_and_marks_no_event(tmp_path, camera):
    model = wordsight.train(camera, tmp_path / "model")
    for number in range(3):
        photo(tmp_path / "photos" / f"{number}.png", (190, 40, 40))
    results = wordsight.predict(tmp_path / "photos", model, output=None, events=60)
    assert len(results.events) == 3
    assert {one.time_source for one in results} == {"file"}
    assert all(one.taken_at[:2] == "20" for one in results)


def test_pooled_answers_are_calibrated_on_events_that_were_held_out(tmp_path):
    for label, colour in (("red", (150, 90, 90)), ("blue", (90, 90, 150))):
        for number in range(30):
            photo(tmp_path / "many" / label / f"{number:02}.jpg", colour, number // 2 * 600)
    model = wordsight.train(tmp_path / "many", tmp_path / "model")
    assert model.record.event_temperature is not None
    assert wordsight.load(tmp_path / "model").record.event_temperature is not None
