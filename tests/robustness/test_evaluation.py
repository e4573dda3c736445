from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.robustness.agreement import assert_same_evaluation
from tests.robustness.victims import Constant, Linear, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    APGDCE,
    FGSM,
    PGD,
    BlackBoxVictim,
    EngineVictim,
    ModelVictim,
    Replay,
    Square,
    Threat,
    evaluate,
)

THREAT = Threat(epsilon=0.1)


def test_the_worst_case_is_counted_over_all_images():
    model, images, labels, distances = linear(2, 50)
    labels[:5] = 1 - labels[:5]
    epsilon = distances.median().item() * 1.001
    result = evaluate(ModelVictim(model), images, labels, Threat(epsilon=epsilon), [FGSM(), PGD(5)])
    expected = (distances > epsilon) & (torch.arange(50) >= 5)
    assert result.correct.tolist() == [False] * 5 + [True] * 45
    assert result.robust_mask.tolist() == expected.tolist()
    assert (result.clean.correct, result.clean.total) == (45, 50)
    assert (result.robust.correct, result.robust.total) == (int(expected.sum()), 50)
    assert result.robust.low < result.robust.accuracy < result.robust.high
    assert torch.equal(result.adversarial[:5], images[:5])
    assert list(result.seconds) == ["clean", "fgsm", "pgd-5"]


def test_json_is_what_the_command_line_prints():
    model, images, labels, _ = linear(2, 6)
    document = evaluate(ModelVictim(model), images, labels, THREAT, [FGSM(), Square(5)], seed=3).record.to_json()
    document = json.loads(json.dumps(document))
    assert list(document) == ["clean", "robust", "attacks", "settings", "cascade", "epsilon", "norm", "queries"]
    assert list(document["attacks"]) == ["fgsm", "square-5"]
    assert list(document["robust"]) == ["correct", "total", "accuracy", "low", "high"]
    assert document["settings"]["square-5"] == {"queries": 5, "loss": "margin", "p_init": 0.8, "seed": 3}
    assert (document["epsilon"], document["norm"], document["cascade"]) == (0.1, "Linf", False)


def test_cascade_attacks_what_stands_and_has_the_same_worst_case():
    model, images, labels, distances = linear(5, 80)
    threat = Threat(epsilon=distances.median().item())
    attacks = [Square(5), FGSM(), PGD(5)]
    done = []
    each = evaluate(ModelVictim(model), images, labels, threat, attacks)
    cascade = evaluate(
        ModelVictim(model), images, labels, threat, attacks, cascade=True, progress=lambda *event: done.append(event)
    )
    assert torch.equal(each.robust_mask, cascade.robust_mask)
    standing = [cascade.attacks[attack.name].correct for attack in attacks]
    assert standing[0] == each.attacks["square-5"].correct
    assert 80 > standing[0] > standing[1] >= standing[2] == cascade.robust.correct > 0
    at_the_end = {name: (images, of) for name, images, of in done}
    assert at_the_end == {
        "clean": (80, 80),
        "square-5": (80, 80),
        "fgsm": (standing[0], standing[0]),
        "pgd-5": (standing[1], standing[1]),
    }


def test_progress_is_reported_within_a_batch():
    model, images, labels, _ = linear(5, 8)
    done = []
    threat = Threat(epsilon=1e-6)
    evaluate(ModelVictim(model), images, labels, threat, [PGD(4)], progress=lambda *event: done.append(event))
    # Before the second, third and fourth gradient a quarter each is done, and all when the attack returns.
    assert done[:4] == [("clean", 8, 8), ("pgd-4", 2, 8), ("pgd-4", 4, 8), ("pgd-4", 6, 8)]
    assert done[-1] == ("pgd-4", 8, 8)


def test_stronger_attacks_leave_fewer_standing(digits):
    model, images, labels = digits
    results = {
        attack.name: evaluate(ModelVictim(model), images, labels, THREAT, [attack])
        for attack in (FGSM(), PGD(20), APGDCE(20), Square(300))
    }
    standing = {name: result.robust.correct for name, result in results.items()}
    assert standing["pgd-20"] < standing["fgsm"] < results["fgsm"].clean.correct
    assert standing["apgd-ce-20"] <= standing["pgd-20"] + 2
    assert abs(standing["square-300"] - standing["pgd-20"]) <= 10
    with torch.no_grad():
        losses = {name: F.cross_entropy(model(result.adversarial), labels) for name, result in results.items()}
    assert losses["apgd-ce-20"] >= 0.999 * losses["pgd-20"]
    assert losses["pgd-20"] > losses["fgsm"] > losses["square-300"]


def test_adversarial_examples_are_what_flips_and_stay_in_the_ball(digits):
    model, images, labels = digits
    result = evaluate(ModelVictim(model), images, labels, THREAT, [PGD(10), Square(50)])
    with torch.no_grad():
        wrong = model(result.adversarial).argmax(1) != labels
    assert torch.equal(wrong, ~result.robust_mask)
    assert (result.adversarial.double() - images.double()).abs().max() <= 0.1
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1


@pytest.mark.parametrize("cascade", [False, True])
def test_results_do_not_depend_on_the_batch_size(cascade):
    model, images, labels, distances = linear(4, 23)
    attacks = [PGD(4, restarts=2), APGDCE(6), Square(40)]
    threat = Threat(epsilon=distances.median().item())
    whole, parts, single = (
        evaluate(ModelVictim(model), images, labels, threat, attacks, seed=1, batch_size=size, cascade=cascade)
        for size in (256, 7, 1)
    )
    assert_same_evaluation(parts, whole)
    assert_same_evaluation(single, whole)


def test_an_engine_is_judged_by_its_own_logits():
    twin, images, labels, distances = linear(2, 40)
    # The engine's boundary is moved by half the median distance: away from class 0, towards class 1.
    length = (twin.weight[0] - twin.weight[1]).detach().abs().sum()
    shift = distances.median() / 2 * length
    shifted = Linear(twin.weight.detach(), twin.bias.detach() + torch.stack([shift, shift * 0]))
    own_distances = (shifted(images).detach().diff(dim=1).squeeze(1) * (2 * labels - 1)) / length
    engine = ModuleEngine(shifted, (1, 4, 4), 2)
    threat = Threat(epsilon=distances.median().item() * 1.001)
    result = evaluate(EngineVictim(engine, twin), images, labels, threat, [FGSM(), PGD(10), APGDCE(10)])
    assert result.correct.tolist() == (own_distances > 0).tolist()
    for standing in result.robust_by_attack.values():
        assert standing.tolist() == (own_distances > threat.epsilon).tolist()


def test_replay_alone_overstates_an_engine_and_a_search_on_the_engine_does_not():
    twin, images, labels, distances = linear(2, 40)
    other, _, _, _ = linear(2, 40, seed=9)
    turned = Linear(twin.weight.detach() + other.weight.detach(), twin.bias.detach() + other.bias.detach())
    engine = ModuleEngine(turned, (1, 4, 4), 2)
    threat = Threat(epsilon=distances.median().item())
    found = evaluate(ModelVictim(twin), images, labels, threat, [PGD(10)]).adversarial
    result = evaluate(BlackBoxVictim(engine), images, labels, threat, [Replay(found), Square(300)])
    assert result.settings["replay"] == {"examples": 40, "seed": 0}
    assert result.robust.correct <= result.attacks["square-300"].correct < result.attacks["replay"].correct


def test_a_constant_model_stands_wherever_it_is_right():
    images = torch.full((6, 1, 4, 4), 0.5)
    labels = torch.tensor([0, 1, 2, 1, 1, 0])
    result = evaluate(ModelVictim(Constant([0.0, 5.0, 1.0])), images, labels, THREAT, [FGSM(), APGDCE(3), Square(20)])
    assert result.clean.correct == result.robust.correct == 3


def test_one_image_is_enough():
    model, images, labels, distances = linear(2, 10)
    for factor, standing in ((0.9, 1), (1.1, 0)):
        threat = Threat(epsilon=factor * distances[0].item())
        assert evaluate(ModelVictim(model), images[:1], labels[:1], threat, [PGD(5)]).robust.correct == standing


def test_nothing_is_attacked_when_every_image_is_wrong():
    model, images, labels, _ = linear(2, 4)
    result = evaluate(ModelVictim(model), images, 1 - labels, THREAT, [PGD(5), Square(5)])
    assert (result.clean.correct, result.robust.correct) == (0, 0)
    assert torch.equal(result.adversarial, images)


def test_an_attack_that_leaves_the_ball_gains_nothing():
    class Cheat:
        name = "cheat"
        needs_gradient = False

        def settings(self):
            return {}

        def run(self, victim, images, labels, threat, noise):
            return 1 - images

    model, images, labels, distances = linear(2, 20)
    threat = Threat(epsilon=distances.min().item() * 0.99)
    assert evaluate(ModelVictim(model), images, labels, threat, [Cheat()]).robust.correct == 20


def test_evaluation_works_inside_inference_mode_and_leaves_gradients_alone():
    model, images, labels, distances = linear(2, 8)
    with torch.inference_mode():
        result = evaluate(
            ModelVictim(model),
            images.clone(),
            labels.clone(),
            Threat(epsilon=distances.max().item() * 1.01),
            [PGD(10), APGDCE(10), FGSM(), Square(10)],
        )
    assert result.robust.correct == 0
    assert model.weight.grad is None


def test_two_attacks_of_one_name_or_none_are_refused():
    model, images, labels, _ = linear(2, 2)
    with pytest.raises(InputError, match="'pgd-5' is given 2 times"):
        evaluate(ModelVictim(model), images, labels, THREAT, [PGD(5), PGD(5, step_size=0.1)])
    with pytest.raises(InputError, match="no attacks"):
        evaluate(ModelVictim(model), images, labels, THREAT, [])


def test_a_gradient_attack_on_an_engine_alone_is_refused_before_anything_runs():
    model, images, labels, _ = linear(2, 2)
    events = []
    with pytest.raises(InputError, match="'pgd-5' needs gradients"):
        evaluate(
            BlackBoxVictim(ModuleEngine(model, (1, 4, 4), 2)),
            images,
            labels,
            THREAT,
            [Square(5), PGD(5)],
            progress=lambda *event: events.append(event),
        )
    assert events == []


IMAGES = torch.full((2, 1, 4, 4), 0.5)
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.double(), LABELS, "must be float32"),
        ((IMAGES * 255).byte(), LABELS, "divide uint8 pixels by 255"),
        (IMAGES[0], LABELS, r"\[N, C, H, W\]"),
        (IMAGES * 3, LABELS, r"at \[0, 0, 0, 0\] is 1.5"),
        (IMAGES - 1, LABELS, "is -0.5"),
        (IMAGES * torch.nan, LABELS, "is nan"),
        (IMAGES[:0], LABELS[:0], "nothing to evaluate"),
        (IMAGES, LABELS[:1], "2 images have 1 labels"),
        (IMAGES, LABELS.float(), "labels must be int64"),
        (IMAGES, torch.tensor([0, 2]), "0 to 1: label 1 is 2"),
        (IMAGES, torch.tensor([-1, 1]), "label 0 is -1"),
    ],
)
def test_images_and_labels_that_would_give_a_wrong_number_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        evaluate(ModelVictim(Constant([3.0, 1.0])), images, labels, THREAT, [FGSM()])


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([0.25, 0.75], "look like probabilities"),
        ([0.0, float("nan")], "must be finite"),
        ([0.0, float("inf")], "must be finite"),
        ([1.0], "at least two classes are needed"),
    ],
)
def test_logits_that_would_give_a_wrong_number_are_refused(logits, message):
    with pytest.raises(InputError, match=message):
        evaluate(ModelVictim(Constant(logits)), IMAGES, LABELS * 0, THREAT, [FGSM()])


def test_logits_that_become_infinite_under_attack_are_refused():
    class Overflows(nn.Module):
        def forward(self, images):
            total = images.sum((1, 2, 3)) - 8
            return torch.stack([3 - total, total * torch.where(total > 0.5, torch.inf, 1.0)], 1)

    with pytest.raises(InputError, match="must be finite"):
        evaluate(ModelVictim(Overflows().eval()), IMAGES, LABELS * 0, THREAT, [PGD(5)])


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"confidence": 95}, {"confidence": 0.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        evaluate(ModelVictim(Constant([3.0, 1.0])), IMAGES, LABELS, THREAT, [FGSM()], **settings)
