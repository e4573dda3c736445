from __future__ import annotations

import numpy as np
import pytest

from tscnc_deploy.engines.base import CheckedEngine, EngineSpec
from tscnc_deploy.engines.timing import time_engines, timing


class Recorder(CheckedEngine):
    """Notes each call in a list that it shares with others."""

    def __init__(self, name, calls):
        super().__init__(EngineSpec(name, "test", (1, 2, 2), 3, "fp32", "none"))
        self.calls = calls

    def _run(self, images):
        self.calls.append((self.spec.name, len(images), images.tobytes()))
        return np.zeros((len(images), 3), np.float32)


def test_percentiles_and_throughput_that_can_be_computed_by_hand():
    found = timing("x", 4, [1_000_000 * ms for ms in (1, 2, 3, 4, 90)])
    assert (found.p50_ms, found.min_ms, found.calls, found.batch) == (3.0, 1.0, 5, 4)
    assert found.p95_ms == pytest.approx(72.8)
    assert found.p99_ms == pytest.approx(86.56)
    assert found.images_per_second == pytest.approx(4 * 5 / 0.1)


def test_engines_take_turns_after_a_warm_up_on_the_same_images():
    calls, steps = [], []
    engines = {name: Recorder(name, calls) for name in "ab"}
    found = time_engines(
        engines, [1, 3], repeats=3, warmup=2, progress=lambda done, total, label: steps.append((done, total, label))
    )
    assert [(t.name, t.batch, t.calls) for t in found] == [("a", 1, 3), ("b", 1, 3), ("a", 3, 3), ("b", 3, 3)]
    assert "".join(name for name, batch, _ in calls if batch == 1) == "aabb" + "ab" + "ba" + "ab"
    assert len({images for _, batch, images in calls if batch == 3}) == 1
    assert steps[0] == (1, 6, "batch 1")
    assert steps[-1] == (6, 6, "batch 3")
