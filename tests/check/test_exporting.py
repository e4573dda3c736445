"""The export of a twin in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tscnc_deploy import open_bundle
from tscnc_deploy.check import exporting
from tscnc_deploy.check.exporting import TwinGraphs
from tscnc_deploy.engines.onnx.equivalence import difference_from_export


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(exporting, "_exported", {})


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_it_is_the_graph_that_is_made_here(robust_build, threads):
    bundle = open_bundle(robust_build)
    with TwinGraphs(bundle, ahead=True) as graphs:
        assert torch.get_num_threads() == 1
        found = graphs.graph("twin.safetensors")
        assert torch.get_num_threads() == 2
        assert graphs.graph("twin.safetensors") is found
    exporting._exported.clear()
    with TwinGraphs(bundle, ahead=False) as graphs:
        assert difference_from_export(graphs.graph("twin.safetensors"), found, Path("model.onnx")) is None


def test_where_the_other_process_ends_early_the_graph_is_made_here(robust_build, threads):
    with TwinGraphs(open_bundle(robust_build), ahead=True) as graphs:
        graphs._process.kill()
        assert not isinstance(graphs.graph("twin.safetensors"), str)
    assert torch.get_num_threads() == 2


def test_nothing_is_left_running(robust_build, threads):
    with pytest.raises(KeyboardInterrupt), TwinGraphs(open_bundle(robust_build), ahead=True) as graphs:
        process = graphs._process
        raise KeyboardInterrupt
    assert process.poll() is not None
    assert torch.get_num_threads() == 2
