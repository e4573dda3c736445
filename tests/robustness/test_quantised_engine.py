"""Attacks on a real int8 engine, which differs from its twin as quantisation makes it."""

from __future__ import annotations

import pytest

from tests.robustness.quantised import int8_engine
from tscnc_deploy.robustness import (
    APGDCE,
    BlackBoxVictim,
    EngineVictim,
    Gap,
    HopSkipJump,
    ModelVictim,
    Replay,
    Square,
    Threat,
    TwinAPGD,
    evaluate,
)

THREAT = Threat(epsilon=0.12)


@pytest.fixture(scope="module")
def engine_and_twin(digits, tmp_path_factory):
    """Calibrated on few images, so that the gaps are wide."""
    model, images, _ = digits
    engine = int8_engine(model, tmp_path_factory.mktemp("int8"), images[:10])
    assert engine.spec.precision == "int8"
    return engine, model


@pytest.fixture(scope="module")
def examples(digits):
    """The twin's points of highest loss."""
    model, images, labels = digits
    return evaluate(ModelVictim(model), images, labels, THREAT, [APGDCE(30)]).adversarial


def test_replay_alone_overstates_robustness(digits, engine_and_twin, examples):
    _, images, labels = digits
    attacks = [Replay(examples), TwinAPGD(30, starts=examples), Square(300), Gap(30), HopSkipJump(500)]
    result = evaluate(EngineVictim(*engine_and_twin), images, labels, THREAT, attacks)
    robust = {name: share.correct for name, share in result.attacks.items()}
    assert result.clean.correct > robust["replay"] > result.robust.correct
    # Predictions are worth less than logits, and logits less than the twin's gradient.
    assert robust["hopskipjump-500"] > robust["square-300"] > robust["twin-apgd-30"]
    assert robust["gap-30"] < robust["hopskipjump-500"]


def test_the_engine_in_the_loop_is_stronger_than_replay(digits, engine_and_twin):
    engine, twin = engine_and_twin
    _, images, labels = digits
    replayed = searched = 0
    for epsilon in (0.08, 0.12, 0.16):
        threat = Threat(epsilon=epsilon)
        examples = evaluate(ModelVictim(twin), images, labels, threat, [APGDCE(30)]).adversarial
        attacks = [Replay(examples), TwinAPGD(30, starts=examples)]
        robust = evaluate(EngineVictim(engine, twin), images, labels, threat, attacks).attacks
        replayed += robust["replay"].correct
        searched += robust["twin-apgd-30"].correct
    assert searched < replayed


def test_an_engine_alone_is_broken_by_its_answers(digits, engine_and_twin):
    _, images, labels = digits
    attacks = [Square(100), HopSkipJump(300)]
    result = evaluate(BlackBoxVictim(engine_and_twin[0]), images[:60], labels[:60], THREAT, attacks)
    assert all(share.correct < result.clean.correct for share in result.attacks.values())
