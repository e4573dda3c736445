"""When an evaluation ends, and what its gates then say."""

from types import SimpleNamespace

import pytest

from tests.robustness.victims import Quantised, linear
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import APGDCE, EvalCase, ModelVictim, Threat, accuracy, evaluate_case
from tscnc_deploy.robustness.statistics.sequential import GateTest
from tscnc_deploy.verify import Budget
from tscnc_deploy.verify.stop import Stopping, doubling_looks


def known(correct, total, *, clean=None, queries=100, seconds=0.01):
    """All that a decision is made from: the counts so far, and what an image cost."""
    return SimpleNamespace(
        clean=accuracy(total if clean is None else clean, total),
        robust=accuracy(correct, total),
        queries={"clean": total, "pgd": (queries - 1) * total},
        seconds={"pgd": seconds * total},
    )


def test_without_a_bound_only_the_last_image_ends_it():
    stopping = Stopping(100)
    assert not stopping(known(50, 99))
    assert stopping(known(50, 100))
    assert stopping.reason is None
    assert stopping.confidence == 0.95


def test_a_round_that_would_exceed_the_queries_is_not_begun():
    stopping = Stopping(200, budget=Budget(queries=9_600), round_images=32)
    assert not stopping(known(20, 32))
    assert not stopping(known(40, 64))
    assert stopping(known(60, 96))
    assert stopping.reason == "the budget is spent"


def test_a_smaller_last_round_may_still_fit():
    stopping = Stopping(100, budget=Budget(queries=10_000), round_images=32)
    assert not stopping(known(60, 96))
    assert stopping(known(64, 100))
    assert stopping.reason is None


def test_seconds_are_those_of_the_clock_or_of_the_workers_together():
    stopping = Stopping(320, budget=Budget(seconds=9), round_images=64, workers=2)
    # 64 images took 8 worker seconds, 4 by the clock of two workers; 128 take 8, and 32 more would end at 10.
    assert not stopping(known(0, 64, seconds=8 / 64))
    assert stopping(known(0, 128, seconds=8 / 64))


def test_easy_gates_cost_few_images():
    stopping = Stopping(1000, limits={"clean": 0.5, "robust": 0.3}, first=64)
    assert stopping.confidence == pytest.approx(1 - 0.05 / 5)  # looks after 64, 128, 256, 512 and 1000 images
    assert stopping(known(60, 64))
    assert stopping.reason == "every gate is decided"
    decision = stopping.decisions["robust"]
    assert (decision.decision, decision.images, decision.limit) == ("passed", 64, 0.3)
    assert decision.low >= 0.3


def test_the_first_decision_of_a_gate_is_final():
    stopping = Stopping(256, limits={"clean": 0.9, "robust": 0.5}, first=64)
    assert not stopping(known(64, 64, clean=59))
    assert stopping.decisions.keys() == {"robust"}
    assert not stopping(known(64, 128, clean=117))
    assert stopping.decisions["robust"].images == 64
    assert stopping(known(100, 256, clean=250))
    assert stopping.reason is None
    expected = GateTest(0.9, (64, 128, 256)).interval(250, 256)
    assert (stopping.decisions["clean"].low, stopping.decisions["clean"].high) == expected


def test_a_gate_that_no_image_settles_is_undecided():
    stopping = Stopping(128, limits={"robust": 0.5}, first=64)
    assert not stopping(known(32, 64))
    assert stopping(known(65, 128))
    assert stopping.decisions["robust"].decision == "undecided"


def test_looks_double_up_to_all_images():
    assert doubling_looks(1000) == [64, 128, 256, 512, 1000]
    assert doubling_looks(64) == [64]
    assert doubling_looks(3) == [3]
    with pytest.raises(InputError, match="both must be at least 1"):
        doubling_looks(0)


def test_a_reserve_is_kept_for_what_follows_the_attacks():
    stopping = Stopping(200, budget=Budget(queries=20_000), round_images=32, reserve=0.5)
    assert not stopping(known(20, 32))
    assert not stopping(known(40, 64))
    assert stopping(known(60, 96))  # 96 images took 9,600 queries, and 32 more would take 3,200
    assert stopping.reason == "the budget is spent"
    assert stopping.affords(known(60, 96), 100) == 104
    assert stopping.affords(known(60, 96), 100, besides=1_400) == 90


def test_what_is_left_of_a_time_is_for_as_many_images_as_their_queries_take():
    stopping = Stopping(100, budget=Budget(seconds=1000), workers=2)
    # 10,000 queries took 200 worker seconds, 100 by the clock: 900 seconds are for 90,000 queries.
    assert stopping.affords(known(60, 100, seconds=2), 1000) == 90
    # Another 20,000 queries took 200 seconds of it.
    assert stopping.affords(known(60, 100, seconds=2), 1000, besides=20_000) == 70
    assert Stopping(100, budget=Budget(seconds=50)).affords(known(60, 100, seconds=2), 1000) == 0
    assert Stopping(100).affords(known(60, 100), 1000) is None


def test_attacks_search_and_stronger_attack_stay_within_the_budget_together():
    model, images, labels, distances = linear(3, 64)
    # No attack succeeds, so that each takes all of its queries.
    threat = Threat(epsilon=distances.min().item() / 2)
    victim = ModelVictim(Quantised(model, levels=1000))
    stopping = Stopping(64, budget=Budget(queries=160_000), round_images=64, reserve=0.5)
    case = EvalCase(victim, images, labels, threat, [APGDCE(5)], stronger=True)
    result = evaluate_case(case, shard_size=64, stop=stopping)
    assert result.stronger == ("float64-apgd", "square-2000", "hopskipjump-500")
    # More than the least number.
    assert 40 < len(result.case.labels) < 64
    assert 140_000 < victim.queries <= 160_000


def sizes(stopping, cost, total):
    """The sizes of the rounds of an evaluation of which each image costs so many queries and seconds."""
    found, seen, spent = [], 0, (0.0, 0.0)
    results = None
    while True:
        size = stopping.round_size(results)
        found.append(size)
        for image in range(seen, min(seen + (size or 32), total)):
            spent = spent[0] + cost(image)[0], spent[1] + cost(image)[1]
        seen = min(seen + (size or 32), total)
        results = SimpleNamespace(
            clean=accuracy(seen, seen), robust=accuracy(0, seen), queries={"pgd": spent[0]}, seconds={"pgd": spent[1]}
        )
        if stopping(results):
            return found, spent


def test_the_first_round_of_a_budget_grows_from_one_image():
    stopping = Stopping(200, budget=Budget(queries=20_000), round_images=32)
    assert sizes(stopping, lambda image: (100, 0.0), 200) == (
        [1, 3, 12, 16, None, None, None, None, None, None],
        (20_000, 0.0),
    )


@pytest.mark.parametrize(("seconds", "rounds"), [(5, [1]), (35, [1, 2]), (95, [1, 3, 5]), (1000, [1, 3, 12, 16])])
def test_a_slow_model_gets_as_many_images_as_fit(seconds, rounds):
    stopping = Stopping(32, budget=Budget(seconds=seconds), round_images=32)
    found, (_, spent) = sizes(stopping, lambda image: (100, 10.0), 32)
    assert found == rounds
    assert spent <= max(seconds, 10)  # the first image always runs
    assert stopping.reason == (None if seconds == 1000 else "the budget is spent")


def test_images_that_cost_nothing_say_little_of_the_others():
    stopping = Stopping(64, budget=Budget(seconds=100), round_images=64)
    found, (_, spent) = sizes(stopping, lambda image: (1, 0.001 if image < 4 else 10.0), 64)
    assert found == [1, 3, 12]
    assert spent < 125


def test_without_a_budget_rounds_are_whole():
    assert Stopping(100).round_size(None) is None
    assert Stopping(100, limits={"robust": 0.5}).round_size(known(32, 64)) is None
