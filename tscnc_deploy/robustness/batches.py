"""Refuses victims whose answer to an image depends on the other images of the batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.victims import BlackBoxVictim, EngineVictim, ModelVictim, Victim

if TYPE_CHECKING:
    from tscnc_deploy.engines.base import Array

# Engines that take any number of images are not asked about more at once.
_LARGEST = 1024


def require_independent_images(
    victim: Victim, images: Tensor, *, batch_size: int = 256, seed: int = 0, seconds: float = math.inf
) -> None:
    """Asks the victim about the same images alone and in batches, see `engines.batches.batch_dependence`.

    Engines are asked about batches of up to their own largest size, modules about up to `batch_size` images. A
    randomised victim that is evaluated by its expectation is not asked: its answers differ in any case.

    Args:
        victim: The victim, which gives the same answer when it is asked again.
        images: float32 [N, C, H, W] in [0, 1], on any device.
        batch_size: Largest batch for a module.
        seed: Chooses images, sizes and orders.
        seconds: When to end, see `batch_dependence`.

    Raises:
        InputError: It depends on the batch; the message says how.
    """
    # Attacks on modules need no engines, which take a while to import.
    from tscnc_deploy.engines.batches import DEPENDS, batch_dependence, tolerance_for

    if isinstance(victim, EngineVictim | BlackBoxVictim):
        spec = victim.engine.spec
        name, largest, tolerance = f"the engine {spec.name}", spec.batch_max, tolerance_for(spec.precision)
    elif isinstance(victim, ModelVictim):
        name, largest, tolerance = f"the model {type(victim.module).__name__}", batch_size, tolerance_for("fp32")
    else:
        return
    device = victim.device

    def classify(part: Array) -> Array:
        logits: Array = victim.logits(torch.from_numpy(part).to(device)).cpu().numpy()
        return logits

    asked, largest = victim.queries, min(largest, _LARGEST)
    found = batch_dependence(
        classify,
        images[:_LARGEST].detach().cpu().numpy(),
        largest=largest,
        tolerance=tolerance,
        seed=seed,
        seconds=seconds,
    )
    # They are no queries of an attack.
    victim.queries = asked
    if found is not None:
        msg = f"{name} {DEPENDS}: {found}"
        raise InputError(msg)


def takes_single_images(victim: Victim) -> bool:
    """Whether the victim is an engine that is given one image at a time, see `EngineSpec.single_images`."""
    return isinstance(victim, EngineVictim | BlackBoxVictim) and victim.engine.spec.single_images
