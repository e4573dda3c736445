"""What the stages that attack write into the record."""

from dataclasses import replace

from tests.robustness.victims import linear
from tscnc_deploy.pipeline.stages.attacking import beyond_attacks
from tscnc_deploy.record import Evaluation
from tscnc_deploy.robustness import FGSM, EvalCase, ModelVictim, Threat, evaluate_case


def test_no_search_for_signs_is_not_a_search_that_found_none():
    model, images, labels, _ = linear(3, 8)
    case = EvalCase(ModelVictim(model), images, labels, Threat(epsilon=0.01), [FGSM()])
    searched, unsearched = (beyond_attacks(evaluate_case(replace(case, masking=looked))) for looked in (True, False))
    assert (searched, unsearched) == ({"warnings": []}, {"warnings": None})
    # And the record reads them so.
    assert Evaluation(**searched).warnings == ()
    assert Evaluation(**unsearched).warnings is None
