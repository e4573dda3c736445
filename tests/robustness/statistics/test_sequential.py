from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import GateTest, clopper_pearson

SMALL = GateTest(0.4, (4, 8, 12), confidence=0.8)
interval = functools.cache(SMALL.interval)


def outcomes(test, share):
    """Every sequence of right and wrong, followed to its end: decision, correct, images and probability."""
    for sequence in itertools.product((True, False), repeat=test.looks[-1]):
        chance = share ** sum(sequence) * (1 - share) ** (len(sequence) - sum(sequence))
        for look in test.looks:
            correct = sum(sequence[:look])
            decision = test.decide(correct, look)
            if decision != "undecided" or look == test.looks[-1]:
                yield decision, correct, look, chance
                break


def chances(test, share):
    """Probabilities of passing and of failing, and the expected number of images: every count, look by look."""
    counts, images, passed, failed = {0: 1.0}, 0.0, 0.0, 0.0
    for earlier, look in itertools.pairwise((0, *test.looks)):
        images += (look - earlier) * sum(counts.values())
        added = binom.pmf(np.arange(look - earlier + 1), look - earlier, share)
        weights = np.zeros(look + 1)
        for count, weight in counts.items():
            weights[count : count + len(added)] += weight * added
        decisions = [test.decide(count, look) for count in range(look + 1)]
        passed += sum(weight for weight, said in zip(weights, decisions, strict=True) if said == "passed")
        failed += sum(weight for weight, said in zip(weights, decisions, strict=True) if said == "failed")
        counts = {count: weights[count] for count, said in enumerate(decisions) if said == "undecided"}
    return passed, failed, images


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.55, 0.9, 1.0])
def test_chances_are_those_of_all_sequences_counted_out(share):
    ends = list(outcomes(SMALL, share))
    passed, failed, images = chances(SMALL, share)
    assert passed == pytest.approx(sum(chance for decision, _, _, chance in ends if decision == "passed"))
    assert failed == pytest.approx(sum(chance for decision, _, _, chance in ends if decision == "failed"))
    assert images == pytest.approx(sum(look * chance for _, _, look, chance in ends))


def test_every_look_spends_its_share_of_the_error():
    # A third of 10% at the first look: 4 of 4 have a probability of 0.0256 and pass, 0 of 4 one of 0.1296.
    assert [SMALL.decide(correct, 4) for correct in (0, 3, 4)] == ["undecided", "undecided", "passed"]
    # Two thirds at the second: 0 of 8 have one of 0.0168 and fail, 0 or 1 of 8 one of 0.1064.
    assert [SMALL.decide(correct, 8) for correct in (0, 1, 5, 6)] == ["failed", "undecided", "undecided", "passed"]
    assert [SMALL.decide(correct, 12) for correct in (2, 3, 7, 8)] == ["failed", "undecided", "undecided", "passed"]


@given(
    limit=st.floats(0.02, 0.98),
    looks=st.lists(st.integers(1, 400), min_size=1, max_size=12, unique=True).map(lambda looks: tuple(sorted(looks))),
    confidence=st.sampled_from([0.6, 0.9, 0.95, 0.99]),
    further=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_the_wrong_answer_is_as_rare_as_promised(limit, looks, confidence, further):
    test = GateTest(limit, looks, confidence)
    error = (1 - confidence) / 2 + 1e-12
    passed, failed, _ = chances(test, limit)
    assert passed <= error
    assert failed <= error
    assert chances(test, limit * (1 - further))[0] <= error
    assert chances(test, limit + further * (1 - limit))[1] <= error


@pytest.mark.parametrize("share", [0.03, 0.2, 0.35, 0.4, 0.45, 0.7, 0.97])
def test_interval_covers_the_share_after_stopping(share):
    missed = 0.0
    for _, correct, look, chance in outcomes(SMALL, share):
        low, high = interval(correct, look)
        missed += chance * (not low <= share <= high)
    assert missed <= 0.2 + 1e-12


def test_interval_after_stopping_at_a_look_chosen_beforehand_covers_the_share_too():
    shorter = GateTest(0.4, (4, 8), confidence=0.8)
    for share in (0.2, 0.4, 0.6):
        missed = 0.0
        for sequence in itertools.product((True, False), repeat=8):
            chance = share ** sum(sequence) * (1 - share) ** (8 - sum(sequence))
            # A budget ends the evaluation of SMALL after 8 images at the latest.
            look = 8 if SMALL.decide(sum(sequence[:4]), 4) == "undecided" else 4
            low, high = interval(sum(sequence[:look]), look)
            missed += chance * (not low <= share <= high)
        assert missed <= 0.2 + 1e-12
    assert SMALL.interval(3, 4) == pytest.approx(shorter.interval(3, 4))


def test_interval_agrees_with_the_decision():
    test = GateTest(0.7, (32, 64, 128))
    for look in test.looks:
        for correct in range(round(0.6 * look), round(0.8 * look) + 1):
            low, high = test.interval(correct, look)
            decision = test.decide(correct, look)
            assert decision != "passed" or low >= 0.7 - 1e-9
            assert decision != "failed" or high <= 0.7 + 1e-9
            if look == 128:
                assert (decision == "passed") == (low >= 0.7)
    assert {test.decide(correct, 128) for correct in range(129)} == {"passed", "failed", "undecided"}


@pytest.mark.parametrize("correct", [0, 1, 20, 49, 50])
def test_one_look_is_clopper_and_pearsons(correct):
    low, high = clopper_pearson(correct, 50)
    test = GateTest(0.4, (50,))
    assert test.interval(correct, 50) == pytest.approx((low, high), abs=1e-9)
    expected = "passed" if low >= 0.4 else "failed" if high <= 0.4 else "undecided"
    assert test.decide(correct, 50) == expected


def test_easy_gates_cost_few_images_and_close_ones_little_power():
    test = GateTest(0.4, (64, 128, 256, 512, 1000))
    assert chances(test, 0.7)[2] == pytest.approx(65.6, abs=0.1)
    assert chances(test, 0.3)[2] < 450
    # A single look at all images passes a share of 0.4437 with a probability of about 80%.
    single = GateTest(0.4, (1000,))
    assert chances(single, 0.4437)[0] == pytest.approx(0.7995, abs=1e-4)
    assert chances(test, 0.4437)[0] == pytest.approx(0.7554, abs=1e-4)


def test_between_looks_nothing_is_decided():
    assert SMALL.decide(7, 7) == "undecided"
    assert SMALL.decide(8, 8) == "passed"


def test_what_cannot_be_tested_is_refused():
    for limit in (0.0, 1.0, 40.0, float("nan")):
        with pytest.raises(InputError, match="limit = "):
            GateTest(limit, (10,))
    for looks in ((), (0, 5), (5, 5), (8, 4)):
        with pytest.raises(InputError, match="looks = "):
            GateTest(0.4, looks)
    with pytest.raises(InputError, match=r"confidence = 0\.05"):
        GateTest(0.4, (10,), confidence=0.05)
    with pytest.raises(InputError, match="5 of 4 images"):
        SMALL.decide(5, 4)
    with pytest.raises(InputError, match="13 images are more"):
        SMALL.interval(5, 13)
