import copy

import pytest
import torch
from torch import nn

from tscnc_deploy.recipe import Constrain
from tscnc_deploy.training import state
from tscnc_deploy.training.constraining import ConstraintTerm
from tscnc_deploy.training.criteria import Sparsifier
from tscnc_deploy.training.loop import Phase, Training
from tscnc_deploy.tscnc import Constraint, log_frobenius


def linear():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    return model


def term(**settings):
    return ConstraintTerm(
        Constraint("log-frobenius", tau=1e-4), **({"weight": 1e-3, "share": None, "interval": 1} | settings)
    )


def with_gradient(model, *gradient):
    model.weight.grad = torch.tensor(gradient).reshape(2, 2)
    return model


def test_a_fixed_lambda_adds_lambda_times_the_gradient():
    model = with_gradient(linear(), 1.0, 1, 1, 1)
    term(weight=0.5).add_gradients(model, 0)
    # The gradient of log(tau + |W|^2) is 2 W / (tau + 25).
    assert torch.allclose(model.weight.grad, 1 + 0.5 * 2 * model.weight.detach() / 25.0001)


def test_a_share_makes_the_constraints_gradient_that_long():
    model = with_gradient(linear(), 0.0, 6, 8, 0)
    adapting = term(share=0.1)
    assert adapting.weight is None
    adapting.add_gradients(model, 0)
    # The loss's gradient has length 10, the constraint's the direction of W and length 10 / 25.0001.
    assert torch.allclose(model.weight.grad, torch.tensor([[0.6, 6.0], [8.0, 0.8]]))
    assert adapting.weight == pytest.approx(0.1 * 10 / (10 / 25.0001))


def test_between_the_steps_of_an_interval_nothing_is_added_and_then_as_many_times_as_much():
    model = with_gradient(linear(), 0.0, 6, 8, 0)
    adapting = term(share=0.1, interval=3)
    adapting.add_gradients(model, 1)
    assert model.weight.grad.tolist() == [[0, 6], [8, 0]]
    adapting.add_gradients(model, 3)
    assert torch.allclose(model.weight.grad, torch.tensor([[1.8, 6.0], [8.0, 2.4]]))


def test_one_loud_batch_moves_lambda_by_a_tenth_of_its_norm():
    adapting = term(share=1.0)
    adapting.add_gradients(with_gradient(linear(), 1.0, 0, 0, 0), 0)
    quiet = adapting.weight
    adapting.add_gradients(with_gradient(linear(), 101.0, 0, 0, 0), 1)
    assert adapting.weight == pytest.approx(11 * quiet)


def test_a_constraint_without_a_gradient_moves_nothing():
    model = with_gradient(linear(), 1.0, 2, 3, 4)
    with torch.no_grad():
        model.weight.zero_()
    term(share=0.1).add_gradients(model, 0)
    assert model.weight.grad.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "settings",
    [{"constraint": "none"}, {"weight": 0.0}, {"stages": ("prune", "finetune")}],
    ids=lambda s: next(iter(s)),
)
def test_where_there_is_nothing_to_add_there_is_no_term(recipe, settings):
    recipe = recipe.model_copy(update={"constrain": Constrain(**settings)})
    assert ConstraintTerm.of(recipe, "train") is None


class KilledError(Exception):
    pass


def test_an_interrupted_training_goes_on_with_the_same_lambda(digits, recipe, small_net, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "CHECKPOINT_SECONDS", -1.0)
    constrain = Constrain(gradient_share=0.2, interval=2, stages=("train",))
    recipe = recipe.model_copy(update={"constrain": constrain})

    def run(model, path, on_step=lambda *_: None):
        phase = Phase("train", 2, 2e-3, "constant")
        training = Training(model, digits, recipe, phase, torch.device("cpu"), tmp_path / path)
        return training.run(Sparsifier(), on_step)

    def kill(done, _total, _figures):
        if done == 7:
            raise KilledError

    whole, parts, fresh = (copy.deepcopy(small_net) for _ in range(3))
    history = run(whole, "whole.pt")
    with pytest.raises(KilledError):
        run(parts, "parts.pt", kill)
    again = run(fresh, "parts.pt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key
    lambdas = [row["lambda"] for row in history]
    assert lambdas == [row["lambda"] for row in again]
    assert all(value > 0 for value in lambdas)
    assert lambdas[0] != lambdas[1]


def test_the_gradient_of_the_share_is_that_of_the_constraint():
    model = with_gradient(linear(), 0.0, 0, 0, 7)
    before = model.weight.grad.clone()
    term(share=0.5).add_gradients(model, 0)
    (direction,) = torch.autograd.grad(log_frobenius(model.weight), model.weight)
    added = model.weight.grad - before
    assert torch.allclose(added / added.norm(), direction / direction.norm())
