"""Every attack's settings survive the record: a build whose attack's do not would end in its last stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.robustness.victims import linear
from tscnc_deploy import record
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import FGSM, ModelVictim, Replay, Threat, TwinAPGD, evaluate, parse_attack
from tscnc_deploy.robustness.attacks.names import FORMS
from tscnc_deploy.robustness.settings import recorded_settings

ATTACKS = [
    *(parse_attack(form.usual) for form in FORMS.values()),
    Replay(torch.zeros(1, 1, 2, 2)),
    TwinAPGD(2, starts=torch.zeros(1, 1, 2, 2)),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_settings_survive_the_record(attack):
    evaluation = record.Evaluation(settings={attack.name: recorded_settings(attack, seed=7)})
    text = json.dumps(evaluation.to_json(), allow_nan=False)
    assert json.loads(text)["settings"][attack.name] == json.loads(json.dumps({**attack.settings(), "seed": 7}))
    assert record.Evaluation.model_validate(json.loads(text)) == evaluation


def test_several_losses_are_a_list():
    assert recorded_settings(TwinAPGD(2))["losses"] == ("cross-entropy", "dlr (margin below 4 classes)")


@dataclass(frozen=True)
class Odd(FGSM):
    value: Any = None

    def settings(self):
        return {"odd": self.value}


@pytest.mark.parametrize("value", [{"a": 1}, [[1]], object(), "x" * 300, [1] * 101])
def test_settings_that_no_record_holds_are_refused_before_the_attack(value):
    model, images, labels, _ = linear(2, 4)
    with pytest.raises(InputError, match="attack fgsm: its settings cannot be recorded: odd"):
        evaluate(
            ModelVictim(model), images, labels, Threat(epsilon=0.1), [Odd(value)],
            progress=lambda *_: pytest.fail("it was attacked"),
        )  # fmt: skip
