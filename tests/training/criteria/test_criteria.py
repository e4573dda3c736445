import copy
import math
from typing import get_args

import pytest
import torch
from torch import nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import Criterion
from tscnc_deploy.training import state
from tscnc_deploy.training.criteria import CRITERIA, pruning
from tscnc_deploy.training.criteria.flying_bird import FlyingBird
from tscnc_deploy.training.criteria.harp import Harp
from tscnc_deploy.training.criteria.hydra import Hydra
from tscnc_deploy.training.criteria.straight_through import initial_scores, keep_largest
from tscnc_deploy.training.loop import Phase, Training
from tscnc_deploy.tscnc import Masks, prunable_weights

RIVALS = ["hydra", "harp", "flying-bird"]


def by(recipe, criterion, **prune):
    return recipe.model_copy(update={"prune": recipe.prune.model_copy(update={"criterion": criterion, **prune})})


def linear(*weights):
    model = nn.Linear(len(weights), 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([weights]))
    return model


def one_step(model, masked, step, inputs, lr=0.0):
    masked.before_step(step)
    with masked.masked():
        model.zero_grad(set_to_none=True)
        model(inputs).sum().backward()
    masked.after_backward()
    torch.optim.SGD(model.parameters(), lr=lr).step()
    masked.after_step()


def run(model, digits, recipe, path, on_step=lambda *_: None, watch=lambda _: None):
    phase = Phase("prune", recipe.prune.epochs, recipe.prune.lr, "constant", average=False, early_stop=False)
    training = Training(model, digits, recipe, phase, torch.device("cpu"), path)
    masked = pruning(training)

    def step(*arguments):
        watch(masked)
        on_step(*arguments)

    training.run(masked, step)
    return training, masked


def test_every_criterion_of_a_recipe_is_there():
    assert set(CRITERIA) == set(get_args(Criterion))


@pytest.mark.parametrize("criterion", get_args(Criterion))
def test_every_criterion_ends_at_the_exact_sparsity_in_a_plain_network(digits, recipe, small_net, tmp_path, criterion):
    keys = set(small_net.state_dict())
    _, masked = run(small_net, digits, by(recipe, criterion), tmp_path / "c.pt")
    there = Masks.of(small_net)
    assert there.total - there.nonzero == round(0.8 * there.total)
    assert set(small_net.state_dict()) == keys
    for name, mask in masked.masks.state_dict().items():
        assert torch.equal(there[name], mask), name


class KilledError(Exception):
    pass


@pytest.mark.parametrize("step", [1, 7, 14, 15])
@pytest.mark.parametrize("criterion", RIVALS)
def test_an_interrupted_rival_continues_to_the_same_bytes(
    digits, recipe, small_net, tmp_path, monkeypatch, step, criterion
):
    monkeypatch.setattr(state, "CHECKPOINT_SECONDS", -1.0)
    recipe = by(recipe, criterion)

    def kill(done, _total, _figures):
        if done == step:
            raise KilledError

    whole, parts, fresh = (copy.deepcopy(small_net) for _ in range(3))
    training, expected = run(whole, digits, recipe, tmp_path / "whole.pt")
    assert training.steps == 15
    with pytest.raises(KilledError):
        run(parts, digits, recipe, tmp_path / "parts.pt", kill)
    _, masked = run(fresh, digits, recipe, tmp_path / "parts.pt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key
    for name, mask in expected.masks.state_dict().items():
        assert torch.equal(mask, masked.masks[name]), name


def test_scores_begin_in_proportion_to_the_weights():
    # The bound of He et al.'s uniform initialisation for three inputs is the square root of 2.
    scores = initial_scores(torch.tensor([[2.0, 1.0, -0.5]]))
    assert torch.allclose(scores, math.sqrt(2) * torch.tensor([[1.0, 0.5, -0.25]]))


def test_exactly_as_many_are_kept_as_asked_for_whatever_the_ties():
    assert int(keep_largest(torch.ones(2, 3, 2, 2), 5).sum()) == 5
    assert keep_largest(torch.tensor([[3.0, 1.0], [2.0, 4.0]]), 2).tolist() == [[True, False], [False, True]]


def test_a_score_moves_by_its_weight_times_the_gradient_of_the_masked_weight():
    model = linear(2.0, 1.0, -0.5)
    hydra = Hydra(model, steps=2, sparsity=2 / 3, lr=0.1)
    assert hydra.masks["weight"].tolist() == [[True, False, False]]
    inputs = torch.tensor([[1.0, -3.0, 4.0]])
    one_step(model, hydra, 0, inputs)
    begun = math.sqrt(2) * torch.tensor([[1.0, 0.5, -0.25]])
    # dL/dW~ is the input; scores count by their size, so a negative one moves the other way.
    moved = begun - 0.1 * torch.tensor([[2.0 * 1, 1 * -3.0, -(-0.5 * 4)]])
    assert torch.allclose(hydra.state_dict()["learned"][0], moved)
    assert hydra.masks["weight"].tolist() == [[abs(moved[0, 0]) > abs(moved[0, 1]), False, False]]


def test_masks_follow_the_scores_and_weights_never_move():
    model = linear(2.0, 1.0, -0.5)
    hydra = Hydra(model, steps=1, sparsity=2 / 3, lr=1.0)
    one_step(model, hydra, 0, torch.tensor([[1.0, -1.0, 0.0]]), lr=10.0)
    assert model.weight.tolist() == [[0.0, 1.0, 0.0]]
    assert model.weight.grad is None


def test_hydra_gives_every_layer_the_same_share_at_every_step(digits, recipe, small_net, tmp_path):
    dense = {name: weight.detach().clone() for name, weight in prunable_weights(small_net).items()}
    counts = []
    _, masked = run(
        small_net, digits, by(recipe, "hydra"), tmp_path / "c.pt",
        watch=lambda m: counts.append([int(mask.sum()) for mask in m.masks.state_dict().values()]),
    )  # fmt: skip
    # A fifth of 72, 1152 and 2560 weights is 14.4, 230.4 and 512, of 3784 it is 756.8.
    assert counts == [[14, 231, 512]] * 15
    for name, weight in prunable_weights(small_net).items():
        assert torch.equal(weight, dense[name] * masked.masks[name]), name
    assert any(not torch.equal(masked.masks[name], keep_largest(w.abs(), int(masked.masks[name].sum())))
               for name, w in dense.items())  # fmt: skip


def two_layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 5, bias=False))


def test_harps_penalty_presses_every_rate_by_the_size_of_its_layer():
    model = two_layers()
    harp = Harp(model, steps=800, sparsity=0.9, floor=0.05, lr=1.0)
    # Twice the target, 0.2: the first share above the floor is (0.2 - 0.05) / 0.95.
    sigmoid = 0.15 / 0.95
    begun = math.log(sigmoid / (1 - sigmoid))
    one_step(model, harp, 0, torch.zeros(1, 20))
    # Gamma is 0.01 in the first twentieth; 75 of 750 weights are to be kept.
    slopes = [0.01 * size / 75 * 0.95 * sigmoid * (1 - sigmoid) for size in (600, 150)]
    rates = harp.state_dict()["learned"][-1]
    assert rates.tolist() == pytest.approx([begun - slope for slope in slopes], rel=1e-5)


def test_harps_rate_feels_the_sum_over_its_layer():
    model = linear(2.0, 1.0, -0.5, 1.0, 1.0, 1.0, 1.0, 1.0)
    harp = Harp(model, steps=800, sparsity=0.5, floor=0.0, lr=0.1)
    before = harp.state_dict()["learned"][-1].item()
    one_step(model, harp, 0, torch.tensor([[1.0, 2.0, 3.0, 0, 0, 0, 0, -1.0]]))
    # The share begins at 1 (0.99 within the sigmoid). The sum of w * x is 1.5, the slope of the penalty 0.01 * 8 / 4.
    slope = (1.5 + 0.02) * 0.99 * 0.01
    assert harp.state_dict()["learned"][-1].item() == pytest.approx(before - 0.1 * slope, rel=1e-5)


@pytest.mark.parametrize("steps", [60, 400])
def test_harp_meets_the_target_by_itself_and_then_stops_raising_the_penalty(steps):
    model = two_layers()
    harp = Harp(model, steps=steps, sparsity=0.9, floor=0.01, lr=0.1)
    sparsities = []
    for step in range(steps):
        one_step(model, harp, step, torch.zeros(1, 20))
        sparsities.append(harp.sparsity)
    assert sparsities[0] == pytest.approx(0.8, abs=0.01)
    # Momentum carries its own shares past the target, further where steps are few; the last fifth is exact.
    assert 0.9 < sparsities[steps * 4 // 5 - 1] < 0.96
    assert set(sparsities[steps * 4 // 5 :]) == {0.9}
    assert harp.masks.nonzero == 75
    # In stairs of 0.01 * 800 / steps, it was still rising in the first half, and not in the second.
    assert 2 <= harp.state_dict()["gamma"] * steps / 8 <= 14


def test_harps_layers_differ_and_keep_the_floor(digits, recipe, small_net, tmp_path):
    _, masked = run(small_net, digits, by(recipe, "harp", score_lr=1.0, floor=0.15), tmp_path / "c.pt")
    shares = [float(mask.float().mean()) for mask in masked.masks.state_dict().values()]
    assert max(shares) - min(shares) > 0.01
    assert min(shares) >= 0.15


def test_a_floor_that_harp_cannot_keep_is_refused(small_net):
    with pytest.raises(InputError, match="lower the floor or the sparsity"):
        Harp(small_net, steps=2, sparsity=0.9, floor=0.2, lr=0.1)


def test_flying_bird_exchanges_the_smallest_for_the_steepest():
    model = linear(4.0, 1.0, -3.0, 2.0, 0.5, 0.1, 0.2, 0.3)
    bird = FlyingBird(model, steps=2, updates=2, sparsity=0.5, floor=0.0)
    assert model.weight.tolist() == [[4.0, 1.0, -3.0, 2.0, 0, 0, 0, 0]]
    one_step(model, bird, 0, torch.ones(1, 8))
    assert bird.masks["weight"].tolist() == [[True] * 4 + [False] * 4]
    # At half of the stage a quarter of the four goes: the 1, for what the last but one input asks for.
    one_step(model, bird, 1, torch.tensor([[9.0, 0, 0, 0, 1, 2, -5, 3]]))
    assert bird.masks["weight"].tolist() == [[True, False, True, True, False, False, True, False]]
    assert model.weight.tolist() == [[4.0, 0, -3.0, 2.0, 0, 0, 0, 0]]


def test_flying_bird_keeps_the_count_of_every_layer_at_every_step(digits, recipe, small_net, tmp_path):
    seen = []
    run(small_net, digits, by(recipe, "flying-bird"), tmp_path / "c.pt", watch=lambda m: seen.append(m.masks))
    counts = [[int(mask.sum()) for mask in masks.state_dict().values()] for masks in seen]
    # Shapes [8, 1, 3, 3], [16, 8, 3, 3] and [10, 256] ask for 15 : 30 : 266 weights, 757 in all.
    assert counts == [[37, 73, 647]] * 15
    moved = [step for step in range(1, 15) if not torch.equal(seen[step]["3.weight"], seen[step - 1]["3.weight"])]
    # Four updates over 15 steps: the first makes the masks, the others move them.
    assert moved == [3, 7, 11]
