"""Randomised victims: detected, refused, or evaluated by their expectation."""

from __future__ import annotations

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.base import require_count
from tscnc_deploy.robustness.checks import check_finite
from tscnc_deploy.robustness.victims import Victim

# Two calls may differ by the order of sums on a GPU; randomised models differ by more.
REPEATABLE = 1e-3


class EOTVictim:
    """A randomised victim, evaluated by its mean logits over several calls (expectation over transformation).

    The mean is still random, although less so with more samples, and so are the results, whatever the seed of the
    evaluation. The gradient is that of the mean, so all samples of a batch are in memory at once.

    Args:
        victim: The randomised victim.
        samples: Number of calls to average, at least 1.

    Source: Athalye et al., "Synthesizing robust adversarial examples", arXiv 1707.07397.
    """

    def __init__(self, victim: Victim, samples: int) -> None:
        require_count("EOTVictim", "samples", samples)
        self.victim = victim
        self.samples = samples
        self.device = victim.device
        self.has_gradient = victim.has_gradient

    @property
    def queries(self) -> int:
        return self.victim.queries

    def logits(self, images: Tensor) -> Tensor:
        return torch.stack([self.victim.logits(images) for _ in range(self.samples)]).mean(0)

    def differentiable(self, images: Tensor) -> Tensor:
        return torch.stack([self.victim.differentiable(images) for _ in range(self.samples)]).mean(0)


def randomness(victim: Victim, images: Tensor) -> float:
    """Largest difference of a logit between two calls on the same images, relative to the largest logit.

    Args:
        victim: The victim, called twice.
        images: float32 [N, C, H, W] in [0, 1], on any device.

    Raises:
        InputError: A logit is not finite.
    """
    images = images.to(victim.device)
    first, second = victim.logits(images), victim.logits(images)
    for logits in (first, second):
        check_finite(logits)
    largest = first.abs().max().clamp(min=torch.finfo(first.dtype).tiny)
    return ((first - second).abs().max() / largest).item()


def check_repeatable(victim: Victim, images: Tensor) -> None:
    """Refuses a randomised victim, unless it is evaluated by its expectation.

    Raises:
        InputError: The message says by how much the logits differ.
    """
    if isinstance(victim, EOTVictim):
        return
    difference = randomness(victim, images)
    if difference > REPEATABLE:
        msg = (
            f"logits differ between two calls on the same images, by {difference:.3g} of the largest one: the model is "
            "randomised; evaluate its expectation instead: EOTVictim(victim, samples=32)"
        )
        raise InputError(msg)
