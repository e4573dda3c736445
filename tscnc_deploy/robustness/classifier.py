"""Anything that maps images to logits, for evaluations without gradients."""

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
        classifier: The classifier; called without gradients.
        images: float32 [N, C, H, W] on the classifier's device.
        classes: K, if known from an earlier batch.

    Raises:
        InputError: The model is in train mode, or its output is not a matrix with one row per image, has another number
            of classes, or has non-finite values.
    """
    if isinstance(classifier, nn.Module):
        classifier = ModelVictim(classifier).logits
    with torch.no_grad():
        logits = as_logits(classifier(images), len(images), classes).detach().cpu()
    checks.check_finite(logits)
    return logits


def classify_clean(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Checks images, labels and logits; returns the logits of the images, float32 [N, K] on the CPU.

    Raises:
        InputError: The input would give a wrong result; see `checks.check_images` and `checks.check_logits`.
    """
    checks.check_images(images, labels)
    if batch_size < 1:
        msg = f"batch_size = {batch_size} is not a positive number of images"
        raise InputError(msg)
    parts: list[Tensor] = []
    for start in range(0, len(images), batch_size):
        with error_context(f"clean, after {start} of {len(images)} images"):
            classes = parts[0].shape[1] if parts else None
            parts.append(classify(classifier, images[start : start + batch_size], classes))
    logits = torch.cat(parts)
    checks.check_logits(logits, labels.cpu())
    return logits
