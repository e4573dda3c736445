"""The attack inside the training loop: projected gradient ascent in the ball around each image.

It is tuned for speed: a fixed number of steps for the whole batch, the last point returned. Robust accuracy that is
reported anywhere comes from `tscnc_deploy.robustness`, whose attacks keep the best point of every image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tscnc_deploy.names import Norm
from tscnc_deploy.training.balls import ball


def inner_attack(
    model: nn.Module,
    images: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    norm: Norm,
    epsilon: float,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Tensor:
    """Images that raise a loss, by steepest steps from a random start: along the gradient's sign, in L2 along itself.

    Args:
        model: The network; if it is in train mode, it is put into eval mode meanwhile, as its batch norms must not
            learn from images on the way. Fastest is a `tscnc_deploy.models.folded.FoldedCopy`.
        images: float32 [N, C, H, W] in [0, 1].
        loss: Maps the logits of the perturbed images to a scalar summed over them. Summed, not averaged: the mean of
            a large batch pushes gradients towards the smallest numbers of half precision.
        norm: Of the perturbation.
        epsilon: Radius of the ball.
        steps: Number of steps.
        step_size: Length of a step, in the norm, for pixels in [0, 1].
        generator: Source of the start, on the images' device.

    Returns:
        float32 [N, C, H, W] in [0, 1], within epsilon of the images, detached.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", arXiv 1706.06083.
    """
    was_training = model.training
    if was_training:
        model.eval()
    around = ball(norm, images, epsilon)
    perturbed = around.random_points(generator)
    for _ in range(steps):
        perturbed.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(perturbed)), perturbed)
        perturbed = around.project(perturbed.detach() + step_size * around.steepest(gradient))
    if was_training:
        model.train()
    return perturbed.detach()
