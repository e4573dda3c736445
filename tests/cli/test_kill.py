import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ctrl_c_reaches_children, tiny_options

# Checkpoints so often that kills meet some.
SCRIPT = """
from tscnc_deploy.training import state
state.CHECKPOINT_SECONDS = 0.2
from tscnc_deploy.cli import main
main()
"""
COMMAND = [sys.executable, "-c", SCRIPT, "build"]


def start(folder):
    with ctrl_c_reaches_children():
        return subprocess.Popen(
            [*COMMAND, *tiny_options(), "--out", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def weights(folder):
    files = [
        "stages/prune/masks.safetensors",
        "stages/finetune/model.safetensors",
        "bundle/engines/onnx-cpu/model.onnx",
    ]
    return [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    started = time.monotonic()
    process = start(folder)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return weights(folder), time.monotonic() - started


@pytest.mark.slow
def test_kills_at_random_moments_change_no_byte(uninterrupted, tmp_path):
    expected, seconds = uninterrupted
    moments = random.Random(0)
    for _ in range(3):
        process = start(tmp_path / "run")
        time.sleep(moments.uniform(0.3, 1.0) * seconds)
        process.kill()
        process.communicate()
    process = start(tmp_path / "run")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert weights(tmp_path / "run") == expected


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_signal_is_a_message_and_its_exit_status(number, status, tmp_path):
    process = start(tmp_path / "run")
    line = process.stderr.readline()
    while line and "train" not in line:
        line = process.stderr.readline()
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == status
    assert "interrupted; run the same command again to resume" in errors
    assert "Traceback" not in errors
