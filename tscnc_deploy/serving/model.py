"""The model that is served, and what clients are told about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.engines.base import Engine, EngineSpec

if TYPE_CHECKING:
    from tscnc_deploy.serving.page.content import Page

_TIMED_CALLS = 5


@dataclass(frozen=True, eq=False)
class Model:
    """An engine of a bundle, opened once per instance.

    Attributes:
        name: Name of the model, which is that of the bundle.
        version: "1", increased by one with each reload.
        digest: SHA-256 of the bundle's manifest, which contains the digests of all other files.
        engines: The instances.
        classes: Names of the classes, in the order of the logits.
        passed: Whether the bundle passed its gates and this engine was attacked.
        facts: Threat model, accuracies and gates, for the model's metadata.
        signed: Whether the bundle has the required signature; None if none is required.
        page: The page for browsers; None if the server has no page.
    """

    name: str
    version: str
    digest: str
    engines: tuple[Engine, ...]
    classes: tuple[str, ...]
    passed: bool
    facts: Mapping[str, Any]
    signed: bool | None = None
    page: Page | None = None

    @property
    def spec(self) -> EngineSpec:
        """The specification of the instances."""
        return self.engines[0].spec

    def warm_up(self, largest: int) -> list[float]:
        """Runs each instance on `largest` images and on one, so that no client waits for a slow first call.

        Returns:
            Durations in seconds of a few more calls with one image.
        """
        image, images = (np.zeros((count, *self.spec.input_shape), np.float32) for count in (1, largest))
        for engine in self.engines:
            for batch in (images, image):
                engine.logits(batch)
        times = [time.perf_counter()]
        for _ in range(_TIMED_CALLS):
            self.engines[0].logits(image)
            times.append(time.perf_counter())
        return [end - start for start, end in pairwise(times)]
