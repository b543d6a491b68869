"""A head from words alone, on real photos: accuracy, silence for strangers, and balance."""

from __future__ import annotations

import numpy as np
import pytest

import wordsight
from wordsight.backbones.embedder import Embedder
from wordsight.backbones.registry import load_backbone
from wordsight.datasets.files import find_images
from wordsight.heads.zero_shot import Gate, fit_words_head
from wordsight.words.vocabulary import resolve


@pytest.fixture(scope="module")
def pets(data):
    """Embeddings of the test photos: {"cat": …, "dog": …, "other": …}, and the gate."""
    embedder = Embedder(load_backbone())

    def embed(*folders):
        return np.stack(
            [item.embedding for item in embedder.embed_all(find_images(folders).images)]
        )

    photos = {name: embed(data / "catdog" / "test" / name) for name in ("cat", "dog")}
    photos["other"] = embed(data / "clothing" / "test", data / "street" / "photos")
    gate = Gate(
        *embedder.backbone.imagenet_head(), (resolve("cat").classes, resolve("dog").classes)
    )
    embedder.cache.close()
    return photos, gate


def answers(gate, embeddings, threshold=0.99):
    """Return the top class and whether a label is given, for each embedding."""
    fitted = fit_words_head(embeddings, gate)
    catch_all = 1 if len(gate.groups) == 1 else None
    names = ["cat", "dog"] if catch_all is None else ["cat", "not_cat"]
    model = wordsight.Classifier(
        names, fitted.head, load_backbone(), fitted.neighbourhood, fitted.gate, catch_all
    )
    decisions = [model.decide("", e, threshold) for e in embeddings]
    return (
        np.array([d.top_label for d in decisions]),
        np.array([d.label is not None for d in decisions]),
        fitted,
    )


def test_two_words_on_300_photos(pets):
    photos, gate = pets
    truth = np.repeat(["cat", "dog"], 150)
    top, accepted, _ = answers(gate, np.concatenate([photos["cat"], photos["dog"]]))
    assert (top == truth).mean() >= 0.975
    assert accepted.mean() >= 0.8 and (top == truth)[accepted].mean() >= 0.99


def test_eight_cats_among_150_dogs(pets):
    photos, gate = pets
    for start in (0, 40, 80):
        top, _, _ = answers(gate, np.concatenate([photos["cat"][start : start + 8], photos["dog"]]))
        assert (top == np.repeat(["cat", "dog"], [8, 150])).mean() >= 0.97


def test_only_dogs_stay_only_dogs(pets):
    photos, gate = pets
    top, accepted, fitted = answers(gate, photos["dog"])
    assert set(top[accepted]) == {"dog"} and (top == "dog").mean() > 0.9
    assert fitted.learned_from == (0, 0)


def test_strangers_get_no_label(pets):
    photos, gate = pets
    truth = np.repeat(["cat", "dog", "other"], [150, 150, len(photos["other"])])
    top, accepted, _ = answers(
        gate, np.concatenate([photos["cat"], photos["dog"], photos["other"]])
    )
    assert (top == truth)[accepted].mean() >= 0.97 and accepted[:300].mean() > 0.8


def test_nothing_but_strangers(pets):
    photos, gate = pets
    _, accepted, _ = answers(gate, photos["other"])
    assert accepted.mean() <= 0.01


def test_one_word_is_a_yes_no_question(pets):
    photos, gate = pets
    gate = Gate(gate.weight, gate.bias, gate.groups[:1])
    truth = np.repeat(["cat", "not_cat"], [150, 150 + len(photos["other"])])
    top, accepted, _ = answers(
        gate, np.concatenate([photos["cat"], photos["dog"], photos["other"]])
    )
    assert (
        (top == truth).mean() > 0.95
        and (top == truth)[accepted].mean() >= 0.98
        and accepted.mean() > 0.8
    )
    top, accepted, _ = answers(gate, photos["cat"])
    assert (top[accepted] == "cat").mean() >= 0.99 and accepted.mean() > 0.5
    top, accepted, _ = answers(gate, photos["dog"])
    assert (top[accepted] == "not_cat").mean() >= 0.99


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_handful_of_photos_works(pets, count):
    photos, gate = pets
    embeddings = np.concatenate([photos["cat"][:count], photos["dog"][:count]])
    fitted = fit_words_head(embeddings, gate)
    assert fitted.head.weight.shape == (2, 1280)


def test_words_head_is_deterministic(pets):
    photos, gate = pets
    embeddings = np.concatenate([photos["cat"][:40], photos["dog"][:40]])
    assert np.array_equal(
        fit_words_head(embeddings, gate).head.weight, fit_words_head(embeddings, gate).head.weight
    )
