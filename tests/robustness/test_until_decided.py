from __future__ import annotations

import json

import pytest
import torch

from tests.robustness.victims import linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import PGD, GateTest, ModelVictim, Threat, evaluate, evaluate_until_decided


def of(standing):
    return lambda indices: standing[indices]


def test_an_easy_gate_stops_at_the_first_look():
    standing = torch.arange(1000) % 10 != 0
    result = evaluate_until_decided(of(standing), 1000, 0.5)
    assert (result.decision, result.accuracy.total) == ("passed", 64)
    assert result.accuracy.low >= 0.5
    assert torch.equal(result.outcomes, standing[result.indices])
    assert evaluate_until_decided(of(~standing), 1000, 0.5).decision == "failed"


def test_a_close_gate_sees_every_image_once():
    standing = torch.arange(400) % 2 == 0
    calls = []
    result = evaluate_until_decided(of(standing), 400, 0.5, looks=[100, 400], progress=lambda *call: calls.append(call))
    assert result.decision == "undecided"
    assert sorted(result.indices.tolist()) == list(range(400))
    assert (result.accuracy.correct, result.accuracy.total) == (200, 400)
    assert [call[1:] for call in calls] == [(100, "undecided"), (400, "undecided")]


def test_images_come_in_a_random_order_that_the_seed_determines():
    sorted_by_outcome = torch.arange(1000) < 500
    first, second, other = (
        evaluate_until_decided(of(sorted_by_outcome), 1000, 0.2, seed=seed).indices for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert 16 < sorted_by_outcome[first[:64]].sum() < 48


def test_wrong_decisions_and_missing_intervals_are_rare():
    generator = torch.Generator().manual_seed(0)
    runs, passed, covered = 200, 0, 0
    for seed in range(runs):
        standing = torch.rand(500, generator=generator) < 0.4
        result = evaluate_until_decided(of(standing), 500, 0.4, looks=[50, 100, 200, 350, 500], seed=seed)
        passed += result.decision == "passed"
        covered += result.accuracy.low <= 0.4 <= result.accuracy.high
    # 2.5% of 200 are 5, with a standard deviation of 2.2.
    assert passed <= 11
    assert covered >= 190 - 9


def test_attacks_are_evaluated_until_the_gate_is_decided():
    model, images, labels, distances = linear(2, 300)
    threat = Threat(epsilon=distances.quantile(0.1).item())
    victim = ModelVictim(model)

    def robust(indices):
        return evaluate(victim, images[indices], labels[indices], threat, [PGD(3)]).robust_mask

    result = evaluate_until_decided(robust, 300, 0.5)
    assert result.decision == "passed"
    assert len(result.outcomes) == 64
    assert torch.equal(result.outcomes, distances[result.indices] > threat.epsilon)


def test_json_holds_counts_and_the_interval_that_allows_for_the_looks():
    standing = torch.arange(1000) % 10 != 0
    document = json.loads(json.dumps(evaluate_until_decided(of(standing), 1000, 0.8).to_json()))
    assert list(document) == ["decision", "limit", "confidence", "looks", "correct", "total", "accuracy", "low", "high"]
    test = GateTest(0.8, (64, 128, 256, 512, 1000))
    assert (document["low"], document["high"]) == test.interval(document["correct"], document["total"])


def test_answers_that_are_no_outcomes_and_looks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"bool \[64\], not torch.float32"):
        evaluate_until_decided(lambda indices: torch.ones(len(indices)), 100, 0.5)
    with pytest.raises(InputError, match=r"bool \[64\], not torch.bool \[100\]"):
        evaluate_until_decided(lambda _: torch.ones(100, dtype=torch.bool), 100, 0.5)
    with pytest.raises(InputError, match="do not end with the number of all images, 100"):
        evaluate_until_decided(of(torch.ones(100, dtype=torch.bool)), 100, 0.5, looks=[50, 90])
