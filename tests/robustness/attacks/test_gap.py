from __future__ import annotations

import json

import pytest
import torch

from tests.robustness.victims import Constant, Linear, ModuleEngine, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import EngineVictim, Gap, ModelVictim, Threat, evaluate, find_disagreements, parse_attack

ROW = (1, 1, 1)


def of_one_pixel(engine_threshold, twin_threshold):
    """Engine and twin that say class 1 above their thresholds; their margins are 10 times the distance to them."""

    def model(threshold):
        return Linear(torch.tensor([-5.0, 5.0]).reshape(2, *ROW), torch.tensor([5.0, -5.0]) * threshold)

    return EngineVictim(ModuleEngine(model(engine_threshold), ROW, 2), model(twin_threshold))


def pixels(*values):
    return torch.tensor(values).reshape(-1, *ROW)


IMAGES = pixels(0.2, 0.35, 0.45, 0.55, 0.65, 0.8)
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])


def test_disagreements_are_found_exactly_where_the_ball_meets_the_space_between_the_boundaries():
    # They differ between 0.44 and 0.52: 0.45 itself, and what is 0.1 from that.
    found = find_disagreements(of_one_pixel(0.44, 0.52), IMAGES, LABELS, Threat(epsilon=0.1))
    assert (found.clean.correct, found.clean.total) == (5, 6)
    assert found.indices.tolist() == [1, 2, 3]
    assert (found.count, found.total, found.agreement.correct) == (3, 6, 3)
    assert ((found.examples > 0.44) & (found.examples < 0.52)).all()
    # Engine above its threshold: it says 1 where the twin says 0.
    assert (found.engine_wrong, found.twin_wrong) == (2, 1)
    expected = torch.minimum(found.examples - 0.44, 0.52 - found.examples).flatten() * 10
    torch.testing.assert_close(found.gaps, expected, rtol=1e-4, atol=1e-5)


def test_the_search_widens_the_gap():
    found = find_disagreements(of_one_pixel(0.44, 0.52), pixels(0.46, 0.53), torch.tensor([0, 1]), Threat(epsilon=0.1))
    assert found.count == 2
    # 0.46 differs as it is and is left as it is.
    assert found.gaps[0].item() == pytest.approx(0.2, abs=1e-5)
    assert found.gaps[1] > 0.01


def test_a_faithful_engine_disagrees_nowhere():
    model, images, labels, distances = linear(4, 30)
    victim = EngineVictim(ModuleEngine(model, (1, 4, 4), 4), model)
    found = find_disagreements(victim, images, labels, Threat(epsilon=2 * distances.median().item()))
    assert found.count == 0
    document = json.loads(json.dumps(found.to_json()))
    assert document["agreement"]["correct"] == 30
    assert document["indices"] == []
    assert document["largest_gap"] == 0.0
    assert list(document["settings"]) == ["apgd-t-50", "square-200"]


def test_equal_logits_of_the_engine_count_by_the_class_that_it_gives():
    engine, twin = Constant([1.0, 1.0, 0.0]), Constant([1.0, 1.1, 0.0])
    victim = EngineVictim(ModuleEngine(engine, ROW, 3), twin)
    found = find_disagreements(victim, IMAGES, LABELS, Threat(epsilon=0.1))
    assert (found.clean.correct, found.count) == (0, 6)
    assert found.gaps.tolist() == [0.0] * 6
    assert (found.engine_wrong, found.twin_wrong) == (3, 3)


def test_disagreements_do_not_depend_on_the_batch_size():
    twin, images, labels, distances = linear(4, 23)
    other, _, _, _ = linear(4, 4, seed=9)
    engine = Linear(twin.weight.detach() + 0.2 * other.weight.detach(), twin.bias.detach())
    victim = EngineVictim(ModuleEngine(engine, (1, 4, 4), 4), twin)
    threat = Threat(epsilon=distances.median().item())
    whole, parts = (find_disagreements(victim, images, labels, threat, steps=5, batch_size=size) for size in (256, 4))
    assert 0 < whole.count < 23
    assert whole.to_json() == parts.to_json()
    assert torch.equal(whole.examples, parts.examples)
    assert torch.equal(whole.gaps, parts.gaps)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES * 255, LABELS, "must lie in"),
        (IMAGES, LABELS + 1, "labels must lie in 0 to 1: label 3 is 2"),
        (IMAGES, LABELS.float(), "labels must be int64"),
        (IMAGES, LABELS[:2], "6 images have 2 labels"),
    ],
)
def test_images_and_labels_that_would_give_a_wrong_number_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        find_disagreements(of_one_pixel(0.44, 0.52), images, labels, Threat(epsilon=0.1))


def test_the_attack_finds_what_only_the_engine_gets_wrong():
    result = evaluate(of_one_pixel(0.44, 0.52), IMAGES, LABELS, Threat(epsilon=0.1), [Gap(20)])
    # 0.45 is wrong as it is; 0.35 reaches the space between the boundaries; 0.55 leaves it only far beyond.
    assert result.correct.tolist() == [True, True, False, True, True, True]
    assert result.robust_mask.tolist() == [True, False, False, True, True, True]
    assert 0.44 < result.adversarial[1].item() <= 0.45


def test_the_attack_counts_points_that_both_get_wrong():
    result = evaluate(of_one_pixel(0.5, 0.5), pixels(0.45), torch.tensor([0]), Threat(epsilon=0.1), [Gap(20)])
    assert result.robust.correct == 0


def test_the_attack_breaks_nothing_that_cannot_be_broken():
    twin, images, labels, distances = linear(5, 40)
    victim = EngineVictim(ModuleEngine(twin, (1, 4, 4), 5), twin)
    threat = Threat(epsilon=distances.median().item())
    assert evaluate(victim, images, labels, threat, [Gap(10)]).robust_mask[distances > threat.epsilon].all()


def test_the_attack_needs_both():
    model, images, labels, _ = linear(2, 2)
    with pytest.raises(InputError, match=r"'gap-5' needs an engine beside its twin \(EngineVictim\), not ModelVictim"):
        evaluate(ModelVictim(model), images, labels, Threat(epsilon=0.1), [Gap(5)])


def test_its_name_says_its_steps():
    assert parse_attack("gap-25") == Gap(25)
    assert Gap(25).name == "gap-25"
    with pytest.raises(InputError, match="gap: steps = 0"):
        Gap(0)
