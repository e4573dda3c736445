"""The balls around a batch of images, and what an attack does with them in either norm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tscnc_deploy.robustness.attacks.base import per_image
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat


@dataclass(frozen=True, eq=False)
class Ball:
    """Where the adversarial examples of each image may lie.

    Attributes:
        threat: Norm and radius.
        centres: The images, float32 [N, C, H, W] in [0, 1].
        low: Smallest value of each pixel, see `Threat.bounds`.
        high: Largest value of each pixel.
    """

    threat: Threat
    centres: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(cls, images: Tensor, threat: Threat) -> Ball:
        """The balls of a threat around images."""
        return cls(threat, images, *threat.bounds(images))

    def select(self, rows: Tensor) -> Ball:
        """The balls of some rows, an int64 or bool index."""
        return Ball(self.threat, self.centres[rows], self.low[rows], self.high[rows])

    def project(self, points: Tensor) -> Tensor:
        """See `Threat.project`."""
        if self.threat.norm == "Linf":
            return torch.clamp(points, self.low, self.high)
        return self.threat.project(points, self.centres)

    def random_points(self, noise: Noise, counter: int) -> Tensor:
        """Random points, float32 [N, C, H, W]: uniform in the Linf ball, or at a random place on the L2 sphere.

        In many dimensions nearly all of an L2 ball lies at its surface.
        """
        share = noise.uniform(counter, tuple(self.centres.shape[1:]))
        if self.threat.norm == "Linf":
            return self.project(torch.lerp(self.low, self.high, share))
        return self.project(self.centres + self.threat.epsilon * self.steepest(share - 0.5))

    def steepest(self, slope: Tensor) -> Tensor:
        """The move of length 1 along which a function of this gradient rises most; zero where the gradient is."""
        if self.threat.norm == "Linf":
            return slope.sign()
        # Gradients may be so small, or so large, that their squares are not floats any more; the sign of NaN is 0.
        slope = slope.nan_to_num()
        largest = per_image(slope.abs().flatten(1).amax(1))
        scaled = slope / torch.where(largest > 0, largest, 1)
        length = per_image(torch.linalg.vector_norm(scaled.flatten(1), dim=1))
        return scaled / torch.where(length > 0, length, 1)
