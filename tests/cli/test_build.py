import json
import re
import shutil

import onnx
import pytest

from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.engines.onnx.structure import recount


def test_the_json_has_the_documented_keys(tiny_build):
    summary = tiny_build.summary
    assert set(summary) >= {"run", "bundle", "passed", "seconds", "stages", "model", "twin", "engines", "gates"}
    assert [stage["name"] for stage in summary["stages"]] == [
        "trial", "train", "prune", "finetune", "verify", "export", "reverify", "package",
    ]  # fmt: skip
    engine = summary["engines"]["onnx-cpu"]
    assert list(engine["attacks"]) == ["replay", "pgd-5", "square-20"]
    assert set(engine["robust"]) == {"correct", "total", "accuracy", "low", "high"}
    assert (engine["norm"], engine["epsilon"], engine["flips"]) == ("Linf", 0.1, 0)
    assert engine["max_abs_diff"] < 1e-3
    assert engine["bytes"] == (tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx").stat().st_size
    assert summary["passed"]


def test_sparsity_is_exact_to_the_weight_in_the_exported_file(tiny_build):
    structure = recount(tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx")
    assert structure.prunable - structure.nonzero == round(0.8 * structure.prunable)
    assert tiny_build.summary["model"]["nonzero"] == structure.nonzero


def test_multiply_adds_are_those_of_the_exported_file_wherever_they_are_shown(tiny_build):
    structure = recount(tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx")
    facts = tiny_build.summary["model"]
    counted = (structure.multiply_adds, structure.multiply_adds_left, structure.multiply_add_sparsity)
    assert (facts["multiply_adds"], facts["multiply_adds_left"], facts["multiply_add_sparsity"]) == counted
    assert facts["multiply_adds_left"] < facts["multiply_adds"]
    bundle = open_bundle(tiny_build.bundle)
    assert bundle.manifest.model.model_dump(mode="json") == facts
    assert sum(layer.multiply_adds_left for layer in bundle.record.layers) == facts["multiply_adds_left"]
    assert bundle.record.recipe["prune"]["budget"] == "parameters"
    assert bundle.record.schema_name == "tscnc-record/1"
    for file in ("report.html", "README.md"):
        assert f"{facts['multiply_adds_left']:,}" in (tiny_build.bundle / file).read_text(encoding="utf-8")
    assert f"{facts['multiply_adds_left']:,} of" in invoke("inspect", tiny_build.bundle).stdout


def test_engines_are_timed_beside_the_dense_network(tiny_build):
    latency = tiny_build.summary["latency"]
    assert (latency["threads"], latency["batch"], latency["rounds"]) == (1, 1, 30)
    assert latency["processor"]
    assert list(latency["engines"]) == ["dense network in onnxruntime", "onnx-cpu"]
    assert all(0 < call["min_ms"] <= call["median_ms"] for call in latency["engines"].values())


def test_the_exported_file_holds_sparse_initializers(tiny_build):
    model = onnx.load(tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx")
    assert len(model.graph.sparse_initializer) > 3


def test_robust_accuracy_is_the_worst_case_over_attacks(tiny_build):
    for evaluation in (tiny_build.summary["twin"], tiny_build.summary["engines"]["onnx-cpu"]):
        assert evaluation["robust"]["correct"] <= min(a["correct"] for a in evaluation["attacks"].values())
        assert evaluation["robust"]["total"] == 60


def test_twin_and_engine_are_searched_for_masking_and_measured_beyond_the_threat(tiny_build):
    page = (tiny_build.bundle / "report.html").read_text(encoding="utf-8")
    for evaluation in (tiny_build.summary["twin"], tiny_build.summary["engines"]["onnx-cpu"]):
        assert isinstance(evaluation["warnings"], list)
        assert all(warning["name"] in page for warning in evaluation["warnings"])
        assert evaluation["measures"]["corruptions"]["mean"]["total"] == 60
    assert "Beyond the threat model" in page


@pytest.mark.slow
def test_an_l2_build_attacks_in_l2(tmp_path):
    options = tiny_options(threat__norm="L2", threat__epsilon=0.4, train__epochs=1, train__clean_epochs=0)
    result = invoke("build", *options, "--set", "train.ramp_epochs=0", "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    engine = json.loads(result.stdout)["engines"]["onnx-cpu"]
    assert (engine["norm"], engine["epsilon"]) == ("L2", 0.4)
    bundle = open_bundle(tmp_path / "run" / "bundle")
    moves = bundle.evidence.adversarial["onnx-cpu"].astype("float64") - bundle.evidence.images
    assert 0.3 < abs((moves**2).sum((1, 2, 3)) ** 0.5).max() <= 0.4


@pytest.fixture
def finished(tiny_build, tmp_path):
    """A copy: other processes of the test run read the tiny build itself."""
    return shutil.copytree(tiny_build.folder, tmp_path / "run")


def test_a_second_build_reuses_every_stage(finished):
    result = invoke("build", *tiny_options(), "--out", finished, "--json")
    assert result.exit_code == 0
    assert all(stage["cached"] for stage in json.loads(result.stdout)["stages"])


def test_the_plan_runs_nothing(tiny_build):
    options = [*tiny_options(finetune__epochs=3), "--out", tiny_build.folder, "--plan", "--json"]
    plan = json.loads(invoke("build", *options).stdout)
    assert [stage["cached"] for stage in plan["stages"]] == [True, True, True, False, False, False, False, False]
    assert plan["train_images"] == 225
    assert plan["seconds"] > 0


def test_the_summary_names_figures_and_files(finished):
    result = invoke("build", *tiny_options(), "--out", finished)
    assert "80.00% sparsity, counted in the exported file" in result.stdout
    assert "worst case [95% interval]" in result.stdout
    assert "report.html" in result.stdout
    assert "train: reused" in result.stderr


def test_a_failed_gate_is_exit_status_1_and_named(tiny_build, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_build.folder, run)
    result = invoke("build", *tiny_options(gates__robust=0.999), "--out", run)
    assert result.exit_code == 1
    assert "FAILED twin: robust accuracy, lower end" in result.stdout
    missed = r"^error: gate failed: twin: robust accuracy, lower end: 0(\.\d+)?, at least 0\.999 is required$"
    assert re.search(missed, result.stderr, re.MULTILINE)
    assert not open_bundle(run / "bundle").manifest.passed
    assert invoke("verify", run).exit_code == 1


@pytest.mark.slow
def test_an_interval_that_straddles_its_limit_is_exit_status_4(tiny_build, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_build.folder, run)
    limit = tiny_build.summary["twin"]["clean"]["accuracy"]
    result = invoke("build", *tiny_options(gates__clean=limit), "--out", run)
    assert result.exit_code == 4
    assert "the interval contains the limit" in result.stderr
    verified = invoke("verify", run, "--attack", "replay")
    assert verified.exit_code == 4
    assert "would settle it" in verified.stderr


def test_no_engine_that_runs_here_is_exit_status_3_before_training(tmp_path):
    if _has_gpu():
        pytest.skip("needs a machine without a GPU")
    result = invoke("build", *tiny_options(), "--target", "onnx-cuda", "--out", tmp_path / "run")
    assert result.exit_code == 3
    assert "no engine can be attacked here" in result.stderr
    assert not (tmp_path / "run").exists()


def test_changed_test_images_do_not_train_anew(tiny_build):
    options = [*tiny_options(data__test_limit=50), "--out", tiny_build.folder, "--plan", "--json"]
    plan = json.loads(invoke("build", *options).stdout)
    assert [stage["cached"] for stage in plan["stages"]] == [True, True, True, True, False, False, False, False]


def test_a_plan_downloads_nothing_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("build", "--recipe", "cifar10", "--set", "data.download=true", "--plan")
    assert result.exit_code == 2
    assert "the data are missing, and --plan does not download" in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_shipped_recipe_names_no_place_of_this_machine(tiny_build):
    assert 'root = "data"' in (tiny_build.bundle / "recipe.toml").read_text()


@pytest.mark.slow
def test_an_engine_that_cannot_run_here_is_listed_with_its_reason(tiny_build, tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and _has_gpu():
        pytest.skip("needs a machine without a GPU")
    run = tmp_path / "run"
    shutil.copytree(tiny_build.folder, run)
    result = invoke("build", *tiny_options(), "--target", "onnx-cpu", "--target", "onnx-cuda", "--out", run, "--json")
    assert result.exit_code == 0, result.stderr
    assert "GPU" in json.loads(result.stdout)["engines"]["onnx-cuda"]["unavailable"]
    attacked = {name: entry.attacked for name, entry in open_bundle(run / "bundle").manifest.engines.items()}
    assert attacked == {"onnx-cpu": True, "onnx-cuda": False}
    verified = invoke("verify", run / "bundle", "--engine", "onnx-cuda")
    assert verified.exit_code == 3


def _has_gpu():
    import torch

    return torch.cuda.is_available()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sparsity", "95"], "write 0.95 for 95%"),
        (["--sparsity", "1.0"], "--sparsity"),
        (["--sparsity", "-0.1"], "--sparsity"),
        (["--sparsity", "nan"], "--sparsity"),
        (["--arch", "resnet8"], "resnet18"),
        (["--dataset", "cifar"], "cifar10"),
        (["--target", "onnx-cpuu"], "onnx-cpu"),
        (["--set", "prune.sparsty=0.9"], "sparsity"),
        (["--recipe", "digit"], "digits"),
        (["--dataset", "imagefolder", "--data-root", "/nowhere"], "/nowhere"),
        (["--set", "model.checkpoint=missing.pt"], "missing.pt"),
        (
            ["--set", "model.checkpoint_key=ema"],
            "model.checkpoint_key = 'ema' chooses among the weights of model.check",
        ),
        (["--sparsity", "0.9999", "--set", "prune.floor=0"], "lower the floor or the sparsity"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_2(options, message, tmp_path):
    result = invoke("build", *options, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    result = invoke("build", *tiny_options(), "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "is a file; give a folder for the run" in result.stderr


@pytest.mark.slow
def test_a_checkpoint_can_be_pruned_instead_of_training(tiny_build, tmp_path):
    checkpoint = tiny_build.folder / "stages" / "train" / "model.safetensors"
    options = tiny_options(model__checkpoint=checkpoint, train__epochs=0, train__clean_epochs=0, train__ramp_epochs=0)
    result = invoke("build", *options, "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["dense"]["clean"] == tiny_build.summary["dense"]["clean"]


def test_a_checkpoint_of_another_architecture_is_refused(tiny_build, tmp_path):
    checkpoint = tiny_build.folder / "stages" / "train" / "model.safetensors"
    result = invoke("build", *tiny_options(model__checkpoint=checkpoint), "--arch", "vgg16", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "vgg16" in result.stderr
