import platform
import shutil

import pytest

from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.recipe.file import list_recipes, load_recipe


@pytest.fixture
def foreign_target(tmp_path):
    """A target of the engine sparse-cpu for the instructions of other processors: it can be exported here, not run."""
    instructions = "neon" if platform.machine() in ("x86_64", "AMD64") else "avx2"
    path = tmp_path / "foreign.toml"
    path.write_text(f'engine = "sparse-cpu"\ninstructions = "{instructions}"\n', encoding="utf-8")
    return path


def test_every_shipped_recipe_attacks_both_engines_of_a_cpu():
    targets = {info.name: load_recipe(info.name).export.targets for info in list_recipes()}
    assert set(targets.values()) == {("onnx-cpu", "sparse-cpu")}


@pytest.mark.slow
def test_an_engine_that_does_not_run_here_is_named_with_the_reason_and_stops_nothing(
    tiny_build, foreign_target, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(tiny_build.folder, run)
    targets = ("--target", "onnx-cpu", "--target", foreign_target)
    result = invoke("build", *tiny_options(), *targets, "--out", run)
    assert result.exit_code == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("foreign: ")]
    assert "not run here" in line
    engines = open_bundle(run / "bundle").manifest.engines
    assert (engines["onnx-cpu"].attacked, engines["onnx-cpu"].unavailable) == (True, None)
    assert not engines["foreign"].attacked
    assert engines["foreign"].unavailable in line
    record = open_bundle(run / "bundle").record
    assert list(record.latency.engines) == ["dense network in onnxruntime", "onnx-cpu"]


def test_alone_it_is_refused_before_anything_is_trained(foreign_target, tmp_path):
    result = invoke("build", *tiny_options(), "--target", foreign_target, "--out", tmp_path / "run")
    assert result.exit_code == 3
    assert "no engine can be attacked here" in result.stderr
    assert not (tmp_path / "run" / "stages").exists()
