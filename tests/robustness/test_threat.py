from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import Threat


@pytest.mark.parametrize("epsilon", [0, -0.1, 1.5, float("nan"), float("inf")])
def test_epsilon_outside_0_to_1_is_refused(epsilon):
    with pytest.raises(InputError, match=r"not a radius in \(0, 1\]"):
        Threat(epsilon=epsilon)


def test_epsilon_in_steps_of_255_says_what_to_write():
    with pytest.raises(
        InputError,
        match=r"epsilon = 8 is not a radius in \(0, 1\], the range of the pixels; write 0\.0313725 for 8/255",
    ):
        Threat(norm="Linf", epsilon=8)


def test_unknown_norm_is_refused():
    with pytest.raises(InputError, match="'L7'"):
        Threat(norm="L7", epsilon=0.1)


def test_projection_clips_to_the_ball_and_to_0_and_1():
    images = torch.tensor([0.0, 0.5, 1.0, 0.5]).reshape(1, 1, 2, 2)
    far = torch.tensor([-1.0, 0.9, 2.0, 0.5]).reshape(1, 1, 2, 2)
    assert Threat(epsilon=0.25).project(far, images).flatten().tolist() == [0.0, 0.75, 1.0, 0.5]


@given(
    pixel=st.floats(0, 1, width=32),
    epsilon=st.one_of(st.sampled_from([8 / 255, 0.1, 0.3, 1e-6]), st.floats(1e-6, 1)),
)
def test_bounds_are_inside_the_ball_without_rounding_error_and_next_to_its_ends(pixel, epsilon):
    image = torch.tensor(pixel, dtype=torch.float32).reshape(1, 1, 1, 1)
    low, high = Threat(epsilon=epsilon).bounds(image)
    assert 0 <= low.item() <= pixel <= high.item() <= 1
    assert pixel - low.item() <= epsilon
    assert high.item() - pixel <= epsilon
    above, below = torch.nextafter(high, torch.ones(1)).double(), torch.nextafter(low, torch.zeros(1)).double()
    assert high == 1 or above.item() - pixel > epsilon * (1 - 1e-15)
    assert low == 0 or pixel - below.item() > epsilon * (1 - 1e-15)


def test_an_l2_radius_may_be_above_1_and_must_be_above_0():
    assert Threat(norm="L2", epsilon=3.0).epsilon == 3.0
    for epsilon in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="not a radius above 0"):
            Threat(norm="L2", epsilon=epsilon)


def test_lengths_are_per_image():
    moves = torch.tensor([[3.0, -4.0], [0.0, 0.5]]).reshape(2, 1, 1, 2)
    assert Threat(norm="L2", epsilon=1).length(moves).tolist() == [5.0, 0.5]
    assert Threat(epsilon=1).length(moves).tolist() == [4.0, 0.5]


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), epsilon=st.sampled_from([1e-3, 0.1, 0.5, 2.0, 50.0]), spread=st.floats(1e-3, 10))
def test_an_l2_projection_is_in_the_ball_and_stays_what_it_is(seed, epsilon, spread):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 2, 5, 5, generator=generator)
    far = images + spread * torch.randn(images.shape, generator=generator)
    threat = Threat(norm="L2", epsilon=epsilon)
    found = threat.project(far, images)
    lengths = threat.length(found.double() - images.double())
    assert (lengths <= epsilon).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(threat.project(found, images), found)
    # What was outside comes to the surface, where the box does not stop it before.
    clipped = threat.length(far.clamp(0, 1).double() - images.double())
    assert (lengths[clipped > epsilon] >= epsilon * (1 - 2e-6) - 5e-7).all()
    assert torch.equal(found[clipped <= epsilon], far.clamp(0, 1)[clipped <= epsilon])
