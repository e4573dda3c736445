"""The attack inside the training loop: projected gradient ascent in the ball around each image.

It is tuned for speed: a fixed number of steps for the whole batch, and the last point is returned. Reported robust
accuracy comes from `tscnc_deploy.robustness`, whose attacks keep the best point of each image.
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
    """Images that increase a loss, by steepest ascent from a random start: along the gradient's sign, or for L2 itself.

    Args:
        model: The network; if it is in train mode, it is temporarily put into eval mode, because its batch norm must
            not use intermediate images. A `tscnc_deploy.models.folded.FoldedCopy` is fastest.
        images: float32 [N, C, H, W] in [0, 1].
        loss: Maps the logits of the perturbed images to a scalar summed over them. Sum instead of averaging: the mean
            of a large batch may make gradients underflow in half precision.
        norm: Norm of the perturbation.
        epsilon: Radius of the ball.
        steps: Number of steps.
        step_size: Length of a step, in the norm, for pixels in [0, 1].
        generator: Random generator for the start, on the images' device.

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
