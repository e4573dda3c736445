from __future__ import annotations

import json

import pytest

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    APGDCE,
    APGDDLR,
    APGDT,
    CW,
    ENSEMBLES,
    FAB,
    FABT,
    FGSM,
    PGD,
    Square,
    parse_attack,
    parse_attacks,
)


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("fgsm", FGSM()),
        ("pgd-20", PGD(20)),
        ("pgd-20x5", PGD(20, restarts=5)),
        ("apgd-ce-50", APGDCE(50)),
        ("apgd-ce-100x3", APGDCE(100, restarts=3)),
        ("cw-40", CW(40)),
        ("cw-40x2", CW(40, restarts=2)),
        ("apgd-dlr-100x5", APGDDLR(100, restarts=5)),
        ("apgd-t-100", APGDT(100, targets=9)),
        ("apgd-t-100x3", APGDT(100, targets=3)),
        ("fab-50", FAB(50)),
        ("fab-50x5", FAB(50, restarts=5)),
        ("fab-t-100", FABT(100, targets=9)),
        ("fab-t-100x2", FABT(100, targets=2)),
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
        ("apgd-t", "apgd-t-50"),
        ("apgd-td-20", "apgd-t-20"),
        ("fabt-20", "fab-t-20"),
        ("fab-20-3", "fab-20x3"),
        ("cw", "cw-50"),
        ("autoattack", "autoattack-standard"),
        ("autoattack-rand", "autoattack-standard"),
        ("Fast", "fast"),
    ],
)
def test_a_wrong_name_says_what_it_may_have_meant(name, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'"):
        parse_attack(name)


@pytest.mark.parametrize("name", ["", "42", "?!", "replay"])
def test_an_unknown_name_lists_the_attacks(name):
    with pytest.raises(InputError, match=r"The attacks are fgsm, pgd-STEPS\[xRESTARTS\], "):
        parse_attack(name)


@pytest.mark.parametrize("name", ["pgd-0", "pgd-5x0", "apgd-ce-0", "square-0", "fab-t-9x0", "cw-0"])
def test_zero_steps_restarts_or_queries_are_refused(name):
    with pytest.raises(InputError, match="= 0 is not a positive integer"):
        parse_attack(name)


def test_a_step_size_that_is_no_share_is_refused():
    with pytest.raises(InputError, match="step_size = -1"):
        PGD(10, step_size=-1)


def test_the_usual_step_size_is_two_and_a_half_over_the_steps():
    assert PGD(10).settings() == {"steps": 10, "restarts": 1, "step_size": 0.25, "loss": "cross-entropy"}


@pytest.mark.parametrize("name", list(ENSEMBLES))
def test_an_ensemble_is_no_single_attack(name):
    with pytest.raises(InputError, match=f"'{name}' is an ensemble, .*: apgd-ce-"):
        parse_attack(name)


def test_ensembles_stand_for_their_attacks():
    assert parse_attacks(["autoattack-standard"]) == [APGDCE(100), APGDT(100), FABT(100), Square(5000)]
    assert parse_attacks(["fast"]) == [APGDCE(50), APGDT(30), Square(500)]
    assert [attack.name for attack in parse_attacks(["autoattack-plus"])] == [
        "apgd-ce-100x5",
        "apgd-dlr-100x5",
        "fab-100x5",
        "square-5000",
        "apgd-t-100",
        "fab-t-100",
    ]


def test_attacks_are_listed_once_in_the_order_of_their_first_mention():
    names = ["square-5000", "fgsm", "autoattack-standard", "apgd-t-100x9", "fgsm"]
    assert [attack.name for attack in parse_attacks(names)] == [
        "square-5000",
        "fgsm",
        "apgd-ce-100",
        "apgd-t-100",
        "fab-t-100",
    ]
    assert parse_attacks([]) == []
