"""A faster equivalent network: batch norm in eval mode is folded into the preceding convolutions.

Attacks compute thousands of gradients of a network whose batch norm no longer changes; on small images its layers cost
as much as the convolutions. Points found with the folded network are judged by the original one.
"""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from tscnc_deploy.models.folded import FoldedCopy
from tscnc_deploy.robustness.victims import EngineVictim, ModelVictim, Victim

_log = logging.getLogger(__name__)
# Relative to the largest logit: folding only reorders sums; a larger difference means another function.
_AGREES = 1e-3
# The copy of each network that was folded last, with what it was made from: an evaluation in shards folds it often.
_copies: WeakKeyDictionary[nn.Module, tuple[object, FoldedCopy]] = WeakKeyDictionary()


def folded(victim: Victim, images: Tensor) -> Victim:
    """A victim with nearly the same logits whose network, or whose twin's network, is folded.

    Args:
        victim: The victim; it is not modified.
        images: float32 [N, C, H, W] in [0, 1] on the victim's device, for checking that both agree.

    Returns:
        The victim itself if there is nothing to fold, or if folding changes its logits.
    """
    if type(victim) is ModelVictim:
        module = _folded(victim, images)
        return victim if module is None else ModelVictim(module)
    if type(victim) is EngineVictim:
        module = _folded(victim.twin, images)
        return victim if module is None else EngineVictim(victim.engine, module)
    return victim


def _folded(victim: ModelVictim, images: Tensor) -> nn.Module | None:
    try:
        twin = _copy(victim.module, images)
        if twin.folds == 0:
            return None
        module = twin.refreshed()
        logits, expected = ModelVictim(module).logits(images), victim.logits(images)
    except Exception:  # third-party modules may raise anything; without folding they are only slower
        _log.debug("not folded", exc_info=True)
        return None
    if logits.shape != expected.shape:
        return None
    difference = (logits - expected).abs().max() / expected.abs().max()
    # Also false for NaN.
    return module if bool(difference <= _AGREES) else None


def _copy(module: nn.Module, images: Tensor) -> FoldedCopy:
    """A copy that shares the module's tensors as they are now, and whose folded layers may be out of date."""
    parts = [(name, type(part)) for name, part in module.named_modules()]
    tensors = [(name, tensor.data_ptr()) for name, tensor in module.state_dict(keep_vars=True).items()]
    made_from = (parts, tensors, images.shape[1:])
    known = _copies.get(module)
    if known is None or known[0] != made_from:
        known = (made_from, FoldedCopy(module, input_shape=(images.shape[1], images.shape[2], images.shape[3])))
        _copies[module] = known
    return known[1]
