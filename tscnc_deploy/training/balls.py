"""The ball around each training image that the inner attack stays in, for either norm.

Unlike those of `tscnc_deploy.robustness`, these balls are kept to the rounding of float32, which costs less.
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
    """What lies within epsilon of images, float32 [N, C, H, W] in [0, 1], and in [0, 1] itself."""

    def random_points(self, generator: torch.Generator) -> Tensor:
        """Points of the ball, uniform but for those that [0, 1] cuts off."""
        ...

    def steepest(self, gradient: Tensor) -> Tensor:
        """The moves of length 1 along which functions of these gradients rise most; zero where a gradient is."""
        ...

    def project(self, points: Tensor) -> Tensor:
        """Points of the ball near any others."""
        ...


class LinfBall:
    """Every pixel may move by epsilon."""

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
    """The root of the sum of squares over an image may be epsilon."""

    def __init__(self, images: Tensor, epsilon: float) -> None:
        self.images, self.epsilon = images, epsilon

    def random_points(self, generator: torch.Generator) -> Tensor:
        # A ball's volume grows with the power `numel` of its radius, and a normal distribution knows no direction.
        direction = self.steepest(torch.empty_like(self.images).normal_(generator=generator))
        share = torch.empty_like(self.images[:, :1, :1, :1]).uniform_(generator=generator)
        return self.project(self.images + self.epsilon * share ** (1 / self.images[0].numel()) * direction)

    def steepest(self, gradient: Tensor) -> Tensor:
        # Gradients may be so small that their squares are no floats any more; so scaled, their length is at least 1.
        largest = gradient.abs().amax(_PIXELS, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)
        scaled = gradient / largest
        return scaled / _length(scaled).clamp(min=1)

    def project(self, points: Tensor) -> Tensor:
        moves = points - self.images
        # Clipping comes last and keeps to the ball, as it moves no pixel away from the image.
        return (self.images + moves * (self.epsilon / _length(moves)).clamp(max=1)).clamp(0, 1)


def ball(norm: Norm, images: Tensor, epsilon: float) -> Ball:
    """The balls of a norm and a radius around images."""
    return LinfBall(images, epsilon) if norm == "Linf" else L2Ball(images, epsilon)


def check_radius(norm: Norm, epsilon: float, input_shape: tuple[int, int, int]) -> None:
    """Refuses an L2 radius within which every image is every other; the recipe bounds that of Linf itself.

    Raises:
        InputError: Says how far apart images of this shape are at most.
    """
    farthest = math.sqrt(math.prod(input_shape))
    if norm == "L2" and epsilon >= farthest:
        hint = f"; write {epsilon / 255:.6g} for {epsilon:g}/255" if epsilon <= 255 else ""
        msg = f"threat.epsilon = {epsilon:g} is not below {farthest:.4g}, the largest L2 distance of such images{hint}"
        raise InputError(msg)


def _length(moves: Tensor) -> Tensor:
    return torch.linalg.vector_norm(moves, dim=_PIXELS, keepdim=True)
