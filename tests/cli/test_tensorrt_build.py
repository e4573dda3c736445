from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.errors import UnavailableError

pytestmark = pytest.mark.slow

no_gpu = pytest.mark.skipif(library.gpu_capability() is not None, reason="there is a GPU: the engine may run")
rtx = ("--target", "onnx-cpu", "--target", "tensorrt-rtx-fp16")


@pytest.fixture(scope="module")
def run(tiny_build, tmp_path_factory):
    """A finished build with an engine that needs a GPU to run, and none to be built; trained by the tiny build."""
    folder = Path(shutil.copytree(tiny_build.folder, tmp_path_factory.mktemp("build") / "run"))
    result = invoke("build", *tiny_options(), *rtx, "--out", folder, "--json")
    assert result.exit_code == 0, result.stderr
    return folder, json.loads(result.stdout)


@no_gpu
@pytest.mark.tensorrt_rtx
def test_an_engine_that_cannot_run_here_is_built_and_marked(run):
    folder, summary = run
    reason = summary["engines"]["tensorrt-rtx-fp16"]["unavailable"]
    assert reason.startswith("built for SM80, SM86, SM89, SM120, not run here: needs an NVIDIA GPU")
    entry = open_bundle(folder / "bundle").manifest.engines["tensorrt-rtx-fp16"]
    assert (entry.attacked, entry.unavailable, entry.precision) == (False, reason, "fp16")
    assert entry.build.made_for == ("SM80", "SM86", "SM89", "SM120")
    assert set(entry.build.precisions.values()) == {"fp32", "fp16"}
    assert summary["engines"]["onnx-cpu"]["robust"]["total"] == 60


@pytest.mark.tensorrt_rtx
def test_sparsity_is_counted_in_the_float32_file_and_halves_have_no_fewer_zeros(run):
    _, summary = run
    zeros = {gate["name"]: gate["value"] for gate in summary["gates"] if "zeros" in gate["name"]}
    wanted = round(0.8 * summary["model"]["prunable"])
    assert zeros["onnx-cpu: zeros counted in the file"] == wanted
    assert zeros["tensorrt-rtx-fp16: zeros counted in the file"] >= wanted


@no_gpu
@pytest.mark.tensorrt_rtx
def test_verifying_it_is_3_with_the_reason(run):
    result = invoke("verify", run[0], "--engine", "tensorrt-rtx-fp16")
    assert result.exit_code == 3
    assert "built for SM80, SM86, SM89, SM120 with tensorrt-rtx" in result.stderr
    assert "not run here: needs an NVIDIA GPU" in result.stderr


@no_gpu
@pytest.mark.tensorrt_rtx
def test_timing_leaves_it_out_with_the_reason_and_alone_it_is_3(run):
    options = ("--batch", "1", "--repeats", "1", "--warmup", "0", "--json")
    document = json.loads(invoke("bench", run[0], *options).stdout)
    assert {row["engine"] for row in document["results"]} == {"onnx-cpu"}
    assert "not run here: needs an NVIDIA GPU" in document["unavailable"]["tensorrt-rtx-fp16"]
    alone = invoke("bench", run[0], "--engine", "tensorrt-rtx-fp16", *options)
    assert (alone.exit_code, alone.stdout) == (3, "")


@pytest.mark.tensorrt_rtx
def test_a_changed_engine_in_a_bundle_is_refused_before_it_is_opened(run, tmp_path):
    bundle = shutil.copytree(run[0] / "bundle", tmp_path / "bundle")
    path = bundle / "engines" / "tensorrt-rtx-fp16" / "model.engine"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    result = invoke("verify", bundle, "--engine", "tensorrt-rtx-fp16")
    assert result.exit_code == 2
    assert "model.engine" in result.stderr


def test_a_build_whose_engine_cannot_be_written_here_ends_before_it_begins(tmp_path, monkeypatch):
    def missing(kind):
        msg = f"{kind} is not installed; run: pip install 'tscnc-deploy[{kind}]'"
        raise UnavailableError(msg)

    monkeypatch.setattr(library, "load", missing)
    result = invoke("build", *tiny_options(), *rtx, "--out", tmp_path / "run")
    assert result.exit_code == 3
    assert "target tensorrt-rtx-fp16: cannot be built here: tensorrt-rtx is not installed; run: pip" in result.stderr
    assert not (tmp_path / "run" / "stages" / "train").exists()
