import pytest
import torch
from torch import nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.training.balls import L2Ball, check_radius
from tscnc_deploy.training.inner import inner_attack
from tscnc_deploy.training.trades import Adversary

# Length 3, so that a step of length 1 is (1, 2, -2, 0) / 3.
WEIGHT = torch.tensor([1.0, 2.0, -2.0, 0.0])


def linear(weight=WEIGHT):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(weight[None])
    return model


def climb(images, *, weight=WEIGHT, **settings):
    settings = {"norm": "L2", "epsilon": 0.3, "steps": 10, "step_size": 0.15} | settings
    generator = torch.Generator().manual_seed(0)
    return inner_attack(linear(weight), images, lambda logits: logits.sum(), generator=generator, **settings)


def test_l2_ascent_on_a_linear_model_ends_where_its_weight_leaves_the_ball():
    perturbed = climb(torch.full((5, 1, 2, 2), 0.5), steps=40)
    exact = torch.tensor([0.6, 0.7, 0.3, 0.5]).expand(5, 4)
    torch.testing.assert_close(perturbed.flatten(1), exact, atol=1e-4, rtol=0)


def test_one_step_has_its_length_in_every_image_whatever_the_size_of_the_gradient():
    images = torch.full((3, 1, 2, 2), 0.5)
    scales = torch.tensor([1e-30, 1.0, 1e30])[:, None, None, None]
    moves = L2Ball(images, 1.0).steepest(scales * WEIGHT.view(1, 1, 2, 2))
    torch.testing.assert_close(moves.flatten(1), (WEIGHT / 3).expand(3, 4))


def test_without_a_gradient_an_image_stays_where_it_is():
    assert not L2Ball(torch.rand(2, 1, 2, 2), 1.0).steepest(torch.zeros(2, 1, 2, 2)).any()


def test_random_points_are_uniform_in_the_l2_ball():
    images = torch.full((20_000, 1, 2, 2), 0.5)
    moves = (L2Ball(images, 0.4).random_points(torch.Generator().manual_seed(0)) - images).flatten(1)
    lengths = moves.norm(dim=1)
    assert lengths.max() <= 0.4 + 1e-6
    # In 4 dimensions the ball of half the radius holds a 16th of the volume; 5 standard deviations are 0.009.
    assert (lengths <= 0.2).float().mean().item() == pytest.approx(1 / 16, abs=0.009)
    # The mean square of a coordinate is epsilon^2 / (d + 2), the same along every axis.
    assert moves.square().mean(0).tolist() == pytest.approx([0.16 / 6] * 4, rel=0.05)
    assert moves.mean(0).abs().max() < 0.005


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_points_stay_in_ball_and_range(norm):
    images = torch.rand(16, 1, 2, 2, generator=torch.Generator().manual_seed(1)).round()
    perturbed = climb(images, norm=norm, epsilon=0.7, step_size=0.5)
    moves = (perturbed - images).flatten(1)
    lengths = moves.norm(dim=1) if norm == "L2" else moves.abs().amax(1)
    assert lengths.max() <= 0.7 + 1e-6
    assert 0 <= perturbed.min() <= perturbed.max() <= 1


def test_the_adversary_of_a_recipe_step_is_in_its_norm():
    images = torch.full((2, 1, 2, 2), 0.5)
    adversary = Adversary(0.3, 6.0, 10, 0.5, "L2").ramped(0.5)
    assert (adversary.epsilon, adversary.beta, adversary.norm) == (0.15, 3.0, "L2")
    moves = adversary.perturb(linear(), images, lambda z: z.sum(), torch.Generator().manual_seed(0)) - images
    torch.testing.assert_close(moves.flatten(1).norm(dim=1), torch.full((2,), 0.15))


def test_memory_format_changes_nothing_but_the_start():
    images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    plain, other = (L2Ball(part, 0.3) for part in (images, images.to(memory_format=torch.channels_last)))
    points = images + 0.2
    torch.testing.assert_close(plain.project(points), other.project(points))


def test_an_l2_radius_that_holds_every_image_is_refused():
    check_radius("L2", 7.9, (1, 8, 8))
    check_radius("Linf", 1.0, (1, 1, 1))
    with pytest.raises(InputError, match=r"threat.epsilon = 8 is not below 8, .*; write 0.0313725 for 8/255"):
        check_radius("L2", 8.0, (1, 8, 8))
    with pytest.raises(InputError, match=r"threat.epsilon = 300 is not below 13.86, the largest L2 distance of such"):
        check_radius("L2", 300.0, (3, 8, 8))
