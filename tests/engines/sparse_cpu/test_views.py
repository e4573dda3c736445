from __future__ import annotations

import pytest

from tscnc_deploy.engines.sparse_cpu.views import (
    IMAGES,
    Atom,
    Images,
    chained,
    covers,
    cut_at,
    refined,
    regrouped,
    simplified,
    sizes_of,
)

pytestmark = pytest.mark.without_core

# [batch, 6, 2, 4]
IMAGE = ((IMAGES,), (Atom(6, 8),), (Atom(2, 4),), (Atom(4, 1),))


def test_heads_are_parts_of_the_channels():
    tokens = regrouped(IMAGE, [Images(), 3, 2, 8])
    assert tokens == ((IMAGES,), (Atom(3, 16),), (Atom(2, 8),), (Atom(8, 1),))
    assert sizes_of(tokens) == [Images(), 3, 2, 8]


def test_axes_can_join_that_of_the_images():
    assert regrouped(IMAGE, [Images(6), 8]) == ((IMAGES, Atom(6, 8)), (Atom(8, 1),))
    assert regrouped(((IMAGES, Atom(6, 8)), (Atom(8, 1),)), [Images(2), 3, 2, 4]) == (
        (IMAGES, Atom(2, 24)),
        (Atom(3, 8),),
        (Atom(2, 4),),
        (Atom(4, 1),),
    )


@pytest.mark.parametrize("sizes", [[48, Images()], [Images(), 5, 8], [Images(), 6], [Images(), 48, 2]])
def test_other_shapes_need_a_copy_or_do_not_fit(sizes):
    assert regrouped(IMAGE, sizes) is None


def test_pixels_in_another_order_are_no_longer_one_run():
    turned = ((IMAGES,), (Atom(4, 1),), (Atom(2, 4),), (Atom(6, 8),))
    assert regrouped(turned, [Images(), 8, 6]) == ((IMAGES,), (Atom(4, 1), Atom(2, 4)), (Atom(6, 8),))
    assert regrouped(turned, [Images(), 3, 16]) is None


def test_neighbouring_runs_are_one():
    assert simplified((Atom(3, 8), Atom(1, 5), Atom(2, 4), Atom(4, 1))) == (Atom(24, 1),)
    assert simplified((IMAGES, Atom(3, 8), Atom(2, 8))) == (IMAGES, Atom(3, 8), Atom(2, 8))


def test_every_element_once():
    assert covers(IMAGE, 0, 48)
    assert not covers(IMAGE, 8, 48)
    assert not covers(((IMAGES,), (Atom(6, 8),), (Atom(2, 0),), (Atom(8, 1),)), 0, 48)
    assert not covers(((IMAGES,), (Atom(3, 16),), (Atom(8, 1),)), 0, 24)


def test_channels_and_pixels_of_an_axis():
    assert cut_at((Atom(48, 1),), 8) == ((Atom(6, 8),), (Atom(8, 1),))
    assert cut_at((IMAGES, Atom(6, 8)), 8) == ((Atom(6, 8),), ())
    assert cut_at((Atom(12, 4),), 6) is None


def test_loops_over_two_axes():
    assert refined((Atom(6, 8),), (Atom(2, 3), Atom(3, 1))) == [(2, 24, 3), (3, 8, 1)]
    assert refined((Atom(4, 1),), (Atom(6, 1),)) is None


def test_loops_are_joined_where_both_sides_allow():
    assert chained([(2, 1, 1), (3, 2, 2), (5, 6, 7)]) == [(5, 6, 7), (6, 1, 1)]
    assert chained([(1, 9, 9)]) == [(1, 0, 0)]


def test_a_number_of_images_is_multiplied_and_divided():
    assert Images() * 12 == 12 * Images() == Images(12)
    assert Images(12) // 4 == Images(3)
    with pytest.raises(ValueError, match="a part of the images"):
        Images(3) // 2
