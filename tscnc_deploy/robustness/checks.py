"""Checks of inputs: refuses what would give a wrong result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.robustness.attacks.base import Attack
from tscnc_deploy.robustness.error_context import error_context
from tscnc_deploy.robustness.victims import EngineVictim, Victim

# Tolerance for sums of probabilities that were computed in half precision.
_ROUNDING = 0.01


def check_images(images: Tensor, labels: Tensor) -> None:
    """Refuses anything but float32 [N, C, H, W] in [0, 1] with labels int64 [N], N at least 1.

    Raises:
        InputError: The message says what is wrong and, for values, where.
    """
    check_pixels(images)
    if labels.dtype != torch.int64 or labels.ndim != 1:
        msg = f"labels must be int64 [N], not {labels.dtype} {list(labels.shape)}"
        raise InputError(msg)
    if len(images) != len(labels):
        msg = f"{len(images)} images have {len(labels)} labels"
        raise InputError(msg)


def check_pixels(images: Tensor) -> None:
    """Refuses anything but float32 [N, C, H, W] in [0, 1], N at least 1.

    Raises:
        InputError: The message says what is wrong and, for values, where.
    """
    if images.dtype != torch.float32 or images.ndim != 4:
        hint = "; divide uint8 pixels by 255" if images.dtype == torch.uint8 else ""
        msg = f"images must be float32 [N, C, H, W], not {images.dtype} {list(images.shape)}{hint}"
        raise InputError(msg)
    if images.numel() == 0:
        msg = f"there is nothing to evaluate: images of shape {list(images.shape)}"
        raise InputError(msg)
    # One comparison catches both bounds and NaN, which compares false with everything.
    outside = ~((images >= 0) & (images <= 1))
    if outside.any():
        place = tuple(outside.nonzero()[0].tolist())
        msg = f"images must lie in [0, 1]: the value at {list(place)} is {images[place].item():g}"
        raise InputError(msg)


def check_attacks(attacks: Sequence[Attack], victim: Victim) -> None:
    """Refuses an empty list of attacks, duplicate names, and gradient attacks on a victim without gradients.

    Raises:
        InputError: The message names the attack.
    """
    if not attacks:
        msg = "no attacks given; robust accuracy without an attack would be clean accuracy"
        raise InputError(msg)
    names = [attack.name for attack in attacks]
    for attack in attacks:
        if names.count(attack.name) > 1:
            msg = f"attack {attack.name!r} is given {names.count(attack.name)} times; give it once"
            raise InputError(msg)
        if attack.needs_gradient and not victim.has_gradient:
            msg = f"attack {attack.name!r} needs gradients, but an engine without a twin has none; use square or replay"
            raise InputError(msg)


def check_finite(logits: Tensor) -> None:
    """Refuses NaN and infinity.

    Raises:
        InputError: The message names the row.
    """
    bad = ~logits.isfinite().all(1)
    if bad.any():
        msg = f"logits must be finite: those of image {int(bad.nonzero()[0])} of the batch are {_first(logits, bad)}"
        raise InputError(msg)


def check_values(logits: Tensor) -> None:
    """Refuses fewer than two classes, values that are not finite, and probabilities.

    Args:
        logits: float32 [N, K] on the clean images.

    Raises:
        InputError: The message says which of these was found.
    """
    classes = logits.shape[1]
    if classes < 2:
        msg = f"logits of {classes} class cannot be attacked; at least two classes are needed"
        raise InputError(msg)
    check_finite(logits)
    if (logits >= 0).all() and ((logits.sum(1) - 1).abs() < _ROUNDING).all():
        msg = "the logits look like probabilities (no row is negative, all sum to 1); give logits, before the softmax"
        raise InputError(msg)


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Refuses logits that do not match the labels.

    Args:
        logits: float32 [N, K] on the clean images.
        labels: int64 [N].

    Raises:
        InputError: Fewer than two classes, values that are not finite, probabilities, or labels out of range.
    """
    if logits.ndim != 2 or len(logits) != len(labels):
        msg = f"logits must have the shape [{len(labels)}, K], not {list(logits.shape)}"
        raise InputError(msg)
    check_values(logits)
    classes = logits.shape[1]
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        msg = f"labels must lie in 0 to {classes - 1}: label {row} is {int(labels[row])}"
        raise InputError(msg)


def check_twin(victim: Victim, images: Tensor) -> None:
    """Refuses an engine with a twin whose outputs are not logits, because its gradients would be misleading.

    Args:
        victim: Anything; only an `EngineVictim` has a twin.
        images: float32 [N, C, H, W] in [0, 1], a few images on any device.

    Raises:
        InputError: See `check_values`.
    """
    if isinstance(victim, EngineVictim):
        with error_context("the twin"):
            check_values(victim.twin.logits(images.to(victim.device)))


def _first(logits: Tensor, bad: Tensor) -> list[float]:
    row: list[float] = logits[bad][0].tolist()
    return row
