from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

from tscnc_deploy.pipeline.closure import PACKAGE, closure
from tscnc_deploy.pipeline.fingerprint import fingerprint, libraries
from tscnc_deploy.pipeline.stages import STAGES
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.versions import installed_version

STAGE_FILES = {stage.name: Path(inspect.getfile(type(stage))) for stage in STAGES}
BY_NAME = {stage.name: stage for stage in STAGES}
# Their versions change no output.
INERT = {"filelock", "joblib", "packaging", "platformdirs", "protobuf", "pydantic", "ray", "safetensors"}


def folders(name):
    return {path.relative_to(PACKAGE).parts[0] for path in closure(STAGE_FILES[name]).files if path.parent != PACKAGE}


@pytest.mark.parametrize("name", ["train", "finetune"])
def test_training_depends_on_what_trains(name):
    assert folders(name) == {"data", "models", "pipeline", "training", "tscnc"}


def test_pruning_depends_on_the_latency_model_of_an_engine_and_on_nothing_else_of_engines():
    assert folders("prune") == {"data", "engines", "models", "pipeline", "training", "tscnc"}
    of_engines = [path.name for path in closure(STAGE_FILES["prune"]).files if PACKAGE / "engines" in path.parents]
    assert of_engines == ["latency.py"]


def test_stages_depend_on_nothing_above_them():
    for name in STAGE_FILES:
        assert not folders(name) & {"cli", "check", "serving", "verify"}, name
    assert [name for name in STAGE_FILES if folders(name) & {"report", "bundle"}] == ["package"]
    assert [name for name in STAGE_FILES if "robustness" in folders(name)] == ["verify", "reverify", "package"]


def test_the_schema_of_recipes_counts_by_value_and_its_writer_by_source():
    assert [name for name in STAGE_FILES if "recipe" in folders(name)] == ["package"]
    assert PACKAGE / "recipe" / "file.py" in closure(STAGE_FILES["package"]).files


def test_the_sources_of_the_sparse_engine_count_where_it_is_written_and_run():
    plan = PACKAGE / "engines" / "sparse_cpu" / "csrc" / "plan.cpp"
    assert {name for name in STAGE_FILES if plan in closure(STAGE_FILES[name]).files} >= {"export", "reverify"}
    assert plan not in closure(STAGE_FILES["train"]).files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", {"numpy", "pillow", "scikit-learn", "torch", "torchvision"}),
        ("prune", {"numpy", "pillow", "scikit-learn", "torch", "torchvision"}),
        ("finetune", {"numpy", "pillow", "scikit-learn", "torch", "torchvision"}),
        ("verify", {"numpy", "pillow", "scikit-learn", "scipy", "torch", "torchvision"}),
        (
            "export",
            {"numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "onnxscript", "pillow", "scikit-learn"}
            | {"tensorrt", "tensorrt-rtx", "torch", "torchvision"},
        ),
        (
            "reverify",
            {"numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "onnxscript", "pillow", "scikit-learn"}
            | {"scipy", "tensorrt", "tensorrt-rtx", "torch", "torchvision"},
        ),
    ],
)
def test_libraries_are_those_that_compute(name, expected):
    found = libraries(STAGE_FILES[name])
    assert set(found) == expected
    assert found["torch"] == version("torch")


def test_only_the_stage_that_renders_depends_on_what_renders():
    assert {"jinja2", "matplotlib"} <= set(libraries(STAGE_FILES["package"]))


@pytest.mark.parametrize("name", STAGE_FILES)
def test_every_imported_distribution_counts_unless_it_is_inert(name):
    """Read in another way than the product reads them: every import in the text, and its distributions as installed."""
    installed = packages_distributions()
    counted = set(libraries(STAGE_FILES[name])) | INERT
    for path in closure(STAGE_FILES[name]).files:
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                top = module.partition(".")[0]
                if top in sys.stdlib_module_names | {"tscnc_deploy"}:
                    continue
                assert {found.lower() for found in installed.get(top, [top])} & counted, f"{path}: {module}"


def int8_recipe():
    return Recipe.model_validate({"name": "r", "data": {"dataset": "digits"}, "export": {"targets": ["onnx-int8"]}})


@pytest.mark.parametrize("distribution", ["onnxruntime", "onnxruntime-gpu", "numpy", "torchvision", "pillow"])
def test_another_version_of_what_computes_exports_an_int8_engine_again(monkeypatch, distribution):
    stage, recipe = BY_NAME["export"], int8_recipe()
    before = fingerprint(stage, recipe, "cpu", {})
    assert fingerprint(stage, recipe, "cpu", {}) == before

    def upgraded(name):
        return "99.9" if name == distribution else installed_version(name)

    monkeypatch.setattr("tscnc_deploy.pipeline.fingerprint.installed_version", upgraded)
    assert fingerprint(stage, recipe, "cpu", {}) != before


def test_the_gpu_distribution_of_onnxruntime_is_told_from_the_other(monkeypatch):
    def fingerprint_with(installed):
        def answer(name):
            return "1.0" if name == installed else version("numpy")

        monkeypatch.setattr("tscnc_deploy.pipeline.fingerprint.installed_version", answer)
        return fingerprint(BY_NAME["export"], int8_recipe(), "cpu", {})

    assert fingerprint_with("onnxruntime") != fingerprint_with("onnxruntime-gpu")


PRINT_FINGERPRINTS = """
import json, os, sys
from pathlib import Path
from tscnc_deploy.pipeline.fingerprint import fingerprint
from tscnc_deploy.pipeline.stages import STAGES
from tscnc_deploy.recipe import Recipe
recipe = Recipe.model_validate({"name": "r", "data": {"dataset": "digits"}})
for file in [None, *sys.argv[1:]]:
    # A process of its own for each, as fingerprints are computed once.
    if os.fork() == 0:
        if file:
            kept = Path(file).read_bytes()
            Path(file).write_bytes(kept + b"\\n")
        print(json.dumps({stage.name: fingerprint(stage, recipe, "cpu", {}) for stage in STAGES}), flush=True)
        if file:
            Path(file).write_bytes(kept)
        os._exit(0)
    os.wait()
"""


TRAINED = {"train", "prune", "finetune"}
ATTACKED = {"verify", "reverify"}
REPEATED = {
    "training/trades.py": TRAINED | {"export"},
    "tscnc/saliency.py": TRAINED | {"trial", "export"},
    "models/builtin/resnet.py": TRAINED | ATTACKED | {"trial", "export", "package"},
    "engines/sparse_cpu/latency.py": {"prune"},
    "engines/sparse_cpu/csrc/plan.cpp": {"trial", "export", "reverify", "package"},
    "robustness/attacks/square.py": ATTACKED | {"package"},
    "report/html.py": {"package"},
    "pipeline/stages/completion.py": {"export"},
    "recipe/training.py": set(),
    "cli/build.py": set(),
    "serving/server.py": set(),
}


@pytest.fixture(scope="module")
def fingerprints(tmp_path_factory):
    """Those of a checkout of the package, under None, and those after a change of each file."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(PACKAGE, root / "tscnc_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    if not (root / "tscnc_deploy" / "_shipped").exists():
        for name in ("export", "pipelines"):
            shutil.copytree(PACKAGE.parent / name, root / name)
    output = subprocess.run(
        [sys.executable, "-B", "-c", PRINT_FINGERPRINTS, *(f"tscnc_deploy/{file}" for file in REPEATED)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(zip([None, *REPEATED], map(json.loads, output.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("file", REPEATED)
def test_a_changed_file_repeats_the_stages_that_use_it(fingerprints, file):
    before, after = fingerprints[None], fingerprints[file]
    assert {name for name in after if after[name] != before[name]} == REPEATED[file]
