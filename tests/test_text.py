from __future__ import annotations

import pytest

from tscnc_deploy.text import any_of, closest, did_you_mean, not_among


@pytest.mark.parametrize(
    ("words", "phrase"), [(["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c"), ({"x": 1}, "x")]
)
def test_words_are_joined_like_a_sentence(words, phrase):
    assert any_of(words) == phrase


@pytest.mark.parametrize(
    ("word", "match"), [("resnet81", "resnet18"), ("VGG16", "vgg16"), ("vgg", "vgg16"), ("zebra", None), ("", None)]
)
def test_the_closest_known_word_is_found_whatever_its_case(word, match):
    assert closest(word, ["resnet18", "vgg16"]) == match


def test_messages_end_with_a_suggestion_only_if_there_is_one():
    assert did_you_mean("cifar", ["cifar10", "svhn"]) == "; did you mean cifar10?"
    assert did_you_mean("zebra", ["cifar10", "svhn"]) == ""
    assert not_among("cifar", ["cifar10", "svhn"]) == "is not cifar10 or svhn; did you mean cifar10?"
