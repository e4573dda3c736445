from __future__ import annotations

from tests.report.records import measured_record
from tscnc_deploy.record import BuildRecord, Smoothing
from tscnc_deploy.report.conditions import conditions


def evaluations():
    return BuildRecord.from_json(measured_record()).evaluations


def test_equal_conditions_are_said_once():
    found = evaluations().measures
    assert conditions({name: measures.curve for name, measures in found.items()}) == (
        "twin, onnx-cpu: apgd-ce-20: loss cross-entropy · steps 20 · restarts 1 · seed 0."
    )
    assert conditions({"twin": found["twin"].lipschitz}) == (
        "twin: Linf balls of a radius up to 0.1; steps 20 · restarts 2 · seed 0."
    )
    assert conditions({"twin": found["twin"].corruptions}) == "twin: seed 0."
    assert conditions({"twin": found["twin"].smallest_epsilon}) == (
        "twin: Linf, searched up to 0.4; "
        "attack apgd-ce-20 · loss cross-entropy · steps 20 · restarts 1 · seed 0 · halvings 7."
    )


def test_other_conditions_have_their_own_sentence():
    few, many = Smoothing(sigma=0.12, n0=10, n=100, alpha=0.001, seed=0), Smoothing(sigma=0.25, n0=100, n=1000)
    assert conditions({"twin": few, "engine": many}) == (
        "twin: σ = 0.12; 10 copies choose the class, 100 bound its probability; "
        "a certificate is wrong with a probability of at most 0.001; seed 0. "
        "engine: σ = 0.25; 100 copies choose the class, 1,000 bound its probability; "
        "a certificate is wrong with a probability of at most –; seed –."
    )
