"""The threat model: how far an attacker may move an image."""

from __future__ import annotations

import math
from typing import cast

import torch
from pydantic import ValidationError
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.names import Norm
from tscnc_deploy.record import ThreatModel
from tscnc_deploy.robustness.projections import onto_l2_ball


class Threat(ThreatModel):
    """The record's threat model, with operations on images.

    Pixels stay in [0, 1], and perturbations have a length of at most epsilon.

    Attributes:
        norm: "Linf", every pixel may move by epsilon, or "L2", the root of the sum of squares over the whole image.
        epsilon: Radius in the unit of the pixels; for Linf in (0, 1], such as 8/255 = 0.0313725; for L2 above 0.

    Raises:
        InputError: Unknown norm, or an epsilon out of range.
    """

    def __init__(self, *, norm: str = "Linf", epsilon: float) -> None:
        try:
            super().__init__(norm=cast(Norm, norm), epsilon=epsilon)
        except ValidationError as error:
            raise InputError(_told(error)) from None

    def bounds(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Minimum and maximum of each pixel; for L2, if no other pixel moves.

        The bounds are the float32 numbers inside the interval that are nearest to its ends, so a point between them is
        never outside the Linf ball because of rounding.

        Args:
            images: float32 [N, C, H, W] in [0, 1].

        Returns:
            Two tensors with the shape of images; low <= images <= high.
        """
        exact = images.double()
        low, high = exact - self.epsilon, exact + self.epsilon
        # Adding 0 turns a -0.0 from clamping into 0.0, for runtimes that distinguish them.
        return _round_up(low).clamp(min=0) + 0.0, (-_round_up(-high)).clamp(max=1)

    def project(self, adversarial: Tensor, images: Tensor) -> Tensor:
        """Projects each adversarial point onto the intersection of the ball around its image and [0, 1].

        Args:
            adversarial: float32 [N, C, H, W], any finite values.
            images: float32 [N, C, H, W] in [0, 1], the centres.

        Returns:
            float32 [N, C, H, W], never outside the ball because of rounding; points inside are unchanged.
        """
        if self.norm == "Linf":
            low, high = self.bounds(images)
            return torch.clamp(adversarial, low, high)
        clipped = adversarial.clamp(0, 1) + 0.0
        inside = self.length(clipped.double() - images.double()) <= self.epsilon
        nearest = onto_l2_ball(adversarial, images, self.inner_radius(images)) + 0.0
        return torch.where(inside[:, None, None, None], clipped, nearest)

    def inner_radius(self, images: Tensor) -> float:
        """A radius of the L2 ball slightly below epsilon, which allows for rounding every pixel to float32."""
        # In [0, 1] rounding moves a pixel by at most 2**-25. The share of epsilon is for sums of squares in float32.
        return max(self.epsilon * (1 - 1e-6) - 2.0**-25 * math.sqrt(images[0].numel()), 0.0)

    def length(self, moves: Tensor) -> Tensor:
        """Length of each perturbation in the norm.

        Args:
            moves: float [N, C, H, W].

        Returns:
            [N], of the same type.
        """
        flat = moves.flatten(1)
        return flat.abs().amax(1) if self.norm == "Linf" else torch.linalg.vector_norm(flat, dim=1)


def _round_up(values: Tensor) -> Tensor:
    """The smallest float32 number that is not less than each float64 value."""
    rounded = values.float()
    above = torch.nextafter(rounded, torch.full_like(rounded, math.inf))
    return torch.where(rounded.double() < values, above, rounded)


def _told(error: ValidationError) -> str:
    """The first problem: "epsilon = 8 is not a radius in (0, 1], ..."."""
    problem = error.errors(include_url=False)[0]
    value, reason = problem["input"], problem["msg"].removeprefix("Value error, ")
    shown = f"{value:g}" if isinstance(value, int | float) else repr(value)
    return f"{problem['loc'][0]} = {shown}{'' if reason.startswith('is ') else ':'} {reason}"
