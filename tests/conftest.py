import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from tscnc_deploy.cli import main
from tscnc_deploy.engines.tensorrt.library import gpu_capability, library_problem

# A whole build in seconds: a ResNet-18 of eighth width on 250 digits.
TINY = {
    "model.width": 0.125,
    "data.train_limit": 250,
    "data.test_limit": 60,
    "train.epochs": 4,
    "train.clean_epochs": 2,
    "train.ramp_epochs": 1,
    "train.inner_steps": 2,
    "train.validation_steps": 3,
    "prune.sparsity": 0.8,
    "prune.epochs": 1,
    "prune.updates": 2,
    "prune.saliency_batches": 1,
    "finetune.epochs": 2,
    "verify.attacks": '["fgsm", "pgd-5", "square-20"]',
    "verify.engine_attacks": '["pgd-5", "square-20"]',
    "verify.measures": '["corruptions"]',
    "verify.evidence_images": 40,
    "export.targets": '["onnx-cpu"]',
    "gates.engine_loss": 0.2,
    "gates.clean": 0.0,
    "gates.robust": 0.0,
    "gates.pruning_loss": '"none"',
}


def chromium():
    """The system's, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


def browser_problem():
    if find_spec("playwright") is None:
        return "needs the package playwright: pip install 'tscnc-deploy[test]'"
    return None if chromium() else "needs a Chromium on the PATH, such as: apt-get install chromium"


def pytest_runtest_setup(item):
    """Skips, by name and with the reason, what needs a package or hardware that is not here."""
    if item.get_closest_marker("tensorrt_rtx") and (problem := library_problem("tensorrt-rtx")):
        pytest.skip(problem)
    if item.get_closest_marker("sigstore") and "TSCNC_SIGSTORE" not in os.environ:
        pytest.skip("needs Sigstore's servers and an identity: set TSCNC_SIGSTORE to 'NAME ISSUER TOKEN'")
    if item.get_closest_marker("gpu") and gpu_capability() is None:
        pytest.skip("torch sees no NVIDIA GPU")
    if item.get_closest_marker("browser") and (problem := browser_problem()):
        pytest.skip(problem)


def tiny_options(**changes):
    settings = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def invoke(*arguments):
    return CliRunner(catch_exceptions=False).invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory):
    """A finished build; tests that change its files take a copy of the folder."""
    folder = tmp_path_factory.mktemp("build") / "run"
    result = invoke("build", *tiny_options(), "--out", folder, "--json")
    assert result.exit_code == 0, result.stderr
    return SimpleNamespace(folder=Path(folder), bundle=Path(folder) / "bundle", summary=json.loads(result.stdout))
