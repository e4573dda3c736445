from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from tscnc_deploy.robustness.projections import fill_level, onto_hyperplane, onto_l2_ball


def row(*values):
    return torch.tensor([values])


def image(*values):
    return torch.tensor(values).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("goal", "level"),
    [(-1.0, 0.0), (0.0, 0.0), (1.5, 0.5), (3.0, 1.0), (5.0, 2.0), (7.0, 4.0), (7.5, math.inf)],
)
def test_the_level_fills_caps_at_their_rates(goal, level):
    # At the level t: min(t, 4) + min(2 t, 2) + nothing + min(0 t, 1) + min(t, 1) where the third has no room.
    rates, caps = row(1.0, 2.0, 3.0, 0.0), row(4.0, 2.0, 0.0, 1.0)
    rates, caps = torch.cat([rates, row(0.5)], 1), torch.cat([caps, row(1.0)], 1)
    total = {1.5: 1.75, 3.0: 3.5, 5.0: 5.0, 7.0: 7.0}.get(goal, goal)
    assert fill_level(rates, caps, torch.tensor([total])).tolist() == [level]


def test_a_level_without_any_rate_is_out_of_reach():
    zeros = torch.zeros(2, 3)
    assert fill_level(zeros, zeros + 1, torch.tensor([0.0, 1.0])).tolist() == [0.0, math.inf]


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_the_level_reaches_the_goal_exactly(seed):
    generator = torch.Generator().manual_seed(seed)
    rates, caps = torch.rand(4, 9, generator=generator) ** 3, torch.rand(4, 9, generator=generator) ** 3
    goals = torch.rand(4, generator=generator) * caps.sum(1) * 0.99
    level = fill_level(rates, caps, goals)
    filled = torch.minimum(level[:, None] * rates, caps.double()).sum(1)
    torch.testing.assert_close(filled, goals.double(), rtol=1e-5, atol=1e-7)


def test_a_free_move_onto_a_hyperplane_is_along_the_signs_or_along_the_normal():
    points, normal, value = image(0.5, 0.5), image(3.0, -1.0), torch.tensor([-0.8])
    torch.testing.assert_close(onto_hyperplane(points, normal, value, "Linf"), image(0.2, -0.2))
    torch.testing.assert_close(onto_hyperplane(points, normal, value, "L2"), image(0.24, -0.08))
    torch.testing.assert_close(onto_hyperplane(points, normal, -value, "L2"), image(-0.24, 0.08))


def test_a_pixel_at_its_wall_leaves_its_part_to_the_others():
    points, normal, value = image(0.9, 0.5), image(3.0, 1.0), torch.tensor([-0.6])
    torch.testing.assert_close(onto_hyperplane(points, normal, value, "Linf"), image(0.1, 0.3))
    torch.testing.assert_close(onto_hyperplane(points, normal, value, "L2"), image(0.1, 0.3))


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_hyperplane_out_of_reach_leads_to_the_corner_and_no_normal_nowhere(norm):
    points, far = image(0.9, 0.5), torch.tensor([-100.0])
    torch.testing.assert_close(onto_hyperplane(points, image(3.0, -1.0), far, norm), image(0.1, -0.5))
    assert onto_hyperplane(points, image(0.0, 0.0), far, norm).tolist() == image(0.0, 0.0).tolist()
    assert onto_hyperplane(points, image(3.0, -1.0), torch.tensor([0.0]), norm).abs().max() == 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_scale_of_the_function_does_not_matter(norm, scale):
    moved = onto_hyperplane(image(0.5, 0.5), scale * image(3.0, -1.0), scale * torch.tensor([-0.8]), norm)
    torch.testing.assert_close(moved, image(0.2, -0.2) if norm == "Linf" else image(0.24, -0.08))


@pytest.mark.parametrize("seed", range(5))
def test_moves_onto_hyperplanes_are_as_short_as_solvers_find_them(seed):
    generator = torch.Generator().manual_seed(seed)
    point = torch.rand(1, 1, 2, 3, generator=generator)
    normal = torch.randn(1, 1, 2, 3, generator=generator)
    bounds = torch.stack([-point.flatten(), 1 - point.flatten()], 1).double().tolist()
    reach = torch.where(normal > 0, 1 - point, -point).mul(normal).sum()
    value = -0.7 * reach.reshape(1)
    weights, goal = normal.flatten().double().tolist(), -value.item()

    # The largest absolute move r is a further variable: -r <= move_i <= r.
    rows = [[(1.0 if i == j else 0.0) * sign for i in range(6)] + [-1.0] for j in range(6) for sign in (1, -1)]
    solved = linprog([0] * 6 + [1], rows, [0] * 12, [[*weights, 0]], [goal], [*bounds, (0, None)])
    moved = onto_hyperplane(point, normal, value, "Linf").flatten()
    assert moved.abs().max().item() == pytest.approx(solved.fun, rel=1e-5)
    assert moved.double().dot(torch.tensor(weights, dtype=torch.double)).item() == pytest.approx(goal, rel=1e-5)

    def excess(move):
        return sum(weight * step for weight, step in zip(weights, move, strict=True)) - goal

    constraint = {"type": "eq", "fun": excess}
    solved = minimize(lambda move: (move**2).sum(), [0.1] * 6, bounds=bounds, constraints=[constraint], tol=1e-12)
    moved = onto_hyperplane(point, normal, value, "L2").flatten()
    assert moved.square().sum().item() == pytest.approx(solved.fun, rel=1e-4)


def test_the_nearest_point_of_a_ball_is_shrunk_then_cut_off():
    # Cutting off first and shrinking then would give a nearer wall only a part of what it may have.
    found = onto_l2_ball(image(1.5, 1.3), image(0.9, 0.5), 0.5)
    torch.testing.assert_close(found, image(1.0, 0.5 + math.sqrt(0.24)))
    found = onto_l2_ball(image(0.5, 1.3), image(0.5, 0.5), 0.25)
    torch.testing.assert_close(found, image(0.5, 0.75))


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_point_of_a_ball_is_the_one_that_a_solver_finds(seed):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(1, 1, 2, 3, generator=generator)
    point = centre + 2 * torch.randn(1, 1, 2, 3, generator=generator)
    start, far = centre.flatten().double().numpy(), point.flatten().double().numpy()
    constraint = {"type": "ineq", "fun": lambda found: 0.4**2 - ((found - start) ** 2).sum()}
    solved = minimize(lambda found: ((found - far) ** 2).sum(), start, bounds=[(0, 1)] * 6, constraints=[constraint])
    found = onto_l2_ball(point, centre, 0.4)
    torch.testing.assert_close(found.flatten(), torch.from_numpy(solved.x).float(), atol=1e-4, rtol=0)
