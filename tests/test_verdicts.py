"""What words are worth: known, narrow, ambiguous or unknown, and what is near in meaning."""

from __future__ import annotations

import csv
import json

import pytest

from conftest import DATA
from wordsight.errors import InvalidArgument, UnknownWord
from wordsight.words.class_names import split_none
from wordsight.words.verdicts import AMBIGUOUS, KNOWN, NARROW, UNKNOWN, judge, resolve_all

LIST = DATA.parent / "field" / "words.csv"


@pytest.mark.parametrize("word", ["cat", "Dogs", "car", "clock", "hat", "tv", "wine glass"])
def test_known_words_need_no_sentence(word):
    verdict = judge(word)
    assert verdict.verdict == KNOWN and verdict.classes and not verdict.reason
    assert not verdict.neighbours


@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        ("person", ["ballplayer", "groom", "scuba diver"]), ("apple", ["Granny Smith"]),
        ("kangaroo", ["wallaby"]), ("mirror", ["car mirror"]), ("paper", ["toilet tissue"]),
        ("oven", ["Dutch oven", "rotisserie"]),
    ],
)  # fmt: skip
def test_a_word_of_which_few_kinds_are_known_is_narrow_and_they_are_named(word, kinds):
    verdict = judge(word)
    assert verdict.verdict == NARROW and verdict.classes == kinds
    assert all(kind in verdict.reason for kind in kinds) and "miss" in verdict.reason


@pytest.mark.parametrize("word", ["crane", "kite", "table", "bowl"])
def test_ambiguous_words_list_their_meanings(word):
    verdict = judge(word)
    assert verdict.verdict == AMBIGUOUS and f"'{word}#" in verdict.reason


def test_unknown_words_have_neighbours_in_meaning():
    assert judge("raccoon").neighbours[:2] == ["lesser panda", "giant panda"]
    assert "bear" in judge("raccoon").neighbours
    assert judge("bobcat").neighbours[0] == "lynx"
    assert judge("perfume bottle").neighbours[0] == "bottle"
    assert "accordion" not in judge("raccoon").neighbours
    for word in ("raccoon", "perfume bottle", "moose"):
        assert judge(word).verdict == UNKNOWN and not judge(word).spellings


def test_only_what_is_no_word_may_be_a_typing_error():
    assert judge("elefant").spellings[0] == "elephant" and judge("dgo").spellings == ["dog"]
    assert "Did you mean 'elephant'" in judge("elefant").reason
    assert judge("tree").spellings == [] and judge("brick").spellings == []
    assert judge("qwrtzx").spellings == []


def test_every_word_of_a_request_is_judged_and_all_trouble_told_at_once():
    assert len(resolve_all(["cat", "dog"])) == 2
    with pytest.raises(UnknownWord) as caught:
        resolve_all(["cat", "raccoon", "moose", "person", "crane"])
    told = str(caught.value)
    assert all(word in told for word in ("'raccoon' or 'moose'", "'person'", "'crane#device'"))
    assert "--data" in told and "--force" in told and "'cat'" not in told
    assert [len(sense.classes) for sense in resolve_all(["person"], force=True)] == [3]
    with pytest.raises(UnknownWord, match="raccoon"):
        resolve_all(["raccoon"], force=True)
    with pytest.raises(InvalidArgument, match="overlap: tabby is both"):
        resolve_all(["cat", "tabby"])


def test_empty_none_and_other_mean_none_of_these():
    assert split_none(["cat", "Empty", "none", "dog", "other"]) == (
        ["cat", "dog"],
        ["Empty", "none", "other"],
    )


@pytest.mark.skipif(not LIST.is_file(), reason=f"the list of words is not there: {LIST}")
def test_the_list_of_216_words_is_judged_as_people_expect():
    with open(LIST, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wrong = [
        (row["word"], row["expect"], judge(row["word"]).verdict)
        for row in rows
        if judge(row["word"]).verdict not in row["expect"].split("|")
    ]
    assert len(rows) == 216 and len(wrong) <= 0.05 * len(rows), wrong


def test_the_command_prints_one_object_for_any_word(cli_here):
    for word, verdict in (
        ("cat", KNOWN),
        ("person", NARROW),
        ("raccoon", UNKNOWN),
        ("x9", UNKNOWN),
    ):
        done = cli_here("words", word, "--json")
        answer = json.loads(done.stdout)
        assert (
            done.returncode == (2 if verdict == UNKNOWN else 0)
            and answer["word"] == word
            and answer["verdict"] == verdict
        )
        assert {"classes", "neighbours", "senses", "spellings"} <= answer.keys()
