"""Parity: how far an engine's logits are from its twin's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tscnc_deploy.errors import InputError

Logits = Tensor | NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """The difference between an engine and its twin.

    Attributes:
        max_abs_diff: Largest difference of a logit, over clean and adversarial images; infinite if a logit is not
            finite.
        flips_clean: Indices of the clean images that the two classify differently.
        flips_adversarial: The same for the adversarial images.
        tolerance: Largest difference that is allowed.
        smallest_tolerance: Smallest tolerance with two significant digits that would have passed.
        passed: Whether the largest difference is within the tolerance.
    """

    max_abs_diff: float
    flips_clean: list[int]
    flips_adversarial: list[int]
    tolerance: float
    smallest_tolerance: float
    passed: bool

    def to_json(self) -> dict[str, object]:
        """All fields by name; an infinite difference is null."""
        return {
            "max_abs_diff": _finite(self.max_abs_diff),
            "flips_clean": self.flips_clean,
            "flips_adversarial": self.flips_adversarial,
            "tolerance": self.tolerance,
            "smallest_tolerance": _finite(self.smallest_tolerance),
            "passed": self.passed,
        }


def compare_logits(
    engine_clean: Logits, twin_clean: Logits, engine_adv: Logits, twin_adv: Logits, tolerance: float
) -> Parity:
    """Compares logits of the same images, float32 [N, K] each.

    Args:
        engine_clean: The engine's, on clean images.
        twin_clean: The twin's, on the same clean images.
        engine_adv: The engine's, on adversarial images.
        twin_adv: The twin's, on the same adversarial images.
        tolerance: Largest allowed difference of a logit.

    Raises:
        InputError: Logits of engine and twin have different shapes, or there are none.
    """
    clean_diff, flips_clean = _compare("clean", engine_clean, twin_clean)
    adversarial_diff, flips_adversarial = _compare("adversarial", engine_adv, twin_adv)
    largest = max(clean_diff, adversarial_diff)
    return Parity(
        max_abs_diff=largest,
        flips_clean=flips_clean,
        flips_adversarial=flips_adversarial,
        tolerance=tolerance,
        smallest_tolerance=_round_up(largest),
        passed=math.isfinite(largest) and largest <= tolerance,
    )


def _compare(which: str, engine: Logits, twin: Logits) -> tuple[float, list[int]]:
    first, second = (torch.as_tensor(logits, dtype=torch.float64, device="cpu") for logits in (engine, twin))
    if first.shape != second.shape or first.ndim != 2 or first.numel() == 0:
        msg = (
            f"logits on {which} images must be two arrays [N, K] of one shape, "
            f"not {list(first.shape)} (engine) and {list(second.shape)} (twin)"
        )
        raise InputError(msg)
    flips = (first.argmax(1) != second.argmax(1)).nonzero().squeeze(1).tolist()
    difference = (first - second).abs().max().item()
    return (difference if math.isfinite(difference) else math.inf), flips


def _round_up(value: float) -> float:
    """To two significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    exact = Decimal(value)
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=ROUND_CEILING))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
