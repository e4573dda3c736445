from __future__ import annotations

import pytest

from tscnc_deploy.engines.sparse_cpu.latency import milliseconds_per_weight

pytestmark = pytest.mark.without_core


@pytest.mark.parametrize(
    ("side", "lines"), [(1, 1), (2, 1), (4, 1), (7, 4), (8, 4), (14, 14), (16, 16), (32, 64), (224, 3136)]
)
def test_a_weight_costs_a_load_for_every_line_and_one_for_itself(side, lines):
    one = milliseconds_per_weight(1, 1) / 2
    assert milliseconds_per_weight(side, side) == pytest.approx(one * (lines + 1))
