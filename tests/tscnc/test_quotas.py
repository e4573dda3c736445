import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscnc_deploy.tscnc import apportion


def test_equal_shares_are_spread_by_size_and_the_rest_goes_to_the_largest_remainders():
    # A fifth and a bit of each is 14.40, 230.44 and 512.1; the largest remainder gets the weight that is left.
    assert apportion([1, 1, 1], [72, 1152, 2560], 757, [1, 1, 1]) == [14, 231, 512]


def test_unequal_shares_are_scaled_alike():
    assert apportion([0.2, 0.1], [100, 100], 15, [1, 1]) == [10, 5]


def test_a_full_layer_takes_no_more():
    assert apportion([0.9, 0.1], [10, 100], 60, [1, 1]) == [10, 50]


def test_a_least_number_is_kept():
    assert apportion([0.01, 0.5], [100, 100], 20, [5, 1]) == [5, 15]


def test_what_no_numbers_could_meet_is_refused():
    with pytest.raises(ValueError, match=r"3 weights cannot be distributed over layers of \[4, 4\]"):
        apportion([1, 1], [4, 4], 3, [2, 2])


@settings(max_examples=200, deadline=None)
@given(
    layers=st.lists(st.tuples(st.floats(1e-4, 1), st.integers(1, 5000)), min_size=1, max_size=8),
    kept=st.floats(0, 1),
    floor=st.floats(0, 0.3),
)
def test_the_total_is_exact_and_every_layer_within_its_bounds(layers, kept, floor):
    shares, sizes = [share for share, _ in layers], [size for _, size in layers]
    least = [max(int(floor * size), 1) for size in sizes]
    total = sum(least) + round(kept * (sum(sizes) - sum(least)))
    counts = apportion(shares, sizes, total, least)
    assert sum(counts) == total
    assert all(low <= count <= size for low, count, size in zip(least, counts, sizes, strict=True))
