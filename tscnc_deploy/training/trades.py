"""TRADES (Zhang et al., arXiv 1901.08573): accuracy on clean images plus agreement on adversarial ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tscnc_deploy.names import Norm
from tscnc_deploy.training.inner import inner_attack


@dataclass(frozen=True)
class Adversary:
    """Strength of the adversary in one step.

    Attributes:
        epsilon: Radius of the ball; 0 trains on clean images alone.
        beta: Weight of KL(adversarial || clean).
        steps: Steps of the inner attack.
        step_size: Length of a step as a share of epsilon.
        norm: Norm of the perturbation.
    """

    epsilon: float
    beta: float
    steps: int
    step_size: float
    norm: Norm = "Linf"

    def ramped(self, share: float) -> Adversary:
        """The adversary with epsilon and beta scaled by a share in [0, 1]."""
        return replace(self, epsilon=self.epsilon * share, beta=self.beta * share)

    def perturb(
        self, model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Tensor:
        """Images that increase a loss; see `inner_attack`."""
        return inner_attack(
            model,
            images,
            loss,
            norm=self.norm,
            epsilon=self.epsilon,
            steps=self.steps,
            step_size=self.step_size * self.epsilon,
            generator=generator,
        )


def trades_loss(
    model: nn.Module,
    attacked: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    adversary: Adversary,
    generator: torch.Generator,
) -> Tensor:
    """The TRADES loss of a batch.

    Clean and adversarial images are passed through the network as one batch, so batch norm uses common statistics, and
    convolutions process one large batch, which is faster than two halves.

    Args:
        model: The network in train mode.
        attacked: Returns the network in eval mode for the inner attack, as in the authors' code: the model, or a faster
            copy of it. Called only if there is an attack.
        images: float32 [N, C, H, W] in [0, 1].
        labels: int64 [N].
        adversary: The inner attack and beta.
        generator: Random generator for the attack's start.

    Returns:
        Scalar: CE(clean) + beta * KL(p_clean || p_adversarial).
    """
    if adversary.epsilon == 0:
        return F.cross_entropy(model(images).float(), labels)
    network = attacked()
    # The clean side of the divergence is the same in every step of the attack.
    with torch.no_grad():
        target = F.log_softmax(network(images).float(), dim=1)
    perturbed = adversary.perturb(network, images, lambda logits: _divergence(logits, target), generator)
    clean, adversarial = model(torch.cat([images, perturbed])).float().chunk(2)
    robust = _divergence(adversarial, F.log_softmax(clean, dim=1)) / len(images)
    return F.cross_entropy(clean, labels) + adversary.beta * robust


def _divergence(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || logits) summed over the batch; `target` holds log-probabilities."""
    return F.kl_div(F.log_softmax(logits.float(), dim=1), target, reduction="sum", log_target=True)
