from __future__ import annotations

import json

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import APGDCE, FGSM, PGD, Square, parse_attack


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("fgsm", FGSM()),
        ("pgd-20", PGD(20)),
        ("pgd-20x5", PGD(20, restarts=5)),
        ("apgd-ce-50", APGDCE(50)),
        ("apgd-ce-100x3", APGDCE(100, restarts=3)),
        ("square-1000", Square(1000)),
    ],
)
def test_names_and_attacks_belong_together(name, attack):
    assert parse_attack(name) == attack
    assert attack.name == name
    json.dumps(attack.settings())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("pgd", "pgd-20"),
        ("pgd20", "pgd-20"),
        ("PGD-40", "pgd-40"),
        ("pgd-20-5", "pgd-20x5"),
        ("apgd-50", "apgd-ce-50"),
        ("apgd_ce_50", "apgd-ce-50"),
        ("squares-500", "square-500"),
        ("square-500x2", "square-1000"),
        ("fgms", "fgsm"),
        ("fgsm-10", "fgsm"),
    ],
)
def test_a_wrong_name_says_what_it_may_have_meant(name, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        parse_attack(name)


@pytest.mark.parametrize("name", ["", "42", "autoattack!", "replay"])
def test_an_unknown_name_lists_the_attacks(name):
    with pytest.raises(InputError, match=r"The attacks are fgsm, pgd-STEPS\[xRESTARTS\], "):
        parse_attack(name)


@pytest.mark.parametrize("name", ["pgd-0", "pgd-5x0", "apgd-ce-0", "square-0"])
def test_zero_steps_restarts_or_queries_are_refused(name):
    with pytest.raises(InputError, match="= 0 is not a whole number from 1 up"):
        parse_attack(name)


def test_a_step_size_that_is_no_share_is_refused():
    with pytest.raises(InputError, match="step_size = -1"):
        PGD(10, step_size=-1)


def test_the_usual_step_size_is_two_and_a_half_over_the_steps():
    assert PGD(10).settings() == {"steps": 10, "restarts": 1, "step_size": 0.25, "loss": "cross-entropy"}
