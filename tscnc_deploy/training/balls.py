"""The ball around each training image to which the inner attack is restricted, for either norm.

Unlike those of `tscnc_deploy.robustness`, these balls are exact only up to float32 rounding, which is faster.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import Norm

_PIXELS = (1, 2, 3)


class Ball(Protocol):
    """The points in [0, 1] within epsilon of images, float32 [N, C, H, W] in [0, 1]."""

    def random_points(self, generator: torch.Generator) -> Tensor:
        """Random points of the ball, uniform before clipping to [0, 1]."""
        ...

    def steepest(self, gradient: Tensor) -> Tensor:
        """The directions of steepest ascent for these gradients, of length 1; zero where a gradient is zero."""
        ...

    def project(self, points: Tensor) -> Tensor:
        """Projects points onto the ball."""
        ...


class LinfBall:
    """Each pixel may move by epsilon."""

    def __init__(self, images: Tensor, epsilon: float) -> None:
        self.images, self.epsilon = images, epsilon
        self.lower, self.upper = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)

    def random_points(self, generator: torch.Generator) -> Tensor:
        noise = torch.empty_like(self.images).uniform_(-self.epsilon, self.epsilon, generator=generator)
        return self.project(self.images + noise)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def project(self, points: Tensor) -> Tensor:
        return torch.clamp(points, self.lower, self.upper)


class L2Ball:
    """The L2 length of the move of an image may be epsilon."""

    def __init__(self, images: Tensor, epsilon: float) -> None:
        self.images, self.epsilon = images, epsilon

    def random_points(self, generator: torch.Generator) -> Tensor:
        # A ball's volume grows with the power `numel` of its radius, and a normal distribution is isotropic.
        direction = self.steepest(torch.empty_like(self.images).normal_(generator=generator))
        share = torch.empty_like(self.images[:, :1, :1, :1]).uniform_(generator=generator)
        return self.project(self.images + self.epsilon * share ** (1 / self.images[0].numel()) * direction)

    def steepest(self, gradient: Tensor) -> Tensor:
        # Squares of very small gradients may underflow; scaled this way, the length is at least 1.
        largest = gradient.abs().amax(_PIXELS, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        scaled = gradient / largest
        return scaled / _length(scaled).clamp(min=1)

    def project(self, points: Tensor) -> Tensor:
        moves = points - self.images
        # Clipping last does not leave the ball, because it never moves a pixel away from the image.
        return (self.images + moves * (self.epsilon / _length(moves)).clamp(max=1)).clamp(0, 1)


def ball(norm: Norm, images: Tensor, epsilon: float) -> Ball:
    """The balls of a norm and a radius around images."""
    return LinfBall(images, epsilon) if norm == "Linf" else L2Ball(images, epsilon)


def check_radius(norm: Norm, epsilon: float, input_shape: tuple[int, int, int]) -> None:
    """Refuses an L2 radius that includes all images; for Linf, the recipe limits the radius.

    Raises:
        InputError: The message gives the largest distance between images of this shape.
    """
    farthest = math.sqrt(math.prod(input_shape))
    if norm == "L2" and epsilon >= farthest:
        hint = f"; write {epsilon / 255:.6g} for {epsilon:g}/255" if epsilon <= 255 else ""
        msg = f"threat.epsilon = {epsilon:g} is not below {farthest:.4g}, the largest L2 distance of such images{hint}"
        raise InputError(msg)


def _length(moves: Tensor) -> Tensor:
    return torch.linalg.vector_norm(moves, dim=_PIXELS, keepdim=True)
