"""The threat model: how far an attacker may move an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Every pixel may move by at most epsilon, and stays in [0, 1].

    Attributes:
        norm: Norm of the perturbation; "Linf" is the one there is.
        epsilon: Radius in the unit of the pixels, in (0, 1]; 8/255 is 0.0313725.

    Raises:
        InputError: Unknown norm, or an epsilon outside (0, 1].
    """

    norm: str = "Linf"
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm != "Linf":
            msg = f"norm = {self.norm!r} is not known; the norm of the perturbation is 'Linf'"
            raise InputError(msg)
        # Written so that NaN, which compares false with everything, is refused too.
        if not 0 < self.epsilon <= 1:
            hint = ""
            if 1 < self.epsilon <= 255:
                hint = f"; write {self.epsilon:g}/255 = {self.epsilon / 255:.6g}, not {self.epsilon:g}"
            msg = f"epsilon = {self.epsilon:g} is not a radius in (0, 1], the range of the pixels{hint}"
            raise InputError(msg)

    def bounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value that each pixel may take.

        The bounds are the float32 numbers nearest to the ends of the interval that lie inside it, so a point between
        them is never outside the ball by a rounding error.

        Args:
            images: float32 [N, C, H, W] in [0, 1].

        Returns:
            Two tensors like images; low <= images <= high.
        """
        exact = images.double()
        low, high = exact - self.epsilon, exact + self.epsilon
        # Adding 0 turns the -0.0 that clamping may leave into 0.0, for runtimes that tell the two apart.
        return _round_up(low).clamp(min=0) + 0.0, (-_round_up(-high)).clamp(max=1)

    def project(self, adversarial: Tensor, images: Tensor) -> Tensor:
        """The point of the ball around each image, and of [0, 1], that is nearest to the adversarial point.

        Args:
            adversarial: float32 [N, C, H, W], any finite values.
            images: float32 [N, C, H, W] in [0, 1], the centres.
        """
        low, high = self.bounds(images)
        return torch.clamp(adversarial, low, high)


def _round_up(values: Tensor) -> Tensor:
    """Smallest float32 number that is not below each float64 value."""
    rounded = values.float()
    above = torch.nextafter(rounded, torch.full_like(rounded, math.inf))
    return torch.where(rounded.double() < values, above, rounded)
