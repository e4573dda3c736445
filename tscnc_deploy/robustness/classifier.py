"""Anything that maps images to logits, for evaluations that need no gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness import checks
from tscnc_deploy.robustness.answers import as_logits
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.victims import ModelVictim

Classifier = Callable[[Tensor], Tensor]
"""Maps float32 [N, C, H, W] in [0, 1] to logits [N, K] on any device: a model, a function, or a victim's `logits`."""


def classify(classifier: Classifier, images: Tensor, classes: int | None = None) -> Tensor:
    """Logits of one batch, float32 [N, K] on the CPU.

    Args:
        classifier: Is asked without a gradient.
        images: float32 [N, C, H, W] on the classifier's device.
        classes: K, where an earlier batch has told it.

    Raises:
        InputError: A model in train mode, no matrix of one row per image, another number of classes, or values that
            are not finite.
    """
    if isinstance(classifier, nn.Module):
        classifier = ModelVictim(classifier).logits
    with torch.no_grad():
        logits = as_logits(classifier(images), len(images), classes).detach().cpu()
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
    parts: list[Tensor] = []
    for start in range(0, len(images), batch_size):
        with error_context(f"clean, after {start} of {len(images)} images"):
            classes = parts[0].shape[1] if parts else None
            parts.append(classify(classifier, images[start : start + batch_size], classes))
    logits = torch.cat(parts)
    checks.check_logits(logits, labels.cpu())
    return logits
