"""Parity: the difference between an engine's logits and its twin's."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.record import Parity

Logits = Tensor | NDArray[np.float32]


def compare_logits(
    engine_clean: Logits, twin_clean: Logits, engine_adv: Logits, twin_adv: Logits, tolerance: float
) -> Parity:
    """Compares logits of the same images, float32 [N, K] each.

    Args:
        engine_clean: The engine's, on clean images.
        twin_clean: The twin's, on the same clean images.
        engine_adv: The engine's, on adversarial images.
        twin_adv: The twin's, on the same adversarial images.
        tolerance: Largest allowed difference between logits.

    Raises:
        InputError: Logits of engine and twin have different shapes or are empty.
    """
    clean_diff, flips_clean = _compare("clean", engine_clean, twin_clean)
    adversarial_diff, flips_adversarial = _compare("adversarial", engine_adv, twin_adv)
    largest = max(clean_diff, adversarial_diff)
    return Parity(
        max_abs_diff=largest,
        flips_clean=tuple(flips_clean),
        flips_adversarial=tuple(flips_adversarial),
        tolerance=tolerance,
        smallest_tolerance=_round_up(largest),
        passed=math.isfinite(largest) and largest <= tolerance,
    )


def _compare(which: str, engine: Logits, twin: Logits) -> tuple[float, list[int]]:
    first, second = (torch.as_tensor(logits, dtype=torch.float64, device="cpu") for logits in (engine, twin))
    if first.shape != second.shape or first.ndim != 2 or first.numel() == 0:
        msg = (
            f"logits on {which} images must be two arrays [N, K] of the same shape, "
            f"not {list(first.shape)} (engine) and {list(second.shape)} (twin)"
        )
        raise InputError(msg)
    flips = (first.argmax(1) != second.argmax(1)).nonzero().squeeze(1).tolist()
    difference = (first - second).abs().max().item()
    return (difference if math.isfinite(difference) else math.inf), flips


def _round_up(value: float) -> float:
    """Rounds to two significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    exact = Decimal(value)
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=ROUND_CEILING))
