"""A head from words alone, on real photos: accuracy, silence for strangers, and balance."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import wordsight
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.registry import load_backbone
from wordsight.datasets.files import ImageFile, find_images
from wordsight.heads.zero_shot import fit_words
from wordsight.words.vocabulary import resolve


@pytest.fixture(scope="module")
def pets(data):
    """Embeddings of the test photos: {"cat": …, "dog": …, "other": …}; the ImageNet head and the
    classes of both words.
    """
    embedder = Embedder(load_backbone())

    def embed(*folders):
        return np.stack(
            [item.embedding for item in embedder.embed_all(find_images(folders).images)]
        )

    photos = {name: embed(data / "catdog" / "test" / name) for name in ("cat", "dog")}
    photos["other"] = embed(data / "clothing" / "test", data / "street" / "photos")
    known = (*embedder.backbone.imagenet_head(), (resolve("cat").classes, resolve("dog").classes))
    embedder.cache.close()
    return photos, known


def answers(known, embeddings, threshold=0.99):
    """Return the top class and whether a label is given, for each embedding, and how many photos
    each word was learned from.
    """
    fitted, counts = fit_words(embeddings, *known)
    alone = len(known[2]) == 1
    model = wordsight.Classifier(
        ["cat", "not_cat"] if alone else ["cat", "dog"],
        fitted.rows(),
        load_backbone(),
        words=fitted,
        catch_all=1 if alone else None,
    )
    decisions = [model.decide("", e, threshold) for e in embeddings]
    return (
        np.array([d.top_label for d in decisions]),
        np.array([d.label is not None for d in decisions]),
        counts,
    )


def test_two_words_on_300_photos(pets):
    photos, known = pets
    truth = np.repeat(["cat", "dog"], 150)
    top, accepted, _ = answers(known, np.concatenate([photos["cat"], photos["dog"]]))
    assert (top == truth).mean() >= 0.985
    assert accepted.mean() >= 0.96 and (top == truth)[accepted].mean() >= 0.99


def test_eight_cats_among_150_dogs(pets):
    photos, known = pets
    for start in (0, 40, 80):
        both = np.concatenate([photos["cat"][start : start + 8], photos["dog"]])
        top, accepted, _ = answers(known, both)
        assert (top == np.repeat(["cat", "dog"], [8, 150])).mean() >= 0.98
        assert accepted.mean() > 0.9


def test_only_dogs_stay_only_dogs(pets):
    photos, known = pets
    top, accepted, counts = answers(known, photos["dog"])
    assert set(top[accepted]) == {"dog"} and (top == "dog").mean() > 0.98
    assert accepted.mean() > 0.9 and counts[0] == 0


def test_strangers_get_no_label(pets):
    photos, known = pets
    truth = np.repeat(["cat", "dog", "other"], [150, 150, len(photos["other"])])
    top, accepted, _ = answers(
        known, np.concatenate([photos["cat"], photos["dog"], photos["other"]])
    )
    assert (top == truth)[accepted].mean() >= 0.985 and accepted[:300].mean() > 0.94


def test_nothing_but_strangers(pets):
    photos, known = pets
    _, accepted, _ = answers(known, photos["other"])
    assert accepted.mean() <= 0.01


def test_one_word_is_a_yes_no_question_and_says_what_it_says_among_others(pets):
    photos, (weight, bias, groups) = pets
    alone = (weight, bias, groups[:1])
    every = np.concatenate([photos["cat"], photos["dog"], photos["other"]])
    truth = np.repeat(["cat", "not_cat"], [150, 150 + len(photos["other"])])
    top, accepted, _ = answers(alone, every)
    assert (top == truth).mean() > 0.97
    assert (top == truth)[accepted].mean() >= 0.99 and accepted.mean() > 0.9
    among = fit_words(every, weight, bias, groups)[0].words(every)[:, 0]
    np.testing.assert_allclose(
        fit_words(every, *alone)[0].words(every)[:, 0], among, rtol=0, atol=1e-5
    )
    top, accepted, _ = answers(alone, photos["dog"])
    assert (top[accepted] == "not_cat").mean() >= 0.99


def test_an_unlike_photo_changes_little_and_no_word_turns_another_off(pets):
    """No cliff: a word that hardly any photo shows leaves the others as they were."""
    photos, (weight, bias, groups) = pets
    both = np.concatenate([photos["cat"], photos["dog"]])
    rare = resolve("banana").classes
    with_it = fit_words(both, weight, bias, (*groups, rare))[0].words(both)
    without = fit_words(both, weight, bias, groups)[0].words(both)
    np.testing.assert_allclose(with_it[:, :2], without, rtol=0, atol=1e-5)
    assert with_it[:, 2].max() < 0.99
    fewer = fit_words(both[1:], weight, bias, groups)[0].words(both[1:])
    assert np.abs(fewer - without[1:]).max() < 0.2


def test_what_is_missing_to_one_is_none_of_the_words(pets):
    photos, known = pets
    head, _ = fit_words(photos["other"], *known)
    assert head.words(photos["other"]).sum(axis=1).mean() < 0.05
    assert head.is_stranger(photos["other"]).mean() > 0.95
    assert not head.is_stranger(photos["cat"]).all()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_handful_of_photos_works(pets, count):
    photos, known = pets
    embeddings = np.concatenate([photos["cat"][:count], photos["dog"][:count]])
    fitted, _ = fit_words(embeddings, *known)
    assert fitted.rows().weight.shape == (2, 1280)
    assert np.isfinite(fitted.words(photos["cat"])).all()


def test_words_head_is_deterministic(pets):
    photos, known = pets
    embeddings = np.concatenate([photos["cat"][:40], photos["dog"][:40]])
    first, second = (fit_words(embeddings, *known)[0] for _ in range(2))
    assert np.array_equal(first.learned_weight, second.learned_weight)
    assert np.array_equal(first.prior, second.prior)


def test_ten_words_on_a_mixed_roll(data):
    """Held to what the issue of an ordinary folder asks for; photos from a dozen sources."""
    with open(data / "roll.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    words = ["cat", "dog", "bear", "banana", "orange", "cucumber", "mushroom", "shoe", "hat", "bus"]
    embedder = Embedder(load_backbone())
    files = [ImageFile(data / row["file_name"], row["file_name"]) for row in rows]
    embeddings = np.stack([item.embedding for item in embedder.embed_all(files)])
    groups = tuple(resolve(word).classes for word in words)
    found = fit_words(embeddings, *embedder.backbone.imagenet_head(), groups)[0].words(embeddings)
    embedder.cache.close()
    truth = np.array([[word in row["words"].split("|") for word in words] for row in rows])
    right = truth[np.arange(len(rows)), found.argmax(axis=1)]
    for threshold, precision, recall in ((0.99, 0.985, 0.75), (0.9, 0.97, 0.86)):
        labelled = found.max(axis=1) >= threshold
        assert right[labelled].mean() >= precision
        assert right[labelled].sum() / truth.sum() >= recall
    order = np.argsort(-found.max(axis=1))
    running = np.cumsum(right[order])
    at = np.flatnonzero(running / np.arange(1, len(rows) + 1) >= 0.98)[-1]
    assert running[at] / truth.sum() >= 0.9


def test_all_words_that_nobody_knows_are_named_at_once(tmp_path, shapes):
    with pytest.raises(
        wordsight.errors.UnknownWord, match=r"'qwrt' or 'zzzxy'\..*'crane' has several meanings"
    ):
        wordsight.run("cat,qwrt,zzzxy,crane", shapes, output=tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "get"), [("dress,hat,empty", "no label"), ("dress,empty", "the label 'not_dress'")]
)
def test_what_means_none_of_the_words_says_what_such_photos_get(
    tmp_path, shapes, caplog, words, get
):
    with caplog.at_level("INFO", logger="wordsight"):
        wordsight.run(words, shapes, output=tmp_path / "r")
    assert f"'empty' means none of the other words: such photos get {get}." in caplog.text
