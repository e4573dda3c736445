import copy
import itertools
import random

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from tscnc_deploy.errors import InputError
from tscnc_deploy.recipe import Threat
from tscnc_deploy.training import state
from tscnc_deploy.training.criteria import Frozen, GradualPruning, Sparsifier
from tscnc_deploy.training.loop import Phase, Training
from tscnc_deploy.tscnc import Masks, magnitude


def train_phase(**changes):
    settings = {"epochs": 4, "lr": 2e-3, "schedule": "one-cycle", "clean_epochs": 1, "ramp_epochs": 1}
    return Phase("train", **(settings | changes))


def growing(model, training, **changes):
    settings = {"updates": 4, "sparsity": 0.8, "floor": 0.01, "pattern": "unstructured", "regrow": True}
    return GradualPruning(
        model, lambda weights, _: {n: w.abs() for n, w in weights.items()}, steps=training.steps, **(settings | changes)
    )


def run(model, digits, recipe, phase, path, on_step=lambda *_: None, sparsifier=None):
    training = Training(model, digits, recipe, phase, torch.device("cpu"), path)
    training.run((sparsifier or (lambda _m, _t: Sparsifier()))(model, training), on_step)
    return training


class KilledError(Exception):
    pass


def kill_at(step):
    def on_step(done, _total, _figures):
        if done == step:
            raise KilledError

    return on_step


def in_l2(recipe):
    return recipe.model_copy(update={"threat": Threat(norm="L2", epsilon=0.5)})


@pytest.mark.parametrize("step", [2, 7, 13, 19])
@pytest.mark.parametrize("name", ["train", "prune", "train in L2"])
def test_an_interrupted_training_continues_to_the_same_bytes(
    digits, recipe, small_net, tmp_path, monkeypatch, step, name
):
    name, _, norm = name.partition(" in ")
    recipe = in_l2(recipe) if norm else recipe
    monkeypatch.setattr(state, "CHECKPOINT_SECONDS", -1.0)
    phase = train_phase() if name == "train" else Phase("prune", 4, 1e-3, "constant", average=False, early_stop=False)
    sparsifier = None if name == "train" else growing
    whole, parts = copy.deepcopy(small_net), copy.deepcopy(small_net)
    run(whole, digits, recipe, phase, tmp_path / "whole.pt", sparsifier=sparsifier)
    with pytest.raises(KilledError):
        run(parts, digits, recipe, phase, tmp_path / "parts.pt", kill_at(step), sparsifier)
    # A new process starts from other weights than those it was killed with; the checkpoint has to bring all of them.
    fresh = copy.deepcopy(small_net)
    run(fresh, digits, recipe, phase, tmp_path / "parts.pt", sparsifier=sparsifier)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


class Drawing(nn.Module):
    """Draws from the random states of PyTorch and Python, has weights of five dimensions and under a norm."""

    def __init__(self):
        super().__init__()
        self.volume = nn.Conv3d(1, 4, (1, 3, 3), padding=(0, 1, 1))
        self.drop, self.head = nn.Dropout(0.3), spectral_norm(nn.Linear(256, 10))

    def forward(self, images):
        x = self.volume(images[:, None])[:, :, 0].relu()
        if self.training and random.random() < 0.5:
            x = x * 2
        return self.head(self.drop(x).flatten(1))


@pytest.mark.parametrize("sparsifier", [None, growing])
def test_layers_that_draw_continue_to_the_same_bytes(digits, recipe, tmp_path, monkeypatch, sparsifier):
    monkeypatch.setattr(state, "CHECKPOINT_SECONDS", -1.0)
    torch.manual_seed(0)
    whole = Drawing()
    parts, fresh = copy.deepcopy(whole), copy.deepcopy(whole)
    phase = train_phase() if sparsifier is None else Phase("prune", 4, 1e-3, "constant", average=False)
    random.seed(1)
    run(whole, digits, recipe, phase, tmp_path / "whole.pt", sparsifier=sparsifier)
    random.seed(2)
    with pytest.raises(KilledError):
        run(parts, digits, recipe, phase, tmp_path / "parts.pt", kill_at(7), sparsifier)
    random.seed(3)
    run(fresh, digits, recipe, phase, tmp_path / "parts.pt", sparsifier=sparsifier)
    assert random.random() == random.Random(3).random()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[key]), key


def test_training_learns_and_records_every_epoch(digits, recipe, small_net, tmp_path):
    history = run(small_net, digits, recipe, train_phase(epochs=8), tmp_path / "c.pt").history
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert history[-1]["clean"] > 0.6
    assert set(history[0]["kappa"]) == {"0.weight", "3.weight", "7.weight"}
    assert not small_net.training


def test_an_l2_threat_trains_in_l2(digits, recipe, small_net, tmp_path):
    phase = train_phase(epochs=1, clean_epochs=0, ramp_epochs=0)
    training = run(small_net, digits, in_l2(recipe), phase, tmp_path / "c.pt")
    assert (training.adversary.norm, training.adversary.epsilon) == ("L2", 0.5)
    assert 0 < training.history[0]["loss"] < 10
    assert training.history[0]["robust"] is not None


def test_an_l2_radius_that_holds_every_image_is_refused_before_training(digits, recipe, small_net, tmp_path):
    recipe = recipe.model_copy(update={"threat": Threat(norm="L2", epsilon=8.0)})
    with pytest.raises(InputError, match=r"threat.epsilon = 8 is not below 8, the largest L2 distance of such images"):
        Training(small_net, digits, recipe, train_phase(), torch.device("cpu"), tmp_path / "c.pt")


def test_growing_masks_reach_the_sparsity_to_the_weight(digits, recipe, small_net, tmp_path):
    phase = Phase("prune", 3, 1e-3, "constant", average=False, early_stop=False)
    history = run(small_net, digits, recipe, phase, tmp_path / "c.pt", sparsifier=growing).history
    masks = Masks.of(small_net)
    assert masks.total - masks.nonzero == round(0.8 * masks.total)
    sparsities = [row["sparsity"] for row in history]
    assert sparsities == sorted(sparsities)


def test_two_of_four_grows_over_many_updates(digits, recipe, small_net, tmp_path):
    phase = Phase("prune", 3, 1e-3, "constant", average=False, early_stop=False)

    def two_of_four(model, training):
        return growing(model, training, pattern="2:4", updates=10)

    run(small_net, digits, recipe, phase, tmp_path / "c.pt", sparsifier=two_of_four)
    masks = Masks.of(small_net)
    assert masks.total - masks.nonzero == round(0.8 * masks.total)
    assert int(masks["3.weight"].movedim(1, -1).unflatten(-1, (-1, 4)).sum(-1).max()) <= 2


def test_whole_filters_go_over_many_updates(digits, recipe, small_net, tmp_path):
    phase = Phase("prune", 3, 1e-3, "constant", average=False, early_stop=False)

    def filters(model, training):
        return growing(model, training, pattern="filters", updates=10, regrow=False)

    history = run(small_net, digits, recipe, phase, tmp_path / "c.pt", sparsifier=filters).history
    masks = Masks.of(small_net)
    missed = masks.total - masks.nonzero - round(0.8 * masks.total)
    # The largest filters have 72 weights.
    assert 0 <= missed < 72
    for name in ("0.weight", "3.weight"):
        rows = masks[name].flatten(1)
        assert torch.equal(rows.all(dim=1), rows.any(dim=1))
        assert rows.any()
    assert all(kappa is not None for kappa in history[-1]["kappa"].values())


def test_a_floor_that_cannot_be_kept_is_refused_before_training(digits, recipe, small_net, tmp_path):
    phase = Phase("prune", 3, 1e-3, "constant", average=False, early_stop=False)
    training = Training(small_net, digits, recipe, phase, torch.device("cpu"), tmp_path / "c.pt")
    with pytest.raises(InputError, match="lower the floor or the sparsity"):
        growing(small_net, training, sparsity=0.9, floor=0.2)


@pytest.mark.parametrize("pattern", ["unstructured", "filters"])
def test_without_regrowth_a_removed_weight_stays_removed(digits, recipe, small_net, tmp_path, pattern):
    seen = []

    def watch(model, training):
        masks = growing(model, training, regrow=False, pattern=pattern)
        update = masks.before_step

        def before_step(step):
            update(step)
            seen.append(masks.masks)

        masks.before_step = before_step
        return masks

    phase = Phase("prune", 3, 1e-3, "constant", average=False, early_stop=False)
    run(small_net, digits, recipe, phase, tmp_path / "c.pt", sparsifier=watch)
    for earlier, later in itertools.pairwise(seen):
        for name in earlier.state_dict():
            assert not (later[name] & ~earlier[name]).any()


def test_frozen_masks_hold_through_momentum_and_average(digits, recipe, small_net, tmp_path):
    masks = Masks({name: score > score.median() for name, score in magnitude(small_net).items()})
    phase = Phase("finetune", 2, 1e-3, "cosine")
    run(small_net, digits, recipe, phase, tmp_path / "c.pt", sparsifier=lambda model, _: Frozen(model, masks))
    assert Masks.of(small_net).nonzero == masks.nonzero


def test_a_diverged_loss_is_named(digits, recipe, small_net, tmp_path):
    with torch.no_grad():
        small_net[-1].weight.fill_(float("inf"))
    with pytest.raises(InputError, match=r"train: the training diverged in epoch 1; lower the learning rate"):
        run(small_net, digits, recipe, train_phase(), tmp_path / "c.pt")


def test_a_damaged_checkpoint_means_starting_again(digits, recipe, small_net, tmp_path):
    (tmp_path / "c.pt").write_bytes(b"PK\x03\x04 truncated")
    training = run(small_net, digits, recipe, train_phase(epochs=2, ramp_epochs=0), tmp_path / "c.pt")
    assert len(training.history) == 2


def test_epsilon_and_beta_ramp_up(digits, recipe, small_net, tmp_path):
    training = Training(small_net, digits, recipe, train_phase(), torch.device("cpu"), tmp_path / "c.pt")
    batches = training.batches
    assert training._ramp(0) == 0
    assert training._ramp(batches - 1) == 0
    assert training._ramp(batches) == pytest.approx(1 / batches)
    assert training._ramp(3 * batches) == 1
