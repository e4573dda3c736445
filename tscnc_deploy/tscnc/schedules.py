"""Schedules of sparsity and of mask updates during pruning."""

from __future__ import annotations


def cubic_sparsity(progress: float, final: float, initial: float = 0.0) -> float:
    """Sparsity at a point of the pruning stage: rises fast at the beginning and slowly at the end.

    Args:
        progress: Share of the stage that is completed; clipped to [0, 1].
        final: Sparsity at progress 1, in [0, 1).
        initial: Sparsity at progress 0.

    Returns:
        final + (initial - final) * (1 - progress)^3, exactly `final` at 1.

    Source: Zhu and Gupta, "To prune, or not to prune", arXiv 1710.01878, equation 1.
    """
    progress = min(max(progress, 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** 3


def update_steps(updates: int, steps: int) -> list[int]:
    """Steps, from 0, at which masks change: evenly spaced from the first, so training also follows the last one."""
    updates = min(updates, steps)
    return [index * steps // updates for index in range(updates)]
