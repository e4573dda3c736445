from __future__ import annotations

from tscnc_deploy.robustness.attacks.apgd import checkpoints
from tscnc_deploy.robustness.attacks.square import square_side


def test_apgd_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(50) == [11, 21, 29, 35, 40, 44, 47, 50]
    assert checkpoints(1) == [1]


def test_squares_shrink_on_the_schedule_of_the_paper():
    queries = (0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001, 9999)
    sides = [square_side(query, 10_000, 32, 32) for query in queries]
    assert sides == [29, 29, 20, 14, 10, 7, 5, 4, 3, 2, 1, 1]


def test_the_schedule_is_rescaled_to_the_number_of_queries():
    assert [square_side(query, 1000, 32, 32) for query in (0, 1, 2, 6, 21, 801)] == [29, 29, 20, 14, 10, 1]


def test_squares_fit_into_images_that_are_not_square():
    assert square_side(0, 100, 4, 64) == 4
