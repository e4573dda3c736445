"""A network's gradients without the limits of float32: in float64, with logits scaled to margins of about 1.

Whoever scales the logits of a network by a power of two changes no class, but can make its gradient in float32 vanish
or overflow. An attack on the rescaled network in float64 sees the gradient that the network has.
"""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn

from tscnc_deploy.robustness.answers import as_logits
from tscnc_deploy.robustness.victims import EngineVictim, ModelVictim, Victim

_log = logging.getLogger(__name__)


class PreciseVictim:
    """A network in float64 whose logits are divided by their median margin on some images.

    Args:
        module: In eval mode; it is copied, not modified.
        images: float32 [N, C, H, W] in [0, 1] on the module's device, at least one.

    Attributes:
        scale: What the logits are multiplied by, positive and finite.

    Raises:
        Exception: Whatever the module raises, if it cannot compute in float64.
    """

    has_gradient = True

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        self._module = copy.deepcopy(module).double()
        self.device = images.device
        self.queries = 0
        with torch.no_grad():
            logits = self._module(images.double())
        as_logits(logits, len(images))
        best = logits.topk(min(2, logits.shape[1]), dim=1).values
        margin = float((best[:, 0] - best[:, -1]).median())
        self.scale = 1 / margin if margin > 0 and 0 < 1 / margin < float("inf") else 1.0

    def logits(self, images: Tensor) -> Tensor:
        """See `Victim.logits`."""
        with torch.no_grad():
            return self.differentiable(images)

    def differentiable(self, images: Tensor) -> Tensor:
        """See `Victim.differentiable`."""
        self.queries += len(images)
        # The scale is applied before the result becomes float32.
        return as_logits(self._module(images.double()) * self.scale, len(images))


def precise(victim: Victim, images: Tensor) -> PreciseVictim | None:
    """The network of a model or of an engine's twin in float64; None for other victims, or if it cannot be computed.

    Args:
        victim: The victim; it is not modified.
        images: See `PreciseVictim`, on any device.
    """
    model = victim.twin if isinstance(victim, EngineVictim) else victim
    if not isinstance(model, ModelVictim) or not len(images):
        return None
    try:
        return PreciseVictim(model.module, images.to(model.device))
    except Exception:  # third-party modules may raise anything, such as for a dtype that is written in their code
        _log.debug("not computed in float64", exc_info=True)
        return None
