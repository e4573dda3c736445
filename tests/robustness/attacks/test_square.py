from __future__ import annotations

import pytest
import torch

from tscnc_deploy.robustness import Noise, Threat
from tscnc_deploy.robustness.attacks.base import Ball
from tscnc_deploy.robustness.attacks.square import L2Proposal, LinfProposal, two_bumps


def test_two_bumps_are_opposite_and_of_length_one():
    bumps = two_bumps(6, 5, torch.device("cpu"))
    assert bumps.norm().item() == pytest.approx(1)
    assert (bumps[:3] > 0).all()
    assert (bumps[3:] < 0).all()
    # Rings of a half of three rows: 1 + 1/4 + 1/9 in the middle, 1/4 + 1/9 around it, 1/9 at the sides.
    torch.testing.assert_close(bumps[1] / bumps[1, 2], torch.tensor([4, 13, 49, 13, 4]) / 49)


def test_a_recoloured_square_has_one_colour_and_the_rest_stays():
    ball = Ball.around(torch.full((1, 1, 3, 4), 0.5), Threat(epsilon=0.25))
    start = ball.centres
    found = LinfProposal().change(start, ball, torch.tensor([[1, 2, 1]]), side=2)
    assert found[0, 0].tolist() == [[0.5] * 4, [0.5, 0.5, 0.75, 0.75], [0.5, 0.5, 0.75, 0.75]]
    again = LinfProposal().change(found, ball, torch.tensor([[1, 2, 1]]), side=2)
    assert again[0, 0].tolist() == [[0.5] * 4, [0.5, 0.5, 0.25, 0.25], [0.5, 0.5, 0.25, 0.25]]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 7), (2, 2, 9), (1, 3, 3)])
def test_moving_perturbation_keeps_its_length_and_empties_the_square_that_gives(shape):
    proposal, threat = L2Proposal(), Threat(norm="L2", epsilon=0.3)
    ball = Ball.around(torch.full((4, *shape), 0.5), threat)
    noise = Noise(0, torch.arange(4), "s")
    points = proposal.start(ball, noise)
    side = proposal.fit(2)
    sizes = torch.tensor(proposal.choices(ball.centres, side))
    for query in range(1, 20):
        draw = noise.integers(query, sizes)
        points = proposal.change(points, ball, draw, side)
        lengths = threat.length(points.double() - ball.centres.double())
        assert (lengths <= 0.3).all()
        assert (lengths > 0.2999).all()
        for image in range(4):
            rows, columns = (range(first, first + side) for first in draw[image, 2:4].tolist())
            gains = [range(first, first + side) for first in draw[image, :2].tolist()]
            for row in set(rows) & set(range(shape[1])):
                for column in set(columns) & set(range(shape[2])):
                    if row not in gains[0] or column not in gains[1]:
                        assert (points[image, :, row, column] == 0.5).all()


def test_an_l2_search_starts_from_a_grid_of_bumps_of_both_signs():
    ball = Ball.around(torch.full((1, 1, 10, 10), 0.5), Threat(norm="L2", epsilon=1.0))
    moves = (L2Proposal().start(ball, Noise(0, torch.arange(1), "s")) - 0.5)[0, 0]
    assert moves.norm().item() == pytest.approx(1, abs=1e-4)
    tiles = moves.unfold(0, 2, 2).unfold(1, 2, 2)
    assert tiles.shape == (5, 5, 2, 2)
    torch.testing.assert_close(tiles.sum((2, 3)), torch.zeros(5, 5), atol=1e-6, rtol=0)
    assert 0 < (tiles[:, :, 0, 0] > 0).sum() < 25
