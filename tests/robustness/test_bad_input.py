"""What would give a wrong number is refused or handled, by everything that evaluates."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.robustness.victims import Constant, ModuleEngine, linear
from tscnc_deploy.engines.base import EngineSpec
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    APGDCE,
    APGDT,
    FABT,
    FGSM,
    PGD,
    BlackBoxVictim,
    EngineVictim,
    HopSkipJump,
    ModelVictim,
    Replay,
    Square,
    Threat,
    accuracy_curve,
    certify,
    check_masking,
    corrupt,
    evaluate,
    evaluate_corruptions,
    local_lipschitz,
    smallest_epsilons,
)
from tscnc_deploy.robustness.sharding.shards import evaluate_in_shards

SHAPE = (1, 4, 4)
THREAT = Threat(epsilon=0.1)
MODEL, IMAGES, LABELS, _ = linear(3, 6)


def search(victim):
    return FGSM() if victim.has_gradient else Square(10)


# Each takes a victim, images, labels and options, and is as cheap as it can be.
EVALUATIONS = {
    "evaluate": lambda v, x, y, **o: evaluate(v, x, y, THREAT, [search(v), Square(5)], **o),
    "in shards": lambda v, x, y, **o: evaluate_in_shards(v, x, y, THREAT, [search(v)], shard_size=4, **o),
    "masking": lambda v, x, y, **o: check_masking(v, x, y, THREAT, steps=2, queries=5, **o),
    "curve": lambda v, x, y, **o: accuracy_curve(v, x, y, [0.05, 0.1], [search(v)], **o),
    "smallest": lambda v, x, y, **o: smallest_epsilons(v, x, y, search(v), 0.2, halvings=2, **o),
    "corruptions": lambda v, x, y, **o: evaluate_corruptions(v.logits, x, y, ["contrast"], [1, 5], **o),
    "certify": lambda v, x, y, **o: certify(v.logits, x, y, 0.1, n0=2, n=20, **o),
    "lipschitz": lambda v, x, _, **o: local_lipschitz(v, x, 0.1, steps=2, restarts=1, **o),
}


def every_evaluation_but(*left_out):
    names = [name for name in EVALUATIONS if name not in left_out]
    return pytest.mark.parametrize("run", [EVALUATIONS[name] for name in names], ids=names)


every_evaluation = every_evaluation_but()


class Of(nn.Module):
    """A model whose logits are something else by a function of images and logits."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.eval()

    def forward(self, images):
        return self.change(images, MODEL(images))


@every_evaluation
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((IMAGES * 255).byte(), "divide uint8 pixels by 255"),
        (IMAGES.double(), r"must be float32 \[N, C, H, W\], not torch.float64"),
        (IMAGES * 255, r"must lie in \[0, 1\]"),
        (IMAGES - 0.5, r"must lie in \[0, 1\]"),
        (torch.where(torch.arange(6)[:, None, None, None] == 4, torch.nan, IMAGES), r"at \[4, 0, 0, 0\] is nan"),
        (IMAGES[:0], "there is nothing to evaluate"),
    ],
    ids=["uint8", "float64", "times 255", "below 0", "NaN", "none"],
)
def test_images_are_checked(run, images, message):
    with pytest.raises(InputError, match=message):
        run(ModelVictim(MODEL), images, LABELS[: len(images)])


@pytest.mark.parametrize("images", [(IMAGES * 255).byte(), IMAGES * 255, IMAGES[:0]], ids=["uint8", "255", "none"])
def test_images_to_corrupt_are_checked(images):
    with pytest.raises(InputError, match=r"divide uint8|must lie in|nothing to evaluate"):
        corrupt(images, "contrast", 1)


@every_evaluation_but("lipschitz")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:4], "6 images have 4 labels"),
        (torch.cat([LABELS, LABELS]), "6 images have 12 labels"),
        (LABELS.float(), "labels must be int64"),
        (torch.where(torch.arange(6) == 1, 3, LABELS), "labels must lie in 0 to 2: label 1 is 3"),
        (torch.where(torch.arange(6) == 1, -1, LABELS), "labels must lie in 0 to 2: label 1 is -1"),
    ],
    ids=["too few", "too many", "float", "too large", "negative"],
)
def test_labels_are_checked(run, labels, message):
    with pytest.raises(InputError, match=message):
        run(ModelVictim(MODEL), IMAGES, labels)


FAULTS = {
    "probabilities": (lambda _, logits: logits.softmax(1), "look like probabilities"),
    "probabilities in half": (lambda _, logits: logits.bfloat16().softmax(1).float(), "look like probabilities"),
    "NaN": (lambda _, logits: logits * torch.nan, "must be finite"),
    "infinite": (lambda _, logits: logits / 0, "must be finite"),
    "one vector": (lambda _, logits: logits[0], r"shape \[\d, (K|3)\], not \[3\]|of shape \[3\] instead of \[\d, 3\]"),
    "too few rows": (lambda _, logits: logits[1:], r"\[[35], 3\]"),
}


@every_evaluation
@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_logits_are_checked(run, change, message):
    with pytest.raises(InputError, match=message):
        run(ModelVictim(Of(change)), IMAGES, LABELS)


@every_evaluation
def test_one_class_is_refused(run):
    model = Constant([1.0])
    victim = EngineVictim(ModuleEngine(model, SHAPE, 1), model)
    with pytest.raises(InputError, match="logits of 1 class cannot be attacked"):
        run(victim, IMAGES, LABELS * 0)


@pytest.mark.parametrize(("change", "message"), [*FAULTS.values()][:4], ids=[*FAULTS][:4])
def test_the_logits_of_an_engine_alone_are_checked_before_it_is_said_to_be_repeatable(change, message):
    engine = BlackBoxVictim(ModuleEngine(Of(change), SHAPE, 3))
    with pytest.raises(InputError, match=message):
        check_masking(engine, IMAGES, LABELS, THREAT)


@pytest.mark.parametrize("fault", ["probabilities", "NaN"])
def test_the_logits_of_a_twin_are_checked(fault):
    change, message = FAULTS[fault]
    victim = EngineVictim(ModuleEngine(MODEL, SHAPE, 3), Of(change))
    with pytest.raises(InputError, match=f"the twin: .*{message}"):
        evaluate(victim, IMAGES, LABELS, THREAT, [FGSM()])


@every_evaluation
def test_a_model_that_was_put_into_train_mode_is_refused(run):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    victim = ModelVictim(model)
    model.train()
    with pytest.raises(InputError, match="train mode"):
        run(victim, IMAGES, LABELS)


@pytest.mark.parametrize(
    ("epsilon", "message"),
    [
        (0.0, "epsilon = 0 is not a radius"),
        (-0.1, "epsilon = -0.1 is not a radius"),
        (8, r"epsilon = 8 is not a radius .*; write 0.0313725 for 8/255"),
        (float("nan"), "epsilon = nan is not a radius"),
    ],
)
def test_epsilons_are_checked(epsilon, message):
    victim = ModelVictim(MODEL)
    for run in (
        lambda: Threat(epsilon=epsilon),
        lambda: accuracy_curve(victim, IMAGES, LABELS, [epsilon], [FGSM()]),
        lambda: smallest_epsilons(victim, IMAGES, LABELS, FGSM(), epsilon),
        lambda: local_lipschitz(victim, IMAGES, epsilon),
    ):
        with pytest.raises(InputError, match=message):
            run()


@every_evaluation_but("masking")
def test_a_confidence_in_percent_is_refused(run):
    with pytest.raises(InputError, match=r"confidence = 95 is not between 0 and 1; write 0.95 for 95%"):
        run(ModelVictim(MODEL), IMAGES, LABELS, confidence=95)


@every_evaluation
def test_a_batch_of_no_images_is_refused(run):
    with pytest.raises(InputError, match="batch_size = 0"):
        run(ModelVictim(MODEL), IMAGES, LABELS, batch_size=0)


def figures(result):
    if isinstance(result, list):
        return [warning.to_json() for warning in result]
    document = result.to_json() if hasattr(result, "to_json") else result.record.to_json()
    return {key: value for key, value in json.loads(json.dumps(document)).items() if key != "queries"}


@every_evaluation
def test_batches_of_one_change_nothing(run):
    assert figures(run(ModelVictim(MODEL), IMAGES, LABELS)) == figures(
        run(ModelVictim(MODEL), IMAGES, LABELS, batch_size=1)
    )


@every_evaluation
def test_one_image_is_enough(run):
    assert figures(run(ModelVictim(MODEL), IMAGES[:1], LABELS[:1])) is not None


class FixedBatch(ModuleEngine):
    """An engine whose artefact takes 4 images at a time, no more and no fewer."""

    def __init__(self, module):
        super().__init__(module, SHAPE, 3)
        self._spec = replace(self._spec, batch_min=4, batch_max=4)

    def _run(self, images):
        assert len(images) == 4
        return super()._run(images)


@every_evaluation
def test_an_engine_with_a_fixed_batch_is_as_good_as_any(run):
    free, fixed = (EngineVictim(engine, MODEL) for engine in (ModuleEngine(MODEL, SHAPE, 3), FixedBatch(MODEL)))
    assert figures(run(free, IMAGES, LABELS)) == figures(run(fixed, IMAGES, LABELS))


class Foreign:
    """An engine that was not made here; its answer is changed by a function."""

    spec = EngineSpec("foreign", "remote", SHAPE, 3, "fp32", "cpu")

    def __init__(self, change):
        self.change = change

    def logits(self, images):
        with torch.no_grad():
            return self.change(MODEL(torch.from_numpy(images)).numpy())


@every_evaluation
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_an_engine_may_answer_in_any_precision(run, dtype):
    rounded = EngineVictim(Foreign(lambda logits: logits.astype(dtype).astype(np.float32)), MODEL)
    victim = EngineVictim(Foreign(lambda logits: logits.astype(dtype)), MODEL)
    assert figures(run(victim, IMAGES, LABELS)) == figures(run(rounded, IMAGES, LABELS))


@every_evaluation
@pytest.mark.parametrize(
    "change",
    [lambda z: z[:-1], lambda z: z[:, :2], lambda z: z[0], lambda z: z.T],
    ids=["an image less", "a class less", "no batch", "transposed"],
)
def test_an_engine_that_answers_in_another_shape_is_refused(run, change):
    victim = EngineVictim(Foreign(change), MODEL)
    with pytest.raises(InputError, match=r"engine 'foreign' returned logits of shape .* instead of \[\d, 3\]"):
        run(victim, IMAGES, LABELS)


def nan_beyond(images, logits):
    """NaN where a pixel is brighter than in any of the images: only adversarial points are."""
    return torch.where((images.amax((1, 2, 3)) > 0.72)[:, None], torch.nan, logits)


@pytest.mark.parametrize(
    "attack",
    [PGD(5), APGDCE(5), APGDT(5), FABT(10), Square(50), HopSkipJump(200), Replay((IMAGES + 0.1).clamp(max=1))],
    ids=lambda attack: attack.name,
)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_logits_that_are_nan_only_under_attack_are_never_counted(attack, label):
    # Of a row of NaN the first is the largest, which would be right where the label is 0.
    sure, rising = torch.eye(3)[label] * 9, torch.eye(3)[label - 1]
    model = Of(lambda images, _: nan_beyond(images, sure + rising * images.mean((1, 2, 3))[:, None]))
    with pytest.raises(InputError, match=r"logits must be finite: those of image \d of the batch are \[nan"):
        evaluate(ModelVictim(model), IMAGES.clamp(0.66, 0.7), torch.full((6,), label), THREAT, [attack])


@pytest.mark.parametrize("name", ["curve", "smallest", "certify", "lipschitz"])
def test_logits_that_are_nan_nearby_are_refused_by_whatever_meets_them(name):
    images = IMAGES.clamp(0.66, 0.7)
    labels = MODEL(images).argmax(1)
    with pytest.raises(InputError, match="must be finite"):
        EVALUATIONS[name](ModelVictim(Of(nan_beyond)), images, labels)


def test_nan_under_a_corruption_is_refused_with_its_name():
    with pytest.raises(InputError, match=r"brightness of severity 5, after 0 of 6 images: logits must be finite"):
        evaluate_corruptions(Of(nan_beyond), IMAGES, LABELS, ["brightness"], [5])


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_gradient_of_nan_leads_nowhere_instead_of_into_nan(norm):
    model = Of(lambda x, z: z + torch.sqrt((x - x.detach()).sum((1, 2, 3)))[:, None])
    threat = Threat(norm=norm, epsilon=0.1)
    result = evaluate(ModelVictim(model), IMAGES, LABELS, threat, [FGSM(), PGD(3), APGDCE(3)])
    assert result.adversarial.isfinite().all()


class Fickle(nn.Module):
    """Answers with a class more from a call on."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls
        self.eval()

    def forward(self, images):
        self.calls -= 1
        logits = MODEL(images)
        return logits if self.calls >= 0 else torch.cat([logits, logits[:, :1] + 9], 1)


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("name", ["corruptions", "certify"])
def test_a_function_whose_number_of_classes_changes_is_refused(name, calls):
    with pytest.raises(InputError, match=r"logits must have the shape \[2, 3\], not \[2, 4\]"):
        EVALUATIONS[name](ModelVictim(Fickle(calls)), IMAGES, LABELS, batch_size=2)


def test_an_answer_that_is_no_tensor_is_refused():
    with pytest.raises(InputError, match=r"logits must be a tensor \[6, K\], not ndarray"):
        evaluate_corruptions(lambda images: MODEL(images).detach().numpy(), IMAGES, LABELS)


@pytest.mark.parametrize(
    "examples", [(IMAGES * 255).byte(), IMAGES * 255, IMAGES - 1, IMAGES * torch.nan], ids=["uint8", "255", "-1", "NaN"]
)
def test_examples_that_are_no_images_are_not_replayed(examples):
    with pytest.raises(InputError, match=r"replay: the examples must be images in \[0, 1\]"):
        Replay(examples)


def test_an_evaluation_under_another_threat_is_not_held_against_this_one():
    evaluation = evaluate(ModelVictim(MODEL), IMAGES, LABELS, Threat(epsilon=0.2), [FGSM()])
    with pytest.raises(InputError, match=r"is of Threat\(norm='Linf', epsilon=0.2\), but Threat"):
        check_masking(ModelVictim(MODEL), IMAGES, LABELS, THREAT, evaluation)


def test_a_wrong_corruption_is_refused_before_anything_is_asked():
    def fail(_):
        pytest.fail("it was asked")

    for names, severities in ((["fog", "frost"], [1]), (["fog"], [1, 6])):
        with pytest.raises(InputError, match=r"unknown corruption 'frost'|severity 6 of fog"):
            evaluate_corruptions(fail, IMAGES, LABELS, names, severities)
