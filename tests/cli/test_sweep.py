import json

import pytest

from tests.conftest import TINY, invoke

pytestmark = pytest.mark.slow

SWEEP = """
description = "with and without the constraint"
recipe = "digits"
seeds = [0]
[variants.tscnc]
[variants.unconstrained]
constrain.constraint = "none"
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.toml").write_text(SWEEP)
    quick = TINY | {"train.epochs": 3, "finetune.epochs": 1, "verify.measures": "[]"}
    options = [part for key, value in quick.items() for part in ("--set", f"{key}={value}")]
    command = ("sweep", folder / "mine.toml", *options, "--out", folder / "runs", "--json")
    result = invoke(*command)
    assert result.exit_code == 0, result.stderr
    return folder, command, result


def test_every_recipe_is_built_and_compared(swept):
    folder, _, result = swept
    document = json.loads(result.stdout)
    assert [row["label"] for row in document["rows"]] == ["tscnc", "unconstrained"]
    assert document["rows"][0]["runs"][0]["robust"]["total"] == 60
    assert document["rows"][1]["settings"] == {"constrain.constraint": "none"}
    page = (folder / "runs" / "comparison.html").read_text()
    assert "with and without the constraint" in page


def test_one_dense_training_serves_both(swept):
    folder, _, result = swept
    trainings = [json.loads((folder / "runs" / name / "stages" / "train.json").read_text()) for name in _names(folder)]
    assert trainings[0] == trainings[1]
    assert result.stderr.count("train: reused") == 1


def test_a_finished_sweep_is_not_repeated(swept):
    _, command, first = swept
    again = invoke(*command)
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert "done in" not in again.stderr


def test_report_compares_the_same_runs(swept, tmp_path):
    folder, _, first = swept
    runs = [folder / "runs" / name for name in ("tscnc-seed0", "unconstrained-seed0")]
    result = invoke("report", "--compare", *runs, "--out", tmp_path / "page.html", "--json")
    assert json.loads(result.stdout) == json.loads(first.stdout)
    assert (tmp_path / "page.html").read_text().count("<svg") >= 2


def test_a_plan_runs_nothing(swept, tmp_path):
    folder, _, _ = swept
    result = invoke("sweep", folder / "mine.toml", "--out", tmp_path / "none", "--plan")
    assert result.exit_code == 0
    assert "2 builds, about" in result.stdout
    assert not (tmp_path / "none").exists()


def test_several_bundles_without_compare_are_refused(swept):
    folder, _, _ = swept
    result = invoke("report", *[folder / "runs" / name for name in _names(folder)])
    assert result.exit_code == 2
    assert "add --compare" in result.stderr


def test_without_a_name_the_shipped_sweeps_are_listed():
    assert "digits-constraints" in invoke("sweep").stdout


def test_a_wrong_key_is_named():
    result = invoke("sweep", "digits-constraints", "--set", "prune.sparsty=0.9")
    assert result.exit_code == 2
    assert "did you mean prune.sparsity?" in result.stderr


def _names(folder):
    return sorted(path.name for path in (folder / "runs").iterdir() if path.is_dir())


UPSAMPLING = """
from torch import nn


def make(classes, input_shape):
    return nn.Sequential(nn.ConvTranspose2d(1, 4, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(1024, classes))
"""


def test_a_target_that_does_not_run_a_network_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "net.py").write_text(UPSAMPLING)
    variant = f'[variants.own]\nmodel.arch = "{tmp_path}/net.py:make"\nmodel.width = 1.0\n'
    (tmp_path / "mine.toml").write_text(SWEEP + variant)
    result = invoke("sweep", tmp_path / "mine.toml", "--out", tmp_path / "runs")
    assert result.exit_code == 2, result.stderr
    assert "(ConvTranspose): it has no kernel; the engine sparse-cpu does not support it" in result.stderr
    assert list((tmp_path / "runs").glob("*/stages/train*")) == []
