from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tscnc_deploy.data import interleaved, stratified


def drawn(labels: list[int], count: int, seed: int = 0) -> list[int]:
    return stratified(torch.tensor(labels), count, torch.Generator().manual_seed(seed)).tolist()


def test_each_class_gives_its_share():
    labels = [0] * 60 + [1] * 30 + [2] * 10
    index = drawn(labels, 10)
    assert [sum(labels[i] == c for i in index) for c in range(3)] == [6, 3, 1]
    assert index == sorted(set(index))


def test_ties_of_rounding_go_to_the_lower_labels():
    labels = [0, 1, 2, 3] * 4
    assert [labels[i] for i in drawn(labels, 6)].count(0) == 2
    assert sorted(labels[i] for i in drawn(labels, 6)) == [0, 0, 1, 1, 2, 3]


def test_a_smaller_draw_is_part_of_a_larger_one():
    labels = [0, 1, 2] * 50
    assert set(drawn(labels, 15)) < set(drawn(labels, 90))


def test_the_seed_decides():
    labels = [0, 1] * 100
    assert drawn(labels, 20, seed=1) == drawn(labels, 20, seed=1)
    assert drawn(labels, 20, seed=1) != drawn(labels, 20, seed=2)


def test_nothing_of_nothing():
    assert drawn([], 0) == []


def test_more_than_there_is_is_refused():
    with pytest.raises(ValueError, match="cannot draw 3 of 2 images"):
        drawn([0, 1], 3)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data())
def test_no_class_is_more_than_one_image_off_its_share(labels, data):
    count = data.draw(st.integers(0, len(labels)))
    index = drawn(labels, count)
    assert len(set(index)) == count
    for label in set(labels):
        exact = count * labels.count(label) / len(labels)
        assert abs(sum(labels[i] == label for i in index) - exact) < 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
def test_every_beginning_holds_every_class_in_its_share(labels, seed):
    order = interleaved(torch.tensor(labels), torch.Generator().manual_seed(seed)).tolist()
    assert sorted(order) == list(range(len(labels)))
    for count in range(1, len(labels) + 1):
        for label in set(labels):
            exact = count * labels.count(label) / len(labels)
            # A class is off by one within its own image's part, and so is each of the others.
            assert abs(sum(labels[i] == label for i in order[:count]) - exact) <= 2 + len(set(labels)) / 2


def test_the_order_is_random_within_a_class():
    labels = torch.tensor([0] * 30)
    orders = {tuple(interleaved(labels, torch.Generator().manual_seed(seed)).tolist()) for seed in range(5)}
    assert len(orders) == 5
