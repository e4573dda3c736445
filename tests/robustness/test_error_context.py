"""An endpoint that fails in the middle: everything that evaluates says where it was."""

from __future__ import annotations

import pytest
import torch

from tests.robustness.test_bad_input import (
    EVALUATIONS,
    FAULTS,
    IMAGES,
    LABELS,
    MODEL,
    SHAPE,
    THREAT,
    Fickle,
    Of,
    every_evaluation,
)
from tests.robustness.victims import Constant, ModuleEngine
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.robustness import FGSM, PGD, BlackBoxVictim, EngineVictim, ModelVictim, Square, evaluate
from tscnc_deploy.robustness.error_context import error_context


class Failing(ModuleEngine):
    """Raises after some calls."""

    def __init__(self, calls, error):
        super().__init__(MODEL, SHAPE, 3)
        self.calls = calls
        self.error = error

    def _run(self, images):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return super()._run(images)


class Counting(ModuleEngine):
    def __init__(self):
        super().__init__(MODEL, SHAPE, 3)
        self.calls = 0

    def _run(self, images):
        self.calls += 1
        return super()._run(images)


WHERE = {
    "evaluate": "square-5, after 4 of 6 images",
    "in shards": r"from image 4 on: fgsm, after 0 of 2 images",
    "masking": "apgd-ce-2, after 4 of 6 images",
    "curve": "epsilon 0.1: fgsm, after 0 of 1 images",
    "smallest": "moving examples back to their images",
    "corruptions": "contrast of severity 5, after 4 of 6 images",
    "certify": "certify, after 130 of 132 noisy images",
    "lipschitz": "lipschitz, after 4 of 6 images",
}


@pytest.mark.parametrize(("name", "where"), WHERE.items())
def test_the_last_call_that_fails_is_named_with_what_was_done(name, where):
    counting = Counting()
    EVALUATIONS[name](EngineVictim(counting, MODEL), IMAGES, LABELS, batch_size=2)
    engine = Failing(counting.calls - 1, UnavailableError("the server went away"))
    # The class, and so the exit status, stays what it was.
    with pytest.raises(UnavailableError, match=rf"^{where}.*the server went away$"):
        EVALUATIONS[name](EngineVictim(engine, MODEL), IMAGES, LABELS, batch_size=2)


@every_evaluation
def test_no_call_may_fail(run):
    counting = Counting()
    run(EngineVictim(counting, MODEL), IMAGES, LABELS, batch_size=4)
    for calls in range(counting.calls):
        with pytest.raises(InputError, match=r"engine 'small' failed on a batch of \d: OSError: connection reset"):
            run(EngineVictim(Failing(calls, OSError("connection reset")), MODEL), IMAGES, LABELS, batch_size=4)


def test_a_stranger_s_error_is_named_with_attack_and_images():
    victim = BlackBoxVictim(Failing(11, RuntimeError("out of memory")))
    message = "^square-5, after 2 of 6 images: engine 'small' failed on a batch of 2: RuntimeError: out of memory$"
    with pytest.raises(InputError, match=message) as caught:
        evaluate(victim, IMAGES, LABELS, THREAT, [Square(5)], batch_size=2)
    assert isinstance(caught.value.__cause__, InputError)
    assert isinstance(caught.value.__cause__.__cause__, RuntimeError)


def test_a_model_that_fails_says_where_in_a_note():
    def fail(images, logits):
        if images.max() > 0.75:
            raise ValueError("too bright")
        return logits

    with pytest.raises(ValueError, match="too bright") as caught:
        evaluate(ModelVictim(Of(fail)), IMAGES, LABELS, THREAT, [FGSM()])
    assert caught.value.__notes__ == ["fgsm, after 0 of 6 images"]


def test_places_are_nested():
    with (
        pytest.raises(UnavailableError, match=r"^outside: inside: gone$"),
        error_context("outside"),
        error_context("inside"),
    ):
        raise UnavailableError("gone")


@pytest.mark.parametrize("calls", [0, 1, 2, 5, 8])
@every_evaluation
def test_a_model_whose_number_of_classes_changes_is_refused(run, calls):
    victim = ModelVictim(Fickle(calls))
    if calls == 0:
        victim.classes = 3
    with pytest.raises(InputError, match=r"logits must have the shape \[\d, 3\], not \[\d, 4\]|instead of"):
        run(victim, IMAGES, LABELS, batch_size=2)


def test_a_model_that_drops_the_batch_of_one_is_refused():
    model = Of(lambda _, logits: logits.squeeze(0))
    with pytest.raises(InputError, match=r"clean, after 5 of 6 images: logits must have the shape \[1, 3\], not \[3\]"):
        evaluate(ModelVictim(model), IMAGES, LABELS, THREAT, [FGSM()], batch_size=5)


def test_a_model_whose_logits_are_repeated_for_all_images_is_refused():
    model = Of(lambda _, logits: logits[:1])
    with pytest.raises(InputError, match=r"\[6, K\], not \[1, 3\]"):
        evaluate(ModelVictim(model), IMAGES, LABELS, THREAT, [PGD(2)])


def test_a_twin_of_other_classes_is_refused():
    victim = EngineVictim(ModuleEngine(MODEL, SHAPE, 3), Constant([1.0]))
    with pytest.raises(InputError, match=r"the twin: logits must have the shape \[6, 3\], not \[6, 1\]"):
        evaluate(victim, IMAGES, LABELS, THREAT, [PGD(2)])


@pytest.mark.parametrize("name", ["evaluate", "masking", "curve"])
@pytest.mark.parametrize("fault", ["probabilities", "NaN"])
def test_a_twin_whose_gradient_would_lead_nowhere_is_refused(name, fault):
    change, message = FAULTS[fault]
    with pytest.raises(InputError, match=f"the twin: .*{message}"):
        EVALUATIONS[name](EngineVictim(ModuleEngine(MODEL, SHAPE, 3), Of(change)), IMAGES, LABELS)


def test_what_is_nan_at_the_second_call_is_not_taken_for_random():
    class SecondTime(torch.nn.Module):
        calls = 0

        def forward(self, images):
            self.calls += 1
            return MODEL(images) * (torch.nan if self.calls == 2 else 1)

    with pytest.raises(InputError, match="logits must be finite"):
        evaluate(ModelVictim(SecondTime().eval()), IMAGES, LABELS, THREAT, [FGSM()])
