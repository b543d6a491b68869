"""Words by a text–image model: calibrated, silent where it can't know, taught to the network."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import wordsight
from conftest import draw_shape
from made_up_tower import MadeUpTower
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.registry import load_backbone
from wordsight.datasets.files import ImageFile
from wordsight.errors import BackboneUnavailable, InvalidArgument
from wordsight.heads.zero_shot import fit_words, joined, of_learned
from wordsight.teaching.by_tower import MOST_SEEN, spread
from wordsight.towers.evidence import learn_words, weigh
from wordsight.towers.prompts import NOTHING, rivals

ROLL = ["cat", "dog", "bear", "banana", "orange", "cucumber", "mushroom", "shoe", "hat", "bus"]


def ask(tower, files, embeddings, words):
    """Return what a tower and the embedded network say of all photos together, (n, words)."""
    vectors = tower.embed_photos(files)
    beside = tower.embed_phrases([*rivals(tuple(words)), *NOTHING], several=False)
    evidence = weigh(vectors @ tower.embed_phrases(words).T, vectors @ beside.T)
    return learn_words(embeddings, evidence).probabilities


@pytest.fixture(scope="module")
def roll(data):
    """The mixed camera roll: files, embeddings, words of each."""
    with open(data / "roll.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    files = [ImageFile(data / row["file_name"], row["file_name"]) for row in rows]
    items = Embedder(load_backbone()).embed_all(files)
    embeddings = np.stack([item.embedding for item in items])
    return files, embeddings, [[word for word in row["words"].split("|") if word] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.6, 0.75, 0.9])
def test_labels_at_99_are_right_however_good_the_model_is(accuracy, roll):
    files, embeddings, words = roll
    tower = MadeUpTower([file.name for file in files], words, embeddings, accuracy)
    found = ask(tower, files, embeddings, ROLL)
    truth = np.array([[word in some for word in ROLL] for some in words])
    top, sure = found.argmax(axis=1), found.max(axis=1) >= 0.99
    right = truth[np.arange(len(truth)), top]
    assert right[sure].mean() >= 0.98
    assert right[sure].sum() >= 0.7 * truth.any(axis=1).sum()
    bins = np.minimum((found.max(axis=1) * 10).astype(int), 9)
    gaps = [
        abs(found.max(axis=1)[bins == one].mean() - right[bins == one].mean())
        * (bins == one).mean()
        for one in np.unique(bins)
    ]
    assert sum(gaps) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("accuracy", [0.6, 0.9])
def test_a_word_that_nothing_shows_labels_next_to_nothing(accuracy, roll):
    files, embeddings, words = roll
    tower = MadeUpTower([file.name for file in files], words, embeddings, accuracy)
    absent = ["giraffe", "submarine", "violin", "kangaroo", "graffiti"]
    labelled = [int((ask(tower, files, embeddings, [word]) >= 0.99).sum()) for word in absent]
    assert sum(labelled) <= len(files) * len(absent) / 1000


def test_what_a_model_misses_is_left_to_the_taught_network():
    rng = np.random.default_rng(0)
    shown = np.arange(400) < 100
    looks = np.where(shown, 1.0, -1.0)[:, None] + rng.normal(0, 0.3, (400, 6))
    missed = shown & (np.arange(400) % 5 == 0)
    words = np.where(shown & ~missed, 5.0, 0.0)[:, None] + rng.normal(size=(400, 1))
    evidence = weigh(words / 100, rng.normal(size=(400, 300)) / 100)
    assert (evidence.ratios[missed] < -3).mean() > 0.8
    found = learn_words(looks.astype(np.float32), evidence).probabilities[:, 0]
    assert (found[missed] > 0.5).mean() > 0.9 and (found[~shown] < 0.5).mean() > 0.99


def test_what_a_folder_shows_is_a_rival_unless_it_is_meant():
    there = ["cucumber", "tabby", "mushroom"]
    found = rivals(("cat", "orange"), there)
    assert {"cucumber", "mushroom"} <= set(found) and "tabby" not in found
    assert len(found) == len(rivals(("cat", "orange")))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A folder of discs and squares of which the discs are called kangaroos."""
    folder = tmp_path_factory.mktemp("shapes")
    names, truth = [], []
    for number in range(60):
        kind = "disc" if number % 3 == 0 else "square"
        names.append(f"{number:03}.jpg")
        draw_shape(kind, number)[0].save(folder / names[-1])
        truth.append(["kangaroo"] if kind == "disc" else [])
    files = [ImageFile(folder / name, name) for name in names]
    items = Embedder(load_backbone()).embed_all(files)
    return folder, MadeUpTower(names, truth, np.stack([i.embedding for i in items]), 0.9), truth


def test_run_asks_the_text_image_model_about_unknown_words(shapes, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    folder, tower, truth = shapes
    caplog.set_level("INFO", "wordsight")
    results = wordsight.run(
        "kangaroo,cat", folder, output=tmp_path / "r", words_model=tower, threshold=0.9
    )
    labelled = {one.file_name for one in results if one.label == "kangaroo"}
    shown = {f"{number:03}.jpg" for number, words in enumerate(truth) if words}
    assert labelled <= shown and len(labelled) >= 0.7 * len(shown)
    said = caplog.text
    assert "Asking the text–image model 'made-up-0.9' about 'kangaroo'" in said
    assert "60 of 60 photos" in said and "It took" in said
    assert "The backbone knows cat by itself." in said
    rows = (tmp_path / "r" / "predictions.jsonl").read_text().splitlines()
    heat = [row["heatmap"] for row in map(json.loads, rows) if row["label"] == "kangaroo"]
    assert heat and all((tmp_path / "r" / one).is_file() for one in heat)


def test_photos_the_model_did_not_see_are_judged_by_what_it_taught(
    shapes, tmp_path, monkeypatch, caplog
):
    from wordsight.teaching import by_tower

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(by_tower, "MOST_SEEN", 40)
    monkeypatch.setattr(by_tower.spread, "__defaults__", (40,))
    folder, tower, truth = shapes
    tower.seen = 0
    caplog.set_level("INFO", "wordsight")
    results = wordsight.run("kangaroo", folder, output=None, words_model=tower, threshold=0.5)
    assert tower.seen == 40
    assert "which judges the other 20" in caplog.text
    right = [(one.label == "kangaroo") == bool(truth[int(one.file_name[:3])]) for one in results]
    assert np.mean(right) >= 0.85


def test_a_known_word_needs_no_text_image_model_unless_asked(shapes, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    folder, tower, _ = shapes
    caplog.set_level("INFO", "wordsight")
    tower.seen = 0
    wordsight.run("cat", folder, output=None, words_model=tower)
    assert tower.seen == 0 and "isn't needed" in caplog.text
    wordsight.run("cat", folder, output=None, words_model=tower, words_model_for="all")
    assert tower.seen == 60


def test_the_first_questions_follow_the_text_image_model(shapes, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path / "home"))
    folder, tower, truth = shapes
    shutil.copytree(folder, tmp_path / "photos")
    session = wordsight.teach(
        tmp_path / "photos", "kangaroo", output=tmp_path / "m", words_model=tower
    )
    first = [question.file_name for question in session.grid(6)]
    assert sum(bool(truth[int(name[:3])]) for name in first) >= 4


def test_words_models_that_are_not_there_are_said(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("WORDSIGHT_HOME", str(tmp_path))
    with pytest.raises(BackboneUnavailable, match="words --prepare siglip2"):
        wordsight.run("kangaroo", shapes[0], output=None, words_model="siglip2")
    with pytest.raises(InvalidArgument, match="siglip2, pe-core-s, pe-core-t"):
        wordsight.run("cat", shapes[0], output=None, words_model="clip")
    with pytest.raises(InvalidArgument, match="--roll-up"):
        wordsight.run("cat,dog", shapes[0], roll_up="animal", words_model="siglip2")
    with pytest.raises(InvalidArgument, match="words-model-for"):
        wordsight.run("cat", shapes[0], words_model="siglip2", words_model_for="some")


def test_a_sample_holds_all_rare_things_and_its_weights_tell_the_folder():
    backbone = load_backbone()
    weight, _ = backbone.imagenet_head()
    rng = np.random.default_rng(0)
    things = np.array([7] * 2900 + [300] * 95 + [800] * 5)
    noise = rng.normal(size=(3000, weight.shape[1])) * 0.01
    embeddings = (weight[things] * 3 + noise).astype(np.float32)
    rows, weights = spread(embeddings, backbone, ["kangaroo"])
    assert len(rows) == MOST_SEEN == len(set(rows))
    assert np.isin(np.flatnonzero(things != 7), rows).all()
    assert np.isclose(weights.mean(), 1)
    share = weights[things[rows] == 7].sum() / weights.sum()
    assert abs(share - 2900 / 3000) < 0.01


def test_joined_heads_give_what_each_gave():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(1000, 16)).astype(np.float32), np.zeros(1000, np.float32)
    embeddings = rng.normal(size=(50, 16)).astype(np.float32)
    known, _ = fit_words(embeddings, weight, bias, ((1, 2), (5,)))
    learned = of_learned(rng.normal(size=(2, 16)).astype(np.float32), np.zeros(2, np.float32))
    both = joined(known, learned, [0, 2])
    found = both.words(embeddings)
    assert np.allclose(found[:, [1, 3]], known.words(embeddings), atol=1e-5)
    assert np.allclose(found[:, [0, 2]], learned.words(embeddings), atol=1e-5)
    assert both.rows().weight[0].any()


def test_probabilities_do_not_depend_on_where_cosines_lie():
    rng = np.random.default_rng(0)
    words, beside = rng.normal(size=(300, 1)), rng.normal(size=(300, 200))
    words[:20] += 5
    plain = weigh(words, beside).logits
    assert np.allclose(plain, weigh(7 + 0.5 * words, 7 + 0.5 * beside).logits, atol=1e-6)
    tilted = beside + rng.normal(size=200)  # each phrase has a zero of its own
    own = weigh(words + 1, tilted).logits
    assert ((own > 0) == (plain > 0)).mean() > 0.95
