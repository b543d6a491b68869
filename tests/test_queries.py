"""What is searched for a word, and what is unrelated to it."""

from __future__ import annotations

import pytest

import wordsight
from wordsight.gathering.queries import MAX_TEXTS, search_texts, unrelated_texts
from wordsight.words.vocabulary import resolve, senses


def test_search_texts_begin_with_the_word_then_synonyms_then_kinds():
    texts = search_texts("cat")
    assert (
        texts[0] == "cat"
        and texts.index("domestic cat") < texts.index("tabby cat")
        and "Persian cat" in texts
    )
    assert "watchdog" in search_texts("dog") and "watchdog dog" not in search_texts("dog")
    assert (
        len(search_texts("vehicle"))
        == MAX_TEXTS
        == len({text.casefold() for text in search_texts("vehicle")})
    )


def test_search_texts_of_words_the_vocabulary_does_not_settle_are_the_word_alone():
    assert (
        search_texts("zorg") == ["zorg"]
        and search_texts("crane") == ["crane"]
        and search_texts("crane#bird") == ["crane bird"]
    )


@pytest.mark.parametrize("word", ["cat", "dog", "brick", "vehicle", "mushroom"])
def test_unrelated_texts_share_no_class_with_the_word(word):
    names = unrelated_texts([word])
    assert len(names) > 200 and names == unrelated_texts([word])
    related = {index for sense in senses(word) for index in sense.classes}
    for name in names[:100]:
        assert (
            not related & {index for sense in senses(name) for index in sense.classes}
            or len(senses(name)) > 1
        )
        assert word not in name.casefold().split()
    assert resolve("cat").classes


def test_words_that_mean_everything_have_nothing_unrelated():
    with pytest.raises(wordsight.errors.InvalidArgument, match="Nothing is unrelated to entity"):
        unrelated_texts(["entity"])
