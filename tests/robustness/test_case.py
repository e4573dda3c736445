"""One evaluation from attacks to gates."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.robustness.victims import Linear, ModuleEngine, Quantised, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    APGDCE,
    APGDT,
    FGSM,
    PGD,
    BlackBoxVictim,
    EngineVictim,
    EvalCase,
    HopSkipJump,
    ModelVictim,
    Reference,
    Square,
    Threat,
    compare,
    evaluate,
    evaluate_case,
)
from tscnc_deploy.robustness.stronger import stronger_attacks

MODEL, IMAGES, LABELS, DISTANCES = linear(3, 40)
THREAT = Threat(epsilon=DISTANCES.median().item())


def plain(victim, attacks, **more) -> EvalCase:
    return EvalCase(victim, IMAGES, LABELS, THREAT, attacks, **more)


class After:
    """Ends after so many images, and affords no further query."""

    confidence = 0.99
    reason = None

    def __init__(self, images):
        self.images = images
        self.decisions = {}

    def __call__(self, known):
        return known.clean.total >= self.images

    def round_size(self, known):
        return None

    def affords(self, known, queries, besides=0):
        return 0


class Sized(ModelVictim):
    """Notes the sizes of the batches that it is asked for."""

    def __init__(self, module):
        super().__init__(module)
        self.sizes = []

    def differentiable(self, images):
        self.sizes.append(len(images))
        return super().differentiable(images)


def test_figures_are_those_of_evaluate():
    case = plain(ModelVictim(MODEL), [PGD(5), Square(20)], seed=3, cascade=True)
    alone = evaluate(ModelVictim(MODEL), IMAGES, LABELS, THREAT, [PGD(5), Square(20)], seed=3, cascade=True)
    result = evaluate_case(case, shard_size=7)
    assert result.evaluation.record.to_json() == alone.record.to_json() | {"queries": result.evaluation.queries}
    assert torch.equal(result.evaluation.adversarial, alone.adversarial)
    assert torch.equal(result.predictions == LABELS, alone.correct)
    assert torch.equal(result.adversarial_predictions == LABELS, alone.robust_mask)
    assert (result.warnings, result.measures, result.stronger, result.stopped) == ([], {}, (), None)
    assert (result.parity, result.comparison) == (None, None)


def test_gates_are_held_against_the_lower_ends():
    # No image further than the median from the boundary can be reached: 20 of 40 stay right at least.
    case = plain(ModelVictim(MODEL), [PGD(10)], gates={"clean": 0.9, "robust": 0.9}, masking=False)
    result = evaluate_case(case)
    clean, robust = result.gates
    assert (clean["name"], clean["passed"]) == ("clean accuracy, lower end", True)
    assert clean["value"] == pytest.approx(0.9119, abs=1e-4)
    assert (robust["passed"], robust["inconclusive"]) == (False, False)
    assert not result.passed
    near = evaluate_case(replace(case, gates={"robust": 0.5})).gates[0]
    assert (near["passed"], near["inconclusive"]) == (False, True)
    assert near["images_to_settle"] is None or near["images_to_settle"] > 40


def test_it_ends_early_with_the_images_so_far():
    case = plain(ModelVictim(MODEL), [FGSM()], gates={"robust": 0.0}, reference=Reference(torch.ones(40).bool()))
    result = evaluate_case(case, shard_size=8, stop=After(16))
    assert len(result.case.labels) == len(result.predictions) == 16
    assert result.stopped == {"reason": "the budget is spent", "images": 16, "of": 40}
    assert result.comparison.total == 16
    ninety_nine = evaluate(ModelVictim(MODEL), IMAGES[:16], LABELS[:16], THREAT, [FGSM()], confidence=0.99)
    assert result.evaluation.robust == ninety_nine.robust


def test_masked_gradients_are_noticed_and_change_no_figure_by_default():
    masked = ModelVictim(Quantised(MODEL, levels=1000))
    result = evaluate_case(plain(masked, [APGDCE(5)]))
    assert "zero-gradients" in [sign.name for sign in result.warnings]
    assert list(result.evaluation.attacks) == ["apgd-ce-5"]
    assert evaluate_case(plain(masked, [APGDCE(5)], masking=False)).warnings is None


def test_a_sign_of_masking_leads_to_a_longer_search_that_counts():
    masked = ModelVictim(Quantised(MODEL, levels=1000))
    case = plain(masked, [APGDCE(5)], gates={"robust": 0.6}, stronger=True)
    weak = evaluate_case(replace(case, stronger=False))
    result = evaluate_case(case)
    assert weak.passed
    assert not result.passed
    assert result.stronger == ("float64-apgd", "square-2000", "hopskipjump-500")
    found = result.evaluation
    assert found.robust.correct == found.attacks["hopskipjump-500"].correct < weak.evaluation.robust.correct
    assert found.attacks["apgd-ce-5"] == weak.evaluation.attacks["apgd-ce-5"]
    assert found.robust_mask[1.05 * THREAT.epsilon < DISTANCES].all()
    # Its examples are in the ball and are what the model gets wrong.
    assert (found.adversarial - IMAGES).abs().max() <= THREAT.epsilon + 1e-6
    assert torch.equal(masked.logits(found.adversarial).argmax(1) == LABELS, found.robust_mask)
    assert torch.equal(result.adversarial_predictions == LABELS, found.robust_mask)
    assert found.settings["square-2000"]["queries"] == 2000
    assert found.queries["square-2000"] > 0


def test_a_long_search_is_not_repeated():
    masked = ModelVictim(Quantised(MODEL, levels=1000))
    result = evaluate_case(plain(masked, [APGDCE(5), Square(3000), HopSkipJump(500)], stronger=True))
    assert result.warnings
    assert result.stronger == ("float64-apgd",)


def test_without_signs_nothing_stronger_runs():
    result = evaluate_case(plain(ModelVictim(MODEL), [APGDCE(20)], stronger=True))
    assert (result.warnings, result.stronger) == ([], ())


def test_where_the_budget_ends_the_stronger_attack_faces_fewer_images():
    masked = ModelVictim(Quantised(MODEL, levels=1000))
    result = evaluate_case(plain(masked, [APGDCE(5)], stronger=True), stop=After(40))
    assert len(result.case.labels) == result.evaluation.robust.total == 32
    assert result.stopped == {"reason": "the budget is spent", "images": 32, "of": 40}


def test_another_models_examples_are_tried_and_count():
    # The masked model's gradients say nothing, those of the model behind it everything.
    masked, open_model = ModelVictim(Quantised(MODEL, levels=1000)), Sized(MODEL)
    result = evaluate_case(plain(masked, [APGDCE(5)], stronger=True, surrogate=open_model, batch_size=25))
    assert max(open_model.sizes) == 25
    assert "transfer-stronger" in [sign.name for sign in result.warnings]
    assert result.stronger == ("float64-apgd", "transfer", "square-2000", "hopskipjump-500")
    assert not result.evaluation.robust_mask[0.8 * THREAT.epsilon > DISTANCES].any()


def test_the_search_on_another_model_has_the_seed_that_is_given():
    # Without a gradient, its examples are what the random starts are.
    surrogate = ModelVictim(Quantised(MODEL, levels=1000))
    signs, tried = ["transfer-stronger"], [Square(2000)]

    def examples(seed):
        found = stronger_attacks(signs, tried, ModelVictim(MODEL), IMAGES, LABELS, THREAT, surrogate, seed=seed)
        return found[1].examples

    expected = evaluate(surrogate, IMAGES, LABELS, THREAT, [APGDCE(50), APGDT(50)], seed=3, cascade=True).adversarial
    assert torch.equal(examples(3), expected)
    assert not torch.equal(examples(0), expected)


def test_nobody_looks_for_masking_without_gradients():
    black_box = BlackBoxVictim(ModuleEngine(MODEL, (1, 4, 4), 3))
    assert evaluate_case(plain(black_box, [Square(20)], stronger=True)).warnings is None


def test_accuracy_that_guessing_reaches_is_a_warning_even_where_nobody_looks_for_masking():
    case = replace(plain(ModelVictim(MODEL), [FGSM()], masking=False), labels=LABELS.roll(1))
    (warning,) = evaluate_case(case).warnings
    assert warning.name == "guessing"
    assert evaluate_case(plain(ModelVictim(MODEL), [FGSM()], masking=False)).warnings is None


def test_an_engine_is_held_against_its_twin():
    engine = Linear(MODEL.weight.detach(), MODEL.bias.detach() + torch.tensor([0.25, 0.0, 0.0]))
    victim = EngineVictim(ModuleEngine(engine, (1, 4, 4), 3), MODEL)
    result = evaluate_case(plain(victim, [PGD(5)], tolerance=0.5, masking=False))
    assert result.parity.max_abs_diff == pytest.approx(0.25, abs=1e-5)
    assert result.parity.passed
    flips = (result.predictions != MODEL(IMAGES).argmax(1)).nonzero().squeeze(1).tolist()
    assert list(result.parity.flips_clean) == flips
    with pytest.raises(InputError, match=r"a tolerance of 0\.5 needs an engine with its twin, not ModelVictim"):
        evaluate_case(plain(ModelVictim(MODEL), [FGSM()], tolerance=0.5))


def test_both_of_a_comparison_face_all_examples():
    other, *_ = linear(3, 4, seed=5)
    second = Linear(MODEL.weight.detach() + 0.3 * other.weight.detach(), MODEL.bias.detach())
    ours, theirs = ModelVictim(second), ModelVictim(MODEL)
    found = evaluate_case(plain(theirs, [PGD(10)], masking=False)).evaluation
    case = plain(ours, [PGD(10)], masking=False)
    alone = evaluate_case(replace(case, reference=Reference(found.robust_mask))).comparison
    own = evaluate(ours, IMAGES, LABELS, THREAT, [PGD(10)])
    assert alone == compare(found.robust_mask, own.robust_mask)
    paired = evaluate_case(replace(case, reference=Reference(found.robust_mask, theirs, found.adversarial))).comparison
    before = found.robust_mask & (theirs.logits(own.adversarial).argmax(1) == LABELS)
    now = own.robust_mask & (ours.logits(found.adversarial).argmax(1) == LABELS)
    assert paired == compare(before, now)
