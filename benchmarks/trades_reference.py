"""TRADES as its authors published it (arXiv 1901.08573), the peer of benchmarks/training.py.

Written anew from the published procedure: the network in eval mode during the attack, both sides of the divergence
computed in every inner step, then train mode, in which the clean images pass twice (once for each term) and the
adversarial ones once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Reference:
    """One network's training, a step at a time.

    Attributes:
        model: Trained in place.
        optimizer: Over its parameters.
        epsilon: Radius in Linf.
        beta: Weight of the divergence.
        steps: Of the inner attack.
        step_size: As a share of epsilon.
        generator: Of the attack's start.
        hoisted: The clean side of the divergence is computed once per attack: what a careful reader would change first.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    epsilon: float
    beta: float
    steps: int
    step_size: float
    generator: torch.Generator
    hoisted: bool = False

    def step(self, images: Tensor, labels: Tensor, share: float = 1.0) -> None:
        """Trains on a batch, with epsilon and beta scaled by a share; at 0, on clean images alone."""
        if share == 0:
            self.model.train()
            self._update(F.cross_entropy(self.model(images), labels))
            return
        perturbed = self._attack(images, self.epsilon * share)
        self.model.train()
        self.optimizer.zero_grad()
        natural = F.cross_entropy(self.model(images), labels)
        robust = _divergence(self.model(perturbed), self.model(images)) / len(images)
        self._update(natural + self.beta * share * robust)

    def _attack(self, images: Tensor, epsilon: float) -> Tensor:
        self.model.eval()
        noise = torch.empty_like(images).normal_(generator=self.generator)
        perturbed = images + 0.001 * noise
        clean = self.model(images).detach() if self.hoisted else None
        for _ in range(self.steps):
            perturbed.requires_grad_()
            loss = _divergence(self.model(perturbed), self.model(images) if clean is None else clean)
            (gradient,) = torch.autograd.grad(loss, [perturbed])
            perturbed = perturbed.detach() + self.step_size * epsilon * gradient.sign()
            perturbed = torch.min(torch.max(perturbed, images - epsilon), images + epsilon).clamp(0, 1)
        return perturbed

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _divergence(logits: Tensor, clean: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(logits, dim=1), F.softmax(clean, dim=1), reduction="sum")
