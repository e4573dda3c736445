"""The export of a twin in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ctrl_c_reaches_children
from tests.serving.servers import ROOT
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


def children(process):
    """Process numbers of its children, where the system tells."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see child processes")
def test_ctrl_c_is_one_line_and_ends_the_other_process(robust_build):
    command = [sys.executable, "-m", "tscnc_deploy", "check", robust_build]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TSCNC_THREADS": "2"}
    with ctrl_c_reaches_children():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    latest = time.monotonic() + 60
    while not (exporting_now := children(process)) and time.monotonic() < latest:
        time.sleep(0.05)
    assert exporting_now
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted; run the same command again to resume\n")
    assert not any(Path(f"/proc/{number}").exists() for number in exporting_now)
