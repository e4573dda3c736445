import json
import os
import shutil
import signal
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

# One thread per process: tests run in as many processes as there are cores. Read when torch is loaded, so set before.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from click.testing import CliRunner
from filelock import FileLock

from tscnc_deploy.cli import main
from tscnc_deploy.engines.tensorrt.library import gpu_capability, library_problem
from tscnc_deploy.threads import find_cores

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


# A worker takes about a gigabyte, and the longest test sets an end to what more of them save.
MOST_WORKERS = 8


def pytest_xdist_auto_num_workers():
    """One for each hardware thread that this process may use; 0, which means no other process, for only one."""
    cores = find_cores()
    granted = cores.affinity if cores.quota is None else min(cores.affinity, round(cores.quota))
    return min(granted, MOST_WORKERS) if granted > 1 else 0


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
    if item.get_closest_marker("default_build") and "TSCNC_DEFAULT_BUILD" not in os.environ:
        pytest.skip("takes a quarter of an hour: set TSCNC_DEFAULT_BUILD=1")
    if item.get_closest_marker("gpu") and gpu_capability() is None:
        pytest.skip("torch sees no NVIDIA GPU")
    if item.get_closest_marker("browser") and (problem := browser_problem()):
        pytest.skip(problem)


@contextmanager
def ctrl_c_reaches_children():
    """For the start of a process that gets SIGINT: a shell ignores that in its background, and children inherit it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def tiny_options(**changes):
    settings = TINY | {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def invoke(*arguments):
    return CliRunner(catch_exceptions=False).invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps tests out of the user's cache and each other's; only the fonts that matplotlib found are shared."""
    before = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:
            patch.setenv("MPLCONFIGDIR", str(before / "matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def shared_by_workers(tmp_path_factory):
    """The folder that all workers of the run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def architectures(tmp_path_factory):
    """Exported networks of every architecture; see `tests.engines.architectures`."""
    from tests.engines.architectures import Exported

    folder = shared_by_workers(tmp_path_factory) / "exported"
    folder.mkdir(exist_ok=True)

    def made_once(name, write):
        path = folder / name
        with FileLock(folder / f"{name}.lock"):
            if not path.exists():
                write(path)
        return path

    return Exported(made_once)


def build_once(tmp_path_factory, name, options):
    """A finished build that all workers of the run share; whoever asks first builds it, the others wait."""
    shared = shared_by_workers(tmp_path_factory)
    folder, summary = shared / name / "run", shared / name / "summary.json"
    with FileLock(shared / f"{name}.lock"):
        if not summary.exists():
            result = invoke("build", *options, "--out", folder, "--json")
            assert result.exit_code == 0, result.stderr
            summary.write_text(result.stdout)
    return SimpleNamespace(folder=folder, bundle=folder / "bundle", summary=json.loads(summary.read_text()))


@pytest.fixture(scope="session")
def tiny_build(tmp_path_factory):
    """A finished build; tests that change its files take a copy of the folder."""
    return build_once(tmp_path_factory, "tiny", tiny_options())
