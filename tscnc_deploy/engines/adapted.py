"""Adapts a third-party engine: applies its normalisation and reorders its classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tscnc_deploy.engines.base import Array, CheckedEngine
from tscnc_deploy.errors import InputError


class AdaptedEngine(CheckedEngine):
    """Takes images in [0, 1] and returns logits in the data set's class order.

    Args:
        engine: A third-party engine that expects (images - mean) / std.
        mean: One value per channel or one for all channels, for pixels in [0, 1].
        std: The same for the standard deviation; above 0.
        order: For each class of the data set, the index of its logit in the engine's output; None keeps the order.

    Raises:
        InputError: `mean`, `std` or `order` does not match the engine.
    """

    def __init__(
        self,
        engine: CheckedEngine,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        order: tuple[int, ...] | None = None,
    ) -> None:
        spec = engine.spec
        channels = spec.input_shape[0]
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                msg = f"--{name} has {len(values)} values; give one value or one per channel ({channels})"
                raise InputError(msg)
        if min(std) <= 0:
            msg = f"--std {min(std):g}: standard deviations must be above 0"
            raise InputError(msg)
        if order is not None and (len(set(order)) != len(order) or not set(order) <= set(range(spec.classes))):
            msg = f"the labels name a class that is not among the engine's {spec.classes} logits, or name one twice"
            raise InputError(msg)
        super().__init__(replace(spec, classes=spec.classes if order is None else len(order)))
        self._engine = engine
        self._mean = np.array(mean, np.float32).reshape(-1, 1, 1)
        self._std = np.array(std, np.float32).reshape(-1, 1, 1)
        self._order = None if order is None else list(order)

    def _run(self, images: Array) -> Array:
        logits = self._engine.compute((images - self._mean) / self._std)
        return logits if self._order is None else logits[:, self._order]
