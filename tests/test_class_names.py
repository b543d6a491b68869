from __future__ import annotations

import pytest

from wordsight.errors import InvalidArgument
from wordsight.words.class_names import (
    catch_all_index,
    catch_all_name,
    check_class_names,
    fold,
    is_catch_all,
    parse_classes,
    same_classes,
    with_catch_all,
)


@pytest.mark.parametrize("classes", ["cat, Border Collie ", ["cat", " Border Collie"]])
def test_classes_are_read_from_a_text_or_a_list_as_they_are_spelled(classes):
    assert parse_classes(classes) == ["cat", "Border Collie"]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("", "words with commas between"),
        ([], "words with commas between"),
        ("cat,,dog", "words with commas between"),
        ("cat,Cat", "'Cat' is given twice"),
        (["sea  lion", "Sea Lion"], "'Sea Lion' is given twice"),
    ],
)
def test_no_class_an_empty_one_and_one_given_twice_are_refused(classes, said):
    with pytest.raises(InvalidArgument, match=said):
        parse_classes(classes)


def test_case_and_blanks_do_not_tell_names_apart_and_all_else_does():
    assert fold("  Border \t COLLIE ") == fold("border collie") and fold("STRASSE") == fold(
        "straße"
    )
    assert len({fold(name) for name in ("border collie", "bordercollie", "border_collie")}) == 3
    assert same_classes(["Cat", "dog"], ["DOG", "cat "])
    assert not same_classes(["cat"], ["cat", "dog"]) and not same_classes(["cat"], ["cats"])


def test_names_that_differ_only_by_case_or_blanks_are_refused():
    check_class_names(["cat", "cat", "cats"])  # one name may come up again and again
    with pytest.raises(InvalidArgument, match=r"'sea lion' and 'Sea  lion'\. Merge the two"):
        check_class_names(["sea lion", "walrus", "Sea  lion"])


def test_one_word_gets_a_catch_all_that_is_recognised_and_several_words_get_none():
    assert with_catch_all(["brick"]) == ["brick", "not_brick"]
    assert is_catch_all(catch_all_name(["brick"])) and not is_catch_all("brick")
    assert with_catch_all(["cat", "dog"]) == ["cat", "dog"]
    assert same_classes(with_catch_all(["Brick"]), ["not_brick", "brick"])


def test_the_class_of_anything_else_beside_several_words_is_learned_like_any_other():
    name = catch_all_name(["cat", "dog"])
    assert name == "other" and catch_all_index(["cat", "dog", name]) is None


@pytest.mark.parametrize(
    ("class_names", "index"),
    [
        (["brick", "not_brick"], 1),
        (["not_brick", "brick"], 0),
        (["cat", "dog", "not_either"], 2),
        (["cat", "dog"], None),
        (["not_cat", "not_dog"], None),  # neither means anything else
        (["not_brick"], None),
        ([], None),
    ],
)
def test_a_model_has_a_catch_all_where_exactly_one_of_several_classes_is_named_so(
    class_names, index
):
    assert catch_all_index(class_names) == index
