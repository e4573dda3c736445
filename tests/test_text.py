from __future__ import annotations

import pytest

from tscnc_deploy.text import any_of, closest, did_you_mean, not_among, number


@pytest.mark.parametrize(
    ("words", "phrase"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c"), ({"x": 1}, "x")]
)
def test_words_are_joined_like_a_sentence(words, phrase):
    assert any_of(words) == phrase


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (10_605_040, "10,605,040"),
        (10_605_040.0, "10,605,040"),
        (0.0, "0"),
        (-3, "-3"),
        (0.8967214, "0.896721"),
        (3.3e-6, "3.3e-06"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_whole_numbers_are_written_in_full(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("word", "match"), [("resnet81", "resnet18"), ("VGG16", "vgg16"), ("vgg", "vgg16"), ("zebra", None), ("", None)]
)
def test_the_closest_known_word_is_found_whatever_its_case(word, match):
    assert closest(word, ["resnet18", "vgg16"]) == match


def test_messages_end_with_a_suggestion_only_if_there_is_one():
    assert did_you_mean("cifar", ["cifar10", "svhn"]) == "; did you mean cifar10?"
    assert did_you_mean("zebra", ["cifar10", "svhn"]) == ""
    assert not_among("cifar", ["cifar10", "svhn"]) == "is not cifar10 or svhn; did you mean cifar10?"
