from __future__ import annotations

import json

import pytest

from tests.engines.nets import small_net
from tscnc_deploy.engines import export_engine, load_target
from tscnc_deploy.engines.sparse_cpu.dispatch import dispatch
from tscnc_deploy.engines.structure import recount

pytestmark = pytest.mark.without_core


def test_multiply_adds_are_those_of_the_dense_layers(small_files):
    said = dispatch(recount(small_files.model))
    # 16 filters of 1x3x3 on 8x8, 32 filters of 8x3x3 on 4x4, 3 rows of 32.
    assert [layer["multiply_adds"] for layer in said["layers"]] == [16 * 9 * 64, 32 * 72 * 16, 3 * 32]
    assert said["multiply_add_density"] == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(("sparsity", "faster"), [(0.9, "this engine is the faster one"), (0.0, "the target onnx-cpu")])
def test_an_export_says_how_the_layers_run_and_why(tmp_path, sparsity, faster):
    export_engine(small_net(sparsity), load_target("sparse-cpu"), tmp_path, input_shape=(1, 8, 8))
    written = json.loads((tmp_path / "dispatch.json").read_text("utf-8"))
    assert faster in written["advice"]
    assert {layer["runs"] for layer in written["layers"]} == ({"sparse"} if sparsity else {"dense"})
