"""Anything that maps images to logits, for evaluations that need no gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.victim import ModelVictim

Classifier = Callable[[Tensor], Tensor]
"""Maps float32 [N, C, H, W] in [0, 1] to logits [N, K] on any device: a model, a function, or a victim's `logits`."""


def classify(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits of one batch, float32 [N, K] on the CPU.

    Raises:
        InputError: A model in train mode, no matrix of one row per image, or values that are not finite.
    """
    if isinstance(classifier, nn.Module):
        classifier = ModelVictim(classifier).logits
    with torch.no_grad():
        logits = classifier(images).detach().float().cpu()
    if logits.ndim != 2 or len(logits) != len(images):
        msg = f"logits must have the shape [{len(images)}, K], not {list(logits.shape)}"
        raise InputError(msg)
    checks.check_finite(logits)
    return logits


def classify_clean(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Logits of the images as they are, float32 [N, K] on the CPU, once images, labels and logits are checked.

    Raises:
        InputError: What would give a wrong number; see `checks.check_images` and `checks.check_logits`.
    """
    checks.check_images(images, labels)
    if batch_size < 1:
        msg = f"batch_size = {batch_size} is not a number of images from 1 up"
        raise InputError(msg)
    logits = torch.cat([classify(classifier, batch) for batch in torch.split(images, batch_size)])
    checks.check_logits(logits, labels.cpu())
    return logits
