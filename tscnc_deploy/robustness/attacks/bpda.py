"""APGD with a gradient that passes rectifiers which are flat or steep where the point is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tscnc_deploy.robustness.attacks.apgd import apgd_ascent
from tscnc_deploy.robustness.attacks.base import Ball, Best, evaluate_points, require_count, with_restarts
from tscnc_deploy.robustness.losses import cross_entropy, margin
from tscnc_deploy.robustness.noise import Noise
from tscnc_deploy.robustness.threat import Threat
from tscnc_deploy.robustness.victims import Victim

# Width of the smooth gates in terms of the inputs' root mean square, one for each restart in turn.
WIDTHS = (0.1, 0.3)
# Channels of fewer places have no root mean square of their own.
_LEAST_PLACES = 4


@dataclass(frozen=True)
class BPDA:
    """APGD-CE whose backward pass replaces each rectifier's derivative by a smooth one.

    The derivative of a rectifier is 0 or 1, so that a network can hide its gradient: thresholds made of steep pairs of
    rectifiers are flat nearly everywhere. Here the derivative of max(0, z) is sigmoid(z / (w r)), with r the root mean
    square of the channel for the image and w from `WIDTHS`; likewise at both ends of ReLU6 and of hardtanh. The forward
    pass, and so loss, best point and outcome, are the victim's own. Networks that hide nothing lose about as many
    images to it as to APGD-CE. GELU is treated likewise.

    Attributes:
        steps: Steps per run.
        restarts: Number of runs; runs after the first only attack images that are still robust.

    Source: Backward Pass Differentiable Approximation, Athalye et al., arXiv 1802.00420, section 4.1.2.
    """

    steps: int
    restarts: int = 1

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("bpda", "steps", self.steps)
        require_count("bpda", "restarts", self.restarts)

    @property
    def name(self) -> str:
        """bpda-STEPS, or bpda-STEPSxRESTARTS."""
        return f"bpda-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")

    def settings(self) -> dict[str, object]:
        """See `Attack.settings`."""
        return {"steps": self.steps, "restarts": self.restarts, "widths": list(WIDTHS), "losses": ["cross-entropy"]}

    def run(self, victim: Victim, images: Tensor, labels: Tensor, threat: Threat, noise: Noise) -> Tensor:
        """See `Attack.run`."""
        ball = Ball.around(images, threat)

        def restart(number: int, rows: Tensor) -> Best:
            part = ball.select(rows)
            smooth = _Smooth(victim, WIDTHS[number % len(WIDTHS)])
            start = part.random_points(noise.select(rows), number)
            points = apgd_ascent(smooth, cross_entropy, self.steps, part, start, labels[rows]).points
            return Best(points, *evaluate_points(victim, points, labels[rows], margin))

        return with_restarts(restart, self.restarts, images)


class _Smooth:
    """A victim with smooth gates in its backward pass."""

    has_gradient = True

    def __init__(self, victim: Victim, width: float) -> None:
        self._victim = victim
        self._width = width
        self.device = victim.device

    @property
    def queries(self) -> int:
        return self._victim.queries

    def logits(self, images: Tensor) -> Tensor:
        return self._victim.logits(images)

    def differentiable(self, images: Tensor) -> Tensor:
        with _SmoothGates(self._width):
            return self._victim.differentiable(images)


class _SmoothGates(TorchFunctionMode):
    """Replaces rectifiers, whichever way a module calls them."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self._width = width

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _RECTIFIERS:
            return _Gate.apply(args[0] if args else kwargs["input"], _RECTIFIERS[func], self._width)
        if func is F.hardtanh:
            # ReLU6 is hardtanh from 0 to 6.
            values = dict(zip(("input", "min_val", "max_val"), args, strict=False)) | kwargs
            least, most = (float(values.get(key, default)) for key, default in (("min_val", -1), ("max_val", 1)))
            if least == 0:
                return _Gate.apply(values["input"], most, self._width)
            if least > -_INFINITE:
                return least + _Gate.apply(values["input"] - least, most - least, self._width)
        if func is F.gelu:
            return _SmoothGELU.apply(args[0] if args else kwargs.pop("input"), kwargs, self._width)
        return func(*args, **kwargs)


_INFINITE = float("inf")
_RECTIFIERS: dict[Any, float] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu_), _INFINITE),
    F.relu6: 6.0,
}


class _Gate(torch.autograd.Function):
    """min(max(0, z), top) with a smooth derivative."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, top: float, width: float) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.top, ctx.width = top, width
        return inputs.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (inputs,) = ctx.saved_tensors
        reach = ctx.width * _scale(inputs)
        gate = torch.sigmoid(inputs / reach)
        if ctx.top < _INFINITE:
            gate = gate * torch.sigmoid((ctx.top - inputs) / reach)
        return slopes[0] * gate, None, None


class _SmoothGELU(torch.autograd.Function):
    """GELU, which for large inputs is a rectifier."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, settings: dict[str, Any], width: float) -> Tensor:
        ctx.save_for_backward(inputs)
        ctx.width = width
        return F.gelu(inputs, **settings)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        (inputs,) = ctx.saved_tensors
        return slopes[0] * torch.sigmoid(inputs / (ctx.width * _scale(inputs))), None, None


def _scale(inputs: Tensor) -> Tensor:
    """The root mean square of each channel of each image, so that it depends on no other image."""
    places = tuple(range(2, inputs.ndim))
    if not places or inputs[0, 0].numel() < _LEAST_PLACES:
        places = tuple(range(1, inputs.ndim))
    largest = inputs.abs().amax(places, keepdim=True).clamp(min=torch.finfo(inputs.dtype).tiny)
    # Squares of very large values overflow.
    return largest * (inputs / largest).square().mean(places, keepdim=True).sqrt().clamp(min=1e-6)
