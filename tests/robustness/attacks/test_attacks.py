"""Every attack against models whose answer is known."""

from __future__ import annotations

import pytest
import torch

from tests.robustness.agreement import assert_same_points
from tests.robustness.victims import Constant, Linear, Quantised, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    APGDCE,
    APGDDLR,
    APGDT,
    CW,
    FAB,
    FABT,
    FGSM,
    PGD,
    ModelVictim,
    Noise,
    Replay,
    Square,
    Threat,
)

GRADIENT = [
    FGSM(),
    PGD(10),
    PGD(10, restarts=3),
    CW(10),
    APGDCE(10),
    APGDCE(10, restarts=2),
    APGDT(10),
    FAB(10),
    FAB(10, restarts=2),
    FABT(10),
]
ALL = [*GRADIENT, Square(120)]
# Of four classes and more.
WIDE = [*ALL, APGDDLR(10, restarts=2), APGDT(10, targets=2), FABT(10, targets=2)]


def misclassified(model, images, labels, threat, attack, seed=0):
    noise = Noise(seed, torch.arange(len(images)), attack.name)
    found = attack.run(ModelVictim(model), images, labels, threat, noise)
    exact = found.double() - images.double()
    assert threat.length(exact).max() <= threat.epsilon
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.dtype == torch.float32
    with torch.no_grad():
        return model(found).argmax(1) != labels


@pytest.mark.parametrize("attack", GRADIENT, ids=lambda attack: attack.name)
def test_gradient_attacks_break_two_classes_exactly_beyond_their_distance(attack):
    model, images, labels, distances = linear(2, 40)
    epsilon = distances.median().item() * 1.001
    assert (
        misclassified(model, images, labels, Threat(epsilon=epsilon), attack).tolist() == (distances < epsilon).tolist()
    )


@pytest.mark.parametrize("attack", GRADIENT, ids=lambda attack: attack.name)
def test_gradient_attacks_break_every_image_just_above_its_distance_and_none_just_below(attack):
    model, images, labels, distances = linear(2, 12)
    for image, label, distance in zip(images.split(1), labels.split(1), distances.tolist(), strict=True):
        assert misclassified(model, image, label, Threat(epsilon=distance * 1.001), attack).all()
        assert not misclassified(model, image, label, Threat(epsilon=distance * 0.999), attack).any()


@pytest.mark.parametrize("attack", GRADIENT, ids=lambda attack: attack.name)
def test_gradient_attacks_break_every_image_just_above_its_l2_distance_and_none_just_below(attack):
    model, images, labels, distances = linear(2, 12, norm="L2")
    # Ten steps of a fixed size do not quite reach the direction of the gradient from a random one.
    beyond = 1.1 if isinstance(attack, PGD) else 1.005
    for image, label, distance in zip(images.split(1), labels.split(1), distances.tolist(), strict=True):
        assert misclassified(model, image, label, Threat(norm="L2", epsilon=distance * beyond), attack).all()
        assert not misclassified(model, image, label, Threat(norm="L2", epsilon=distance * 0.999), attack).any()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("attack", [APGDCE(20), APGDT(20), FAB(20), FABT(20), CW(20)], ids=lambda attack: attack.name)
def test_three_classes_are_broken_where_they_can_be(attack, norm):
    model, images, labels, distances = linear(3, 60, norm=norm)
    flipped = misclassified(model, images, labels, Threat(norm=norm, epsilon=distances.median().item()), attack)
    assert flipped[distances < 0.9 * distances.median()].all()
    assert not flipped[distances > 1.0001 * distances.median()].any()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("attack", WIDE, ids=lambda attack: attack.name)
def test_no_attack_breaks_more_than_can_be_broken_among_five_classes(attack, norm):
    model, images, labels, distances = linear(5, 60, norm=norm)
    epsilon = distances.median().item()
    flipped = misclassified(model, images, labels, Threat(norm=norm, epsilon=epsilon * 0.999), attack)
    assert not (flipped & (distances >= epsilon)).any()
    assert flipped.any()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("attack", WIDE, ids=lambda attack: attack.name)
def test_a_constant_model_is_never_flipped(attack, norm):
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.full((5,), 2)
    for logits in ([0.0, -1.0, 3.0, 0.0], [-1.0, -1.0, 0.0, -1.0], [1e-30, 0.0, 2e-30, 0.0]):
        assert not misclassified(Constant(logits), images, labels, Threat(norm=norm, epsilon=0.5), attack).any()


@pytest.mark.parametrize("attack", ALL, ids=lambda attack: attack.name)
def test_a_constant_model_of_two_classes_is_flipped_where_it_is_wrong(attack):
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    flipped = misclassified(Constant([0.0, 3.0]), images, torch.tensor([0, 1]), Threat(epsilon=0.5), attack)
    assert flipped.tolist() == [True, False]


def test_square_breaks_two_classes_somewhat_beyond_their_distance():
    model, images, labels, distances = linear(2, 30)
    epsilon = distances.median().item()
    flipped = misclassified(model, images, labels, Threat(epsilon=epsilon * 1.1), Square(400))
    assert flipped[distances <= epsilon].all()


def test_masked_gradients_stop_gradient_attacks_and_not_square():
    model, images, labels, distances = linear(2, 40, shape=(1, 8, 8))
    near = distances < distances.median()
    images, labels, distances = images[near], labels[near], distances[near]
    masked = Quantised(model, levels=1000)
    threat = Threat(epsilon=1.3 * distances.max().item() + 1e-3)
    assert misclassified(model, images, labels, threat, PGD(10)).all()
    far = distances > 0.4 * distances.max()
    assert not misclassified(masked, images, labels, threat, PGD(10))[far].any()
    for attack in (APGDCE(10), CW(10), APGDT(10), FABT(10)):
        assert not misclassified(masked, images, labels, threat, attack)[far].any()
    assert misclassified(masked, images, labels, threat, Square(1000)).all()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_attacks_keep_to_0_and_1_where_the_ball_leaves_them(norm):
    model, _, _, _ = linear(2, 2)
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    labels = model(images).argmax(1)
    for attack in ALL:
        misclassified(model, images, labels, Threat(norm=norm, epsilon=0.7), attack)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("attack", [*WIDE, APGDCE(30), APGDT(30)], ids=lambda attack: attack.name)
def test_results_do_not_depend_on_batches_or_order(attack, norm):
    model, images, labels, distances = linear(4, 30, norm=norm)
    victim, threat = ModelVictim(model), Threat(norm=norm, epsilon=distances.median().item())
    rows = torch.arange(30)
    whole = attack.run(victim, images, labels, threat, Noise(5, rows, attack.name))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    for batch in order.split(7):
        part = attack.run(victim, images[batch], labels[batch], threat, Noise(5, batch, attack.name))
        assert_same_points(part, whole[batch], threat.epsilon)
        assert model(part).argmax(1).tolist() == model(whole[batch]).argmax(1).tolist()


@pytest.mark.parametrize("attack", [PGD(5), APGDCE(5), Square(50)], ids=lambda attack: attack.name)
def test_another_seed_gives_other_points_and_the_global_generator_is_left_alone(attack):
    model, images, labels, _ = linear(3, 4)
    images = images.mul(0.5)
    state = torch.get_rng_state()
    first, second = (
        attack.run(ModelVictim(model), images, labels, Threat(epsilon=0.001), Noise(seed, torch.arange(4), "s"))
        for seed in (0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    if isinstance(attack, Square):
        assert not torch.equal(first, second)
    else:  # On a linear model every start leads to the same corner.
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("queries", [1, 9, 10, 33])
def test_square_asks_exactly_its_queries_of_an_image_that_stands(queries):
    calls = []

    class Victim(ModelVictim):
        def logits(self, images):
            calls.append(len(images))
            return super().logits(images)

    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(3, dtype=torch.int64)
    noise = Noise(0, torch.arange(3), "square")
    Square(queries).run(Victim(Constant([2.0, 1.0])), images, labels, Threat(epsilon=0.1), noise)
    assert calls == [3] * queries


def test_square_drops_broken_images():
    calls = []

    class Victim(ModelVictim):
        def logits(self, images):
            calls.append(len(images))
            return super().logits(images)

    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1])
    noise = Noise(0, torch.arange(3), "square")
    Square(1000).run(Victim(Constant([2.0, 1.0])), images, labels, Threat(epsilon=0.1), noise)
    assert calls == [3] * 10 + [1] * 990


def test_restarts_attack_only_what_stands():
    calls = []

    class Victim(ModelVictim):
        def differentiable(self, images):
            calls.append(len(images))
            return super().differentiable(images)

    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0])
    noise = Noise(0, torch.arange(3), "pgd")
    PGD(2, restarts=2).run(Victim(Constant([2.0, 1.0])), images, labels, Threat(epsilon=0.1), noise)
    # Each run: two gradients, and the logits of the last point.
    assert calls == [3, 3, 3, 2, 2, 2]


def test_logits_of_the_victim_are_not_written_to():
    victim = ModelVictim(Constant([1.0, 0.0]))
    images = torch.full((2, 1, 4, 4), 0.5)
    for attack in ALL:
        attack.run(victim, images, torch.tensor([0, 1]), Threat(epsilon=0.1), Noise(0, torch.arange(2), "x"))
    assert victim.module.values.tolist() == [1.0, 0.0]


def test_small_gradients_do_not_vanish():
    model, images, labels, distances = linear(2, 10)
    # Margins up to 60: the probability of the other class, and with it the gradient, goes down to e^-60.
    scale = 60 / model(images).detach().diff(dim=1).abs().max()
    steep = Linear(model.weight.detach() * scale, model.bias.detach() * scale)
    epsilon = distances.max().item() * 1.01
    assert misclassified(steep, images, labels, Threat(epsilon=epsilon), PGD(20)).all()


def test_replay_gives_each_image_its_example_clipped_into_the_ball():
    examples = torch.tensor([0.1, 0.5, 0.9]).reshape(3, 1, 1, 1)
    images = torch.tensor([0.5, 0.5]).reshape(2, 1, 1, 1)
    model = Linear(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1), torch.zeros(2))
    found = Replay(examples).run(
        ModelVictim(model),
        images,
        torch.zeros(2, dtype=torch.int64),
        Threat(epsilon=0.25),
        Noise(0, torch.tensor([2, 0]), "replay"),
    )
    assert found.flatten().tolist() == [0.75, 0.25]


def test_replay_of_other_images_is_refused():
    images = torch.zeros(2, 1, 4, 4)
    with pytest.raises(InputError, match="do not match images"):
        Replay(torch.zeros(1, 1, 4, 4)).run(
            ModelVictim(Constant([0.0, 1.0])),
            images,
            torch.zeros(2, dtype=torch.int64),
            Threat(epsilon=0.1),
            Noise(0, torch.arange(2), "replay"),
        )
    with pytest.raises(InputError, match="NaN"):
        Replay(torch.full((1, 1, 4, 4), torch.nan))
