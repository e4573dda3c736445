from __future__ import annotations

import pytest
import torch

from tests.robustness.agreement import assert_same_evaluation
from tests.robustness.victims import Constant, Linear, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    APGDCE,
    EngineVictim,
    ModelVictim,
    Noise,
    Replay,
    Threat,
    TwinAPGD,
    evaluate,
    parse_attack,
)


def beside(engine, twin, shape=(1, 4, 4), classes=2):
    return EngineVictim(ModuleEngine(engine, shape, classes), twin)


def shifted(model, distances, share):
    """The model with its boundary moved by a share of the median distance towards class 1."""
    length = (model.weight[0] - model.weight[1]).detach().abs().sum()
    shift = share * distances.median() * length
    return Linear(model.weight.detach(), model.bias.detach() + torch.stack([shift, shift * 0])), length


def test_the_engines_own_distance_decides_for_two_classes():
    twin, images, labels, distances = linear(2, 40)
    engine, length = shifted(twin, distances, 0.5)
    own = (engine(images).detach().diff(dim=1).squeeze(1) * (2 * labels - 1)) / length
    threat = Threat(epsilon=distances.median().item() * 1.001)
    result = evaluate(beside(engine, twin), images, labels, threat, [TwinAPGD(10)])
    assert result.robust_mask.tolist() == (own > threat.epsilon).tolist()


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_it_breaks_nothing_that_cannot_be_broken_and_much_that_can(classes):
    model, images, labels, distances = linear(classes, 40)
    threat = Threat(epsilon=distances.median().item())
    result = evaluate(beside(model, model, classes=classes), images, labels, threat, [TwinAPGD(20)])
    assert result.robust_mask[distances > threat.epsilon].all()
    assert not result.robust_mask[distances < 0.8 * threat.epsilon].any()


def test_without_an_engine_the_model_is_its_own_twin():
    model, images, labels, distances = linear(2, 20)
    threat = Threat(epsilon=distances.median().item() * 1.001)
    result = evaluate(ModelVictim(model), images, labels, threat, [TwinAPGD(10)])
    assert result.robust_mask.tolist() == (distances > threat.epsilon).tolist()


def test_logits_of_any_scale_are_broken_by_one_of_the_losses():
    model, images, labels, distances = linear(5, 40)
    steep = Linear(model.weight.detach() * 1e4, model.bias.detach() * 1e4)
    threat = Threat(epsilon=distances.median().item())
    result = evaluate(beside(steep, steep, classes=5), images, labels, threat, [APGDCE(20), TwinAPGD(20)])
    assert result.attacks["apgd-ce-20"].correct > result.attacks["twin-apgd-20"].correct
    assert not result.robust_by_attack["twin-apgd-20"][distances < 0.8 * threat.epsilon].any()


def test_the_first_run_of_the_second_loss_begins_at_the_given_starts():
    seen = []

    class Victim(ModelVictim):
        def differentiable(self, images):
            seen.append(images.detach().clone())
            return super().differentiable(images)

    images = torch.full((2, 1, 4, 4), 0.5)
    starts = torch.stack([torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.45), torch.ones(1, 4, 4)])
    noise = Noise(0, torch.tensor([2, 1]), "twin-apgd")
    attack = TwinAPGD(1, restarts=2, starts=starts)
    attack.run(Victim(Constant([2.0, 1.0])), images, torch.tensor([0, 0]), Threat(epsilon=0.25), noise)
    # Of each run: the start, the point after its step, and that point judged by the margin.
    assert len(seen) == 12
    assert seen[3].amin((1, 2, 3)).tolist() == pytest.approx([0.75, 0.45])
    assert seen[3].amax((1, 2, 3)).tolist() == pytest.approx([0.75, 0.45])
    others = [seen[first] for first in (0, 6, 9)]
    assert [len(start.unique()) > 10 for start in others] == [True, True, True]
    assert not torch.equal(others[0], others[1])
    assert not torch.equal(others[1], others[2])


def test_runs_after_the_first_attack_only_what_stands():
    calls = []

    class Victim(ModelVictim):
        def differentiable(self, images):
            calls.append(len(images))
            return super().differentiable(images)

    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    noise = Noise(0, torch.arange(3), "twin-apgd")
    TwinAPGD(1).run(Victim(Constant([2.0, 1.0])), images, torch.tensor([0, 1, 0]), Threat(epsilon=0.1), noise)
    assert calls == [3, 3, 3, 2, 2, 2]


def test_starts_near_the_twins_boundary_pass_the_engines():
    twin, images, labels, distances = linear(2, 40)
    engine, length = shifted(twin, distances, 0.2)
    threat = Threat(epsilon=1.5 * distances.median().item())
    minimal = images + (labels[:, None, None, None] * -2 + 1) * (distances * 1.01)[:, None, None, None] * (
        (twin.weight[1] - twin.weight[0]).detach().sign()
    )
    replayed = evaluate(beside(engine, twin), images, labels, threat, [Replay(minimal)])
    searched = evaluate(beside(engine, twin), images, labels, threat, [TwinAPGD(5, starts=minimal)])
    assert replayed.settings["replay"]["examples"] == searched.settings["twin-apgd-5"]["starts"] == 40
    own = (engine(images).detach().diff(dim=1).squeeze(1) * (2 * labels - 1)) / length
    assert searched.robust_mask.tolist() == (own > threat.epsilon).tolist()
    assert searched.robust.correct < replayed.robust.correct


def test_its_settings_are_what_determines_it():
    assert TwinAPGD(20, starts=torch.zeros(3, 1, 4, 4)).settings() == {
        "steps": 20,
        "restarts": 1,
        "losses": ["cross-entropy", "dlr (margin below 4 classes)"],
        "starts": 3,
    }


def test_results_do_not_depend_on_the_batch_size():
    twin, images, labels, distances = linear(4, 23)
    other, _, _, _ = linear(4, 4, seed=9)
    engine = Linear(twin.weight.detach() + 0.2 * other.weight.detach(), twin.bias.detach())
    threat = Threat(epsilon=distances.median().item())
    attack = TwinAPGD(6, restarts=2, starts=images.clone())
    whole, parts = (
        evaluate(beside(engine, twin, classes=4), images, labels, threat, [attack], batch_size=size)
        for size in (256, 5)
    )
    assert_same_evaluation(parts, whole)


def test_its_name_says_steps_and_restarts():
    attack = parse_attack("twin-apgd-30x2")
    assert isinstance(attack, TwinAPGD)
    assert (attack.steps, attack.restarts, attack.name) == (30, 2, "twin-apgd-30x2")
    assert parse_attack("twin-apgd-30").settings() == TwinAPGD(30).settings()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "twin-apgd: steps = 0"),
        ({"steps": 5, "restarts": 0}, "twin-apgd: restarts = 0"),
        ({"steps": 5, "starts": torch.full((1, 1, 4, 4), torch.nan)}, "NaN"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TwinAPGD(**settings)


def test_starts_of_other_images_are_refused():
    model, images, labels, _ = linear(2, 3)
    with pytest.raises(InputError, match="do not match images"):
        evaluate(ModelVictim(model), images, labels, Threat(epsilon=0.01), [TwinAPGD(5, starts=images[:2])])
