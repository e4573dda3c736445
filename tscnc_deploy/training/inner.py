"""The attack inside the training loop: projected gradient ascent in the Linf ball.

It is tuned for speed: a fixed number of steps for the whole batch, the last point returned. Robust accuracy that is
reported anywhere comes from `tscnc_deploy.robustness`, whose attacks keep the best point of every image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def ascend(
    model: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Tensor:
    """Images that raise a loss, by signed gradient steps from a random start.

    Args:
        model: The network; its batch norms use their running statistics meanwhile and are set back afterwards.
        images: float32 [N, C, H, W] in [0, 1].
        loss: Maps the logits of the perturbed images to a scalar summed over them. Summed, not averaged: the mean of
            a large batch pushes gradients towards the smallest numbers of half precision.
        epsilon: Radius of the ball.
        steps: Number of steps.
        step_size: Length of a step in pixel values.
        generator: Source of the start, on the images' device.

    Returns:
        float32 [N, C, H, W] in [0, 1], within epsilon of the images, detached.
    """
    was_training = model.training
    model.eval()
    lower, upper = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    noise = torch.empty_like(images).uniform_(-epsilon, epsilon, generator=generator)
    perturbed = torch.clamp(images + noise, lower, upper)
    for _ in range(steps):
        perturbed.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(perturbed)), perturbed)
        perturbed = torch.clamp(perturbed.detach() + step_size * gradient.sign(), lower, upper)
    model.train(was_training)
    return perturbed.detach()
