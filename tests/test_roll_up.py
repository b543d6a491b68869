"""Labels that fall back to a word above several classes, where no class is sure."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import wordsight
import wordsight.traps
from conftest import draw_shape
from wordsight.classification.events import EventPool
from wordsight.classification.predictions import Prediction
from wordsight.errors import InvalidArgument
from wordsight.heads.guarantee import keep_promise
from wordsight.words.roll_up import classes_below

MAMMALS = ["coyote", "Vulpes vulpes", "white_tailed_deer", "elk", "bobcat", "cat", "no animal"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("canine", {"canine": (0, 1)}),
        # the narrowest first, however they are given
        ("carnivore, felid,canid", {"felid": (4, 5), "canid": (0, 1), "carnivore": (0, 1, 4, 5)}),
        (["ruminant"], {"ruminant": (2, 3)}),
        ("animal", {"animal": (0, 1, 2, 3, 4, 5)}),
    ],
)
def test_classes_below_a_word_are_those_of_wordnet(words, found):
    assert list(classes_below(words, MAMMALS).items()) == list(found.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fox", "only above Vulpes vulpes"),
        ("vehicle", "above none of the classes"),
        ("Coyote", "it is a class itself"),
        ("canine#tooth", "fits no known sense"),
        ("canine,,felid", "words with commas"),
    ],
)
def test_words_above_fewer_than_two_classes_are_refused(words, said):
    with pytest.raises(InvalidArgument, match=said):
        classes_below(words, MAMMALS)


def test_a_class_name_may_be_anything():
    names = ["", "#", "x" * 10_000, "a " * 10_000 + "dog", "not a dog", "wild dog", "no_dogs"]
    assert classes_below("animal", names) == {"animal": (3, 5)}


def test_a_refusal_offers_words_that_would_do():
    with pytest.raises(InvalidArgument, match=r"Words that are: .*ruminant, canine, carnivore"):
        classes_below("vehicle", MAMMALS)


@pytest.fixture(scope="module")
def canines(tmp_path_factory):
    """A model that can't tell coyotes from dogs, which look the same, but both from cats."""
    folder = tmp_path_factory.mktemp("canines")
    for name, kind, seed in (("coyote", "disc", 0), ("dog", "disc", 50), ("cat", "square", 100)):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(12):
            picture = draw_shape(kind, seed + number)[0]
            picture.save(folder / "data" / name / f"{number}.jpg", quality=92)
    wordsight.train(folder / "data", folder / "model")
    return folder / "model"


@pytest.fixture
def photos(tmp_path):
    """Three discs and three squares."""
    for number in range(3):
        for kind in ("disc", "square"):
            (tmp_path / "photos").mkdir(exist_ok=True)
            draw_shape(kind, 700 + number)[0].save(
                tmp_path / "photos" / f"{kind}{number}.jpg", quality=92
            )
    return tmp_path / "photos"


def texts(folder):
    """Return what is in the JSON files of a folder."""
    return [path.read_text() for path in sorted(folder.rglob("*.json"))]


def rows_of(folder):
    lines = (folder / "predictions.jsonl").read_text().splitlines()
    return {row["file_name"]: row for row in map(json.loads, lines)}


def test_a_photo_of_which_no_class_is_sure_gets_the_narrowest_word(
    photos, canines, tmp_path, cli_here
):
    command = ("predict", "photos", "-m", canines, "-t", "0.9", "-o")
    assert cli_here(*command, "plain", "--no-pictures").returncode == 0
    done = cli_here(*command, "rolled", "--roll-up", "carnivore,canine")
    assert done.returncode == 0
    assert "a label may be canine (coyote, dog); carnivore (cat, coyote, dog)." in done.stdout
    plain, rolled = rows_of(tmp_path / "plain"), rows_of(tmp_path / "rolled")
    for name, row in rolled.items():
        for kept in ("top_label", "probabilities"):
            assert row[kept] == plain[name][kept]
        if name.startswith("square"):
            assert row["label"] == plain[name]["label"] == "cat"
            continue
        assert plain[name]["status"] == "unsure" and row["status"] == "labelled"
        shares = row["probabilities"]
        assert row["label"] == "canine" and row["top_label"] in ("coyote", "dog")
        assert row["probability"] == pytest.approx(shares["coyote"] + shares["dog"], abs=2e-6)
        (label,) = row["labels"]
        assert label["probability"] == row["probability"] and label["box_xyxy"]
        assert (tmp_path / "rolled" / label["heatmap"]).is_file()
        assert (tmp_path / "rolled/images/canine" / name).exists()
    assert "canine" in (tmp_path / "rolled" / "report.html").read_text()
    # --all adds best guesses for the other photos; it doesn't undo a label
    assert cli_here("prelabel", "rolled", "--all", "-o", "told").returncode == 0
    assert {one["name"] for one in json.loads(*texts(tmp_path / "told"))["categories"]} == {
        "canine",
        "cat",
    }
    assert cli_here("sort", "rolled", "-o", "sorted").returncode == 0
    assert len(list((tmp_path / "sorted/canine").glob("disc*.jpg"))) == 3


def test_strangers_get_no_word(canines):
    model = wordsight.load(canines).rolling_up("canine")
    at_home = model.embedder.backbone.num_features
    far = np.random.default_rng(0).normal(size=at_home).astype(np.float32)
    assert model.is_stranger(far[None])[0]
    assert model.decide("far.jpg", far, 0.5).label is None
    assert not wordsight.load(canines).roll_up  # nothing of it is kept


def test_a_model_is_left_as_it_was(photos, canines):
    model = wordsight.load(canines)
    counts = model.predict(photos, threshold=0.9, roll_up="canine").counts
    assert counts.accepted == {"canine": 3, "cat": 3}
    assert model.predict(photos, threshold=0.9).counts.accepted == {"cat": 3}


def test_no_precision_is_promised_of_words_above_classes(photos, canines, cli_here):
    done = cli_here(
        *("predict", "photos", "-m", canines, "--roll-up", "canine", "--precision", "0.9")
    )
    assert done.returncode == 2 and "checked for the classes alone" in done.stderr
    model = wordsight.load(canines)
    model.record.promise = keep_promise(model.held_out, 0.5)
    with pytest.raises(InvalidArgument, match="Say from which probability"):
        model.predict(photos, roll_up="canine")
    done = cli_here("predict", "photos", "-m", canines, "--roll-up", "bird")
    assert done.returncode == 2 and "above none of the classes" in done.stderr
    assert "Traceback" not in done.stderr


def photo(name, coyote, dog, cat):
    shares = {"coyote": coyote, "dog": dog, "cat": cat}
    top = max(shares, key=shares.get)
    return Prediction(name, top_label=top, probability=shares[top], probabilities=shares)


def test_an_event_falls_back_as_a_photo_does():
    parents = {"canine": ["coyote", "dog"]}
    pool = EventPool({"a.jpg": 1, "b.jpg": 1}, ["coyote", "dog", "cat"], 0.95, parents=parents)
    pool.add(photo("a.jpg", 0.6, 0.39, 0.01))
    pool.add(photo("b.jpg", 0.4, 0.59, 0.01))
    (event,) = pool.events()
    assert event.label == "canine" and event.top_label in ("coyote", "dog")
    assert event.probability >= 0.95 and event.labels == ("canine",)


def test_crops_fall_back_each_by_itself(photos, canines, tmp_path):
    box = {"category": "1", "conf": 0.9, "bbox": [0.0, 0.0, 1.0, 1.0]}
    images = [{"file": path.name, "detections": [box]} for path in sorted(photos.iterdir())]
    told = {"images": images, "detection_categories": {"1": "animal"}, "info": {}}
    (tmp_path / "md.json").write_text(json.dumps(told))
    found = wordsight.traps.predict_boxes(
        photos,
        canines,
        tmp_path / "md.json",
        output=tmp_path / "out",
        threshold=0.9,
        roll_up="canine",
        repeats="keep",
    )
    for row in found:
        disc = row.file_name.startswith("disc")
        assert row.label == row.crops[0].label == ("canine" if disc else "cat")
        assert row.top_label in (("coyote", "dog") if disc else ("cat",))
        assert set(row.probabilities) == {"coyote", "dog", "cat"}


BREEDS = "terrier,hound,spaniel,retriever,poodle,shepherd dog,husky,cat"


def test_words_fall_back_to_a_word_learned_as_they_are(data, tmp_path, fresh_home):
    for kind in ("cat", "dog"):
        for path in sorted((data / "catdog/test" / kind).iterdir())[:40]:
            (tmp_path / "photos").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "photos" / f"{kind}-{path.name}")
    asked = {"force": True, "draw": False, "threshold": 0.99}
    found = wordsight.run(BREEDS, tmp_path / "photos", output=None, roll_up="dog", **asked)
    dogs = [row.file_name for row in found if row.label == "dog"]
    assert len(dogs) >= 3 and all(name.startswith("dog") for name in dogs)
    for row in found:
        if row.label == "dog":
            assert row.probability >= max(row.probabilities.values())
    (made,) = (fresh_home / "models").glob("*-words")
    with pytest.raises(InvalidArgument, match="may stand together"):
        wordsight.predict(tmp_path / "photos", made, output=None, roll_up="dog")
