"""`tscnc-deploy verify` on a foreign graph that takes long for one image."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import ctrl_c_reaches_children, invoke

ROOT = Path(__file__).parents[2]
WIDTH = 2048


def write_slow(path, rounds):
    """Ten logits, which are pixels of the image after so many multiplications by one identity matrix."""
    chain = [
        helper.make_node("MatMul", [f"state{number}", "weights"], [f"state{number + 1}"]) for number in range(rounds)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "first"], ["state0"]),
            *chain,
            helper.make_node("MatMul", [f"state{rounds}", "last"], ["logits"]),
        ],
        "slow",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(np.eye(64, WIDTH, dtype=np.float32), "first"),
            numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "weights"),
            numpy_helper.from_array(np.eye(WIDTH, 10, k=-20, dtype=np.float32), "last"),
        ],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    path.write_bytes(model.SerializeToString())
    return path


OPTIONS = ("--dataset", "digits", "--samples", "64", "--attack", "square-3", "--threads", "1")


@pytest.mark.slow
def test_a_budget_bounds_the_first_batch_too(tmp_path):
    model = write_slow(tmp_path / "slow.onnx", 100)
    done = invoke("verify", model, *OPTIONS, "--budget", "1s", "--json")
    assert done.exit_code in (0, 1, 4), done.stderr
    stopped = json.loads(done.stdout)["stopped"]
    assert stopped["reason"] == "the budget is spent"
    assert 1 <= stopped["images"] <= 16


def is_computing(process):
    """Whether it has read nothing for a while, but used the processor."""

    def figures():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(Path(f"/proc/{process.pid}/io").read_text().split()[1]), int(fields[11])

    read, used = figures()
    time.sleep(1.5)
    now = figures()
    return now[0] == read and now[1] > used + 20


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "status"), [([signal.SIGTERM], 143), ([signal.SIGINT, signal.SIGINT], 130)])
def test_signals_end_it_within_two_seconds(tmp_path, signals, status):
    model = write_slow(tmp_path / "slow.onnx", 3_000)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tscnc_deploy", "verify", model, *OPTIONS]
    with ctrl_c_reaches_children():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        latest = time.monotonic() + 120
        while not is_computing(process):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < latest
        started = time.monotonic()
        for number in signals:
            process.send_signal(number)
            time.sleep(0.2)
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - started < 2
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == status
    assert said.endswith("interrupted; run the same command again to resume\n")
