from __future__ import annotations

import pytest

from wordsight.errors import UnknownWord
from wordsight.words.vocabulary import imagenet_synsets, resolve, senses


def test_table_holds_all_of_imagenet_in_order():
    classes = imagenet_synsets()
    assert [s.index for s in classes] == list(range(1000))
    assert classes[0].wnid == "n01440764" and classes[281].words[0] == "tabby"


@pytest.mark.parametrize(
    ("word", "wnid", "count"),
    [
        ("dog", "n02084071", 118), ("Dogs", "n02084071", 118), ("cat", "n02121620", 7),
        ("canis familiaris", "n02084071", 118),
        ("wolves", "n02114100", 4), ("vehicle", "n04524313", 71), ("street_sign", "n06794110", 1),
        ("automobile", "n02958343", 10),
    ],
)  # fmt: skip
def test_resolve_finds_words_in_every_form(word, wnid, count):
    sense = resolve(word)
    assert sense.synset.wnid == wnid and len(sense.classes) == count


def test_vehicle_holds_cab_minivan_and_streetcar():
    names = {imagenet_synsets()[i].words[0] for i in resolve("vehicle").classes}
    assert {"cab", "minivan", "streetcar"} <= names


@pytest.mark.parametrize("word", ["crane", "mouse", "bow", "seal"])
def test_resolve_lists_the_senses_of_ambiguous_words(word):
    with pytest.raises(UnknownWord, match=f"'{word}' has several meanings. Choose with: '{word}#"):
        resolve(word)


@pytest.mark.parametrize(
    ("word", "wnid"),
    [
        ("crane#bird", "n02012849"),
        ("crane#device", "n03126707"),
        ("mouse#computer", "n03793489"),
        ("bow#weapon", "n02879718"),
        ("bow#n02879718", "n02879718"),
    ],
)
def test_resolve_chooses_by_hint(word, wnid):
    assert resolve(word).synset.wnid == wnid


@pytest.mark.parametrize("word", ["crane", "mouse", "bow", "dog", "monitor"])
def test_every_listed_name_chooses_its_own_sense(word):
    for sense in senses(word):
        if sense.classes:
            assert resolve(sense.name).synset == sense.synset


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("geese", "goose"), ("grey wolf", "gray wolf"), ("wolves", "wolf"), ("dress-es", None),
        ("mice", "mouse#rodent"), ("tv", "television"), ("sneakers", "running shoe"),
        ("moulds", None), ("hard  hats", None),
    ],
)  # fmt: skip
def test_plurals_spellings_and_everyday_names_mean_the_same(word, same):
    if same is None or "#" in same:
        assert not any(sense.classes for sense in senses(word)) or same
    else:
        assert resolve(word).classes == resolve(same).classes


def test_resolve_says_when_a_hint_fits_nothing():
    with pytest.raises(UnknownWord, match="fits no known sense"):
        resolve("crane#banana")
