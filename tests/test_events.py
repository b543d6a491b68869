"""Photos taken one soon after another show one scene, so they count as one observation."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wordsight
from wordsight.classification.events import EventPool
from wordsight.classification.predictions import Prediction
from wordsight.datasets.files import ImageFile
from wordsight.datasets.training_set import apart, hold_out, observations, scene_folder
from wordsight.heads.guarantee import HeldOut, keep_promise
from wordsight.heads.linear import _folds, fit_head
from wordsight.heads.pooling import fit_power, pooled
from wordsight.images.taken import events_of, grouped, taken_at

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


def test_a_burst_in_two_class_folders_is_one_event(tmp_path):
    files = [
        ImageFile(photo(tmp_path / label / f"{n}.jpg", (90, 90, 90), n), f"{label}/{n}.jpg", label)
        for n, label in enumerate(("deer", "empty"))
    ]
    folders = [scene_folder(file) for file in files]
    assert folders == [tmp_path, tmp_path]
    assert events_of([file.path for file in files], folders=folders).tolist() == [0, 0]
    assert events_of([file.path for file in files]).tolist() == [0, 1]


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
            seconds = number // 4 * 3600 + number % 4 + 1800 * (label == "blue")
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
    assert (
        "48 pictures, cross-validated" in alone.record.judged_on
        and alone.promise(0.9).held_out == 48
    )


def test_events_that_share_an_equal_file_are_one_observation(camera, tmp_path):
    import shutil

    events = np.array([0, 0, 1, 1, 2, 3])
    assert observations(events, list("abacde")).tolist() == [0, 0, 0, 0, 2, 3]
    assert observations(events, list("abcdea")).tolist() == [0, 0, 1, 1, 2, 0]
    assert observations(events[:0], []).tolist() == []
    # a burst that is there twice
    root = tmp_path / "data"
    shutil.copytree(camera, root / "card")
    shutil.copytree(
        camera / "red", root / "copy" / "red", ignore=lambda _, names: sorted(names)[4:]
    )
    rows = [f"{path.relative_to(root)},{path.parent.name}\n" for path in root.rglob("*.jpg")]
    (root / "labels.csv").write_text("file_name,label\n" + "".join(sorted(rows)))
    settings = wordsight.TrainingSettings(clean=False)
    model = wordsight.train(root / "labels.csv", tmp_path / "model", settings=settings)
    assert "52 pictures of 12 events" in model.record.judged_on


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
    clear, blurred = [0.999, 0.0005, 0.0005], [0.3, 0.4, 0.3]
    together = pooled(np.array([clear, blurred, blurred, blurred, blurred]), 5)
    assert together.argmax() == 0 and together[0] > 0.97 and np.isclose(together.sum(), 1)
    other = [0.0005, 0.999, 0.0005]
    assert pooled(np.array([clear, other]), 2).max() < 0.6
    # one photo is what it is, and two that are certain stay certain
    assert np.allclose(pooled(np.array([clear]), 1), clear)
    assert pooled(np.array([[1.0, 0.0], [1.0, 0.0]]), 2).tolist() == [1.0, 0.0]


def test_the_longer_a_burst_the_surer_its_only_finding_must_be():
    one = np.array([[0.99, 0.01]])
    sure = [pooled(one, count)[0] for count in (1, 3, 10, 30)]
    assert np.allclose(sure, [0.99, 0.97, 0.9, 0.7])
    # a second photo that agrees outweighs the burst's length
    assert pooled(np.repeat(one, 2, axis=0), 30)[0] > 0.98
    words = pooled(np.array([[0.99, 0.2]]), 10, several=True)
    assert np.allclose(words, [0.9, 0.0])


def test_false_alarms_among_empty_photos_don_t_become_events():
    """Nine of ten bursts are empty; a photo is wrong as often as its probability says."""
    rng = np.random.default_rng(0)
    right, given = 0, 0
    for _ in range(4000):
        count, empty = 10, rng.random() < 0.9
        shows = np.zeros(count, bool) if empty else rng.random(count) < 1 / 3
        alarm = ~shows & (rng.random(count) < 0.001)
        telling = np.flatnonzero(shows | alarm)
        if not len(telling):
            continue
        rows = np.repeat([[0.992, 0.008]], len(telling), axis=0)
        if pooled(rows, count)[0] >= 0.98:
            given, right = given + 1, right + (not empty)
    assert given > 200 and right / given > 0.98


def test_odds_are_taken_back_where_held_out_events_were_less_often_right():
    said = np.full(200, 0.999)
    right = np.arange(200) % 5 > 0  # four of five
    assert fit_power(said, right) < 0.3
    assert fit_power(said, np.ones(200, bool)) == 1.0


def test_a_rare_class_keeps_two_events_when_rows_are_drawn(monkeypatch):
    from wordsight.heads import linear

    monkeypatch.setattr(linear, "MAX_CV_ROWS", 60)
    rng = np.random.default_rng(0)
    labels = np.array([0] * 200 + [1] * 12)
    together = np.array([*range(200), *[200] * 8, 201, 202, 203, 204])
    x = rng.standard_normal((212, 16)).astype(np.float32) + labels[:, None]
    for seed in range(20):
        _, report = fit_head(x, labels, 2, seed, together=together)
        assert np.isfinite(report.log_loss) and np.isfinite(report.probabilities).all()
        chosen = np.isin(together, together[report.rows])
        assert chosen.sum() == len(report.rows)  # events came as a whole


def test_what_is_held_out_is_about_a_fifth_in_whole_events():
    class Item:
        def __init__(self, number):
            self.file = ImageFile(Path(f"{number}.jpg"), f"{number}.jpg", "cat")
            self.sha256 = str(number)

    items = [Item(number) for number in range(100)]
    events = np.array([0] * 70 + [*range(1, 31)])
    for seed in range(10):
        held = hold_out(items, ["cat"], seed, events)
        assert 20 <= held.sum() <= 25 and not held[:70].any()


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
        time_source="camera",
    )


def test_an_event_takes_photos_that_show_something():
    numbers = {"cam/1": 1, "cam/2": 1, "cam/3": 1, "cam/4": 2, "cam/5": 2, "cam/6": 3, "cam/7": 4}
    pool = EventPool(numbers, ["deer", "fox", "empty"], 0.9, none=["empty"])
    for one in (
        said("cam/1", deer=0.998, fox=0.001, empty=0.001),
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
    pool = EventPool({"1": 1, "2": 1}, ["deer", "fox"], 0.9)
    pool.add(said("1", several=True, deer=0.96, fox=0.1))
    pool.add(said("2", several=True, deer=0.2, fox=0.96))
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
    assert predictions[0].taken_at == "2024-05-01T07:00:00"
    assert {one.time_source for one in predictions} == {"camera"}
    assert any("Events: 12 (events.csv) of 48 photos" in note for note in results.notes())
    # a second run without events takes the table away
    wordsight.predict(camera, model, output=tmp_path / "results")
    assert not (tmp_path / "results" / "events.csv").exists()
    with pytest.raises(wordsight.errors.InvalidArgument, match="got 'soon'"):
        wordsight.predict(camera, model, output=None, events="soon")


def test_times_are_read_once_an_image(camera, tmp_path, monkeypatch):
    from wordsight.classification import photos
    from wordsight.images import taken

    model, read = wordsight.train(camera, tmp_path / "model"), []

    def counted(data):
        read.append(1)
        return real(data)

    real = taken.time_of
    monkeypatch.setattr(taken, "time_of", counted)
    monkeypatch.setattr(photos, "time_of", counted)
    for events in ("60s", None):
        results = wordsight.predict(camera, model, output=None, events=events)
        assert len(read) == 48 and {one.time_source for one in results} == {"camera"}
        read.clear()


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
            photo(
                tmp_path / "many" / label / f"{number:02}.jpg",
                colour,
                number // 2 * 600 + 300 * (label == "blue"),
            )
    model = wordsight.train(tmp_path / "many", tmp_path / "model")
    assert model.record.event_power is not None
    assert wordsight.load(tmp_path / "model").record.event_power is not None


def test_what_a_detector_names_is_not_pooled_with_the_classes():
    from wordsight.classification.predictions import Crop, Label

    def photo_of(name, label, probability, shares):
        crop = Crop(0, "animal", probability, [0, 0, 1, 1], None, "labelled", label)
        return Prediction(
            name,
            label=label,
            top_label=label,
            probability=probability,
            probabilities=shares,
            labels=[Label(label, probability)],
            crops=[crop],
        )

    pool = EventPool(dict.fromkeys("abcd", 1) | {"e": 2, "f": 2}, ["deer", "fox"], 0.9)
    pool.add(photo_of("a", "person", 0.5, None))
    pool.add(photo_of("b", "person", 0.6, None))
    pool.add(Prediction("c", crops=[]))
    pool.add(Prediction("d", crops=[]))
    pool.add(photo_of("e", "deer", 0.96, {"deer": 0.96, "fox": 0.04}))
    pool.add(photo_of("f", "fox", 0.96, {"deer": 0.04, "fox": 0.96}))
    person, two = pool.events()
    assert (person.label, person.probability, person.best_photo) == ("person", 0.6, "b")
    # two kinds that are each sure enough for two photos are two animals
    assert (two.status, two.labels, two.best_photo) == ("labelled", ("deer", "fox"), "e")
    assert two.probability == pytest.approx(1 - 2 * 0.04)
    doubtful = EventPool({"a": 1, "b": 1, "c": 1}, ["deer", "fox"], 0.9)
    for name, label in zip("abc", ("deer", "fox", "fox"), strict=True):
        shares = {"deer": 0.04, "fox": 0.04} | {label: 0.96}
        doubtful.add(photo_of(name, label, 0.96, shares))
    (event,) = doubtful.events()  # one photo in three shows a deer, which is not enough
    assert event.labels == ()
    without = EventPool({"a": 1, "b": 1}, ["deer", "fox"], 0.9)
    for name, label in zip("ab", ("deer", "fox"), strict=True):
        one = photo_of(name, label, 0.96, {"deer": 0.04, "fox": 0.04} | {label: 0.96})
        one.crops = None  # whole photos: one animal, seen badly once
        without.add(one)
    assert without.events()[0].status == "unsure"
    empty = EventPool({"a": 1, "b": 1}, ["deer", "fox"], 0.9)
    for name in "ab":
        empty.add(Prediction(name, crops=[]))
    assert [event.status for event in empty.events()] == ["empty"]
