from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tscnc_deploy.engines.base import EngineSpec
from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import (
    PGD,
    BlackBoxVictim,
    EngineVictim,
    EOTVictim,
    EvalCase,
    ModelVictim,
    Square,
    Threat,
    evaluate_case,
)
from tscnc_deploy.robustness.batches import require_independent_images

IMAGES = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.linear = nn.Linear(16, 3)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(3, 16, generator=generator))
            self.linear.bias.zero_()

    def forward(self, images):
        return self.linear((images - images.mean(0) if self.mean else images).flatten(1))


class Engine:
    def __init__(self, module: nn.Module, precision: str = "fp32") -> None:
        self.module = module
        self.spec = EngineSpec("other", "third party", (1, 4, 4), 3, precision, "cpu", batch_max=16)

    def logits(self, images):
        with torch.no_grad():
            return self.module(torch.from_numpy(images)).numpy()


HONEST, DEPENDENT = Network(mean=False).eval(), Network(mean=True).eval()


@pytest.mark.parametrize(
    "victim", [ModelVictim(HONEST), BlackBoxVictim(Engine(HONEST)), EngineVictim(Engine(HONEST), HONEST)]
)
def test_victims_that_treat_images_alone_are_accepted(victim):
    require_independent_images(victim, IMAGES)
    assert victim.queries == 0  # of attacks


@pytest.mark.parametrize(
    ("victim", "name"),
    [
        (ModelVictim(DEPENDENT), "the model Network"),
        (BlackBoxVictim(Engine(DEPENDENT)), "the engine other"),
        (EngineVictim(Engine(DEPENDENT, "int8"), HONEST), "the engine other"),
    ],
)
def test_victims_that_depend_on_the_batch_are_refused(victim, name):
    with pytest.raises(InputError, match=f"^{name} depends on the other images of the batch: its answer to an image "):
        require_independent_images(victim, IMAGES)


def case(victim, attack, **options):
    return EvalCase(victim, IMAGES, torch.arange(40) % 3, Threat(epsilon=0.1), [attack], masking=False, **options)


def test_an_evaluation_begins_with_it():
    with pytest.raises(InputError, match="the engine other depends on the other images of the batch"):
        evaluate_case(case(BlackBoxVictim(Engine(DEPENDENT)), Square(2)))
    with pytest.raises(InputError, match="the model Network depends on the other images of the batch"):
        evaluate_case(case(ModelVictim(DEPENDENT), PGD(2)))
    asked_before = evaluate_case(case(ModelVictim(DEPENDENT), PGD(2), batches=False))
    assert asked_before.evaluation.clean.total == 40


def test_a_randomised_victim_is_called_that_unless_its_mean_is_asked_for():
    class Noisy(Network):
        def forward(self, images):
            return super().forward(images) + torch.randn(len(images), 3)

    victim = ModelVictim(Noisy(mean=False).eval())
    with pytest.raises(InputError, match="the model is randomised"):
        evaluate_case(case(victim, PGD(2)))
    assert evaluate_case(case(EOTVictim(victim, 2), PGD(2))).evaluation.clean.total == 40


def test_images_that_cannot_be_given_are_refused_as_such():
    bad = EvalCase(ModelVictim(DEPENDENT), IMAGES * np.nan, torch.arange(40) % 3, Threat(epsilon=0.1), [PGD(2)])
    with pytest.raises(InputError, match=r"images must lie in \[0, 1\]"):
        evaluate_case(bad)
