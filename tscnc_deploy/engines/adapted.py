"""An engine made elsewhere, seen as one of ours: with its normalisation and its order of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tscnc_deploy.engines.base import Array, CheckedEngine
from tscnc_deploy.errors import InputError


class AdaptedEngine(CheckedEngine):
    """Takes images in [0, 1] and gives logits in the data set's order of classes.

    Args:
        engine: A file of anybody's, whose own input is (images - mean) / std.
        mean: Per channel, or one for all, for values in [0, 1].
        std: Likewise, above 0.
        order: For each class of the data set, the place of its logit in the engine's output; None keeps the order.

    Raises:
        InputError: Mean, std or order do not fit the engine.
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
                msg = f"--{name} has {len(values)} values; give one, or one per channel ({channels})"
                raise InputError(msg)
        if min(std) <= 0:
            msg = f"--std {min(std):g}: standard deviations are above 0"
            raise InputError(msg)
        if order is not None and (len(set(order)) != len(order) or not set(order) <= set(range(spec.classes))):
            msg = f"the labels name classes that the engine's {spec.classes} logits do not have, or one twice"
            raise InputError(msg)
        super().__init__(replace(spec, classes=spec.classes if order is None else len(order)))
        self._engine = engine
        self._mean = np.array(mean, np.float32).reshape(-1, 1, 1)
        self._std = np.array(std, np.float32).reshape(-1, 1, 1)
        self._order = None if order is None else list(order)

    def _run(self, images: Array) -> Array:
        logits = self._engine.compute((images - self._mean) / self._std)
        return logits if self._order is None else logits[:, self._order]
