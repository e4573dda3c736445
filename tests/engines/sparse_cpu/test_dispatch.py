from __future__ import annotations

import json
import math

import pytest

from tests.engines.nets import small_net
from tscnc_deploy.engines import export_engine, load_target
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.sparse_cpu.dispatch import LayerCost, layer_costs, multiply_add_density
from tscnc_deploy.engines.sparse_cpu.lowering import lower

pytestmark = pytest.mark.without_core


def test_multiply_adds_are_those_of_the_dense_layers(small_files):
    costs = layer_costs(lower(read_onnx(small_files.model), small_files.model))
    # 16 filters of 1x3x3 on 8x8, 32 filters of 8x3x3 on 4x4, 3 rows of 32.
    assert [cost.multiply_adds for cost in costs] == [16 * 9 * 64, 32 * 72 * 16, 3 * 32]
    assert multiply_add_density(costs) == pytest.approx(0.25, abs=0.05)


def test_dense_3x3_layers_with_enough_channels_are_transformed(small_files):
    few_channels, stride_2, linear = layer_costs(lower(read_onnx(small_files.model), small_files.model))
    assert few_channels.transformed == pytest.approx(0.25 * (1 + 9 / 16 + 6 / 1))
    assert stride_2.transformed == linear.transformed == math.inf
    assert LayerCost("a", 1, 0.2, 0.3).runs == "sparse"
    assert LayerCost("a", 1, 0.4, 0.3).runs == "transformed"
    assert LayerCost("a", 1, 0.7).runs == "dense"


@pytest.mark.parametrize(
    ("sparsity", "faster"), [(0.9, "this engine is faster than onnx-cpu"), (0.0, "the target onnx-cpu")]
)
def test_an_export_says_how_the_layers_run_and_why(tmp_path, sparsity, faster):
    export_engine(small_net(sparsity), load_target("sparse-cpu"), tmp_path, input_shape=(1, 8, 8))
    written = json.loads((tmp_path / "dispatch.json").read_text("utf-8"))
    assert faster in written["advice"]
    assert {layer["runs"] for layer in written["layers"]} == ({"sparse"} if sparsity else {"dense"})
