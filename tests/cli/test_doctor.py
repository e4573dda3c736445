from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from tscnc_deploy.cli import main
from tscnc_deploy.cli.common import machine
from tscnc_deploy.engines import processor
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.threads import Cores

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def doctor(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_a_healthy_machine_is_described_in_json():
    done = doctor("--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["ok"], found["problems"]) == (0, True, [])
    assert found["packages"]["torch"]["version"].startswith("2.")
    assert found["cpu"]["usable_cores"] >= 1
    assert found["memory"]["total"] > found["memory"]["free"] > 0
    assert "CPUExecutionProvider" in found["onnxruntime"]["providers"]
    assert found["onnxruntime"]["cuda_session"] == (found["onnxruntime"]["cuda_problem"] is None)
    assert found["targets"]["onnx-cpu"] == {"builds": True, "build_reason": None, "runs": True, "reason": None}
    # The compiled core is optional, and its absence comes with what builds it.
    assert (found["sparse_cpu"]["problem"] is None) == found["targets"]["sparse-cpu"]["runs"]
    assert found["sparse_cpu"]["instructions"] or "install a C++ compiler" in found["sparse_cpu"]["problem"]


def test_a_healthy_machine_is_described_for_people():
    lines = doctor().stdout.splitlines()
    assert [line for line in lines if line in ("Machine", "Packages", "Extras", "Targets")] == [
        "Machine", "Packages", "Extras", "Targets",
    ]  # fmt: skip
    assert any(line.split() == ["onnx-cpu", "builds", "and", "runs", "here"] for line in lines)


def test_it_says_on_how_many_cores_it_may_compute_and_with_how_many_threads(monkeypatch):
    monkeypatch.setattr(machine, "find_cores", lambda: Cores(machine=16, affinity=8, physical=4, quota=1.5, load=3.25))
    monkeypatch.setattr(
        processor, "find_cores", lambda: Cores(machine=16, affinity=8, physical=4, quota=1.5, load=3.25)
    )
    monkeypatch.setenv("TSCNC_THREADS", "5")
    before = torch.get_num_threads()
    try:
        cpu = json.loads(doctor("--json").stdout)["cpu"]
        names = ("cores", "affinity", "physical", "quota", "usable_cores", "load", "threads")
        assert [cpu[name] for name in names] == [16, 8, 4, 1.5, 2, 3.25, 5]
        said = "4 usable (8 of 16 hardware threads), a quota of 1.5 cores' time, load 3.2; computes with 5 threads"
        assert any(line.split(maxsplit=1) == ["cores", said] for line in doctor().stdout.splitlines())
    finally:
        torch.set_num_threads(before)


def test_a_missing_tensorrt_comes_with_the_command(monkeypatch):
    monkeypatch.setitem(library._LIBRARIES, "tensorrt", ("no_such_tensorrt", "tensorrt", "10.12"))
    library.load.cache_clear()
    found = json.loads(doctor("--json").stdout)
    problem = "tensorrt is not installed; run: pip install --upgrade 'tscnc-deploy[tensorrt]'"
    assert found["tensorrt"]["tensorrt"] == {"version": None, "problem": problem, "builds_for": [], "runs": False}
    target = found["targets"]["tensorrt-fp16"]
    assert (target["builds"], target["build_reason"], target["runs"]) == (False, problem, False)
    library.load.cache_clear()


@pytest.mark.tensorrt_rtx
def test_tensorrt_rtx_says_what_it_builds_for_and_what_it_runs():
    found = json.loads(doctor("--json").stdout)
    rtx, target = found["tensorrt"]["tensorrt-rtx"], found["targets"]["tensorrt-rtx-fp16"]
    assert {"SM80", "SM86", "SM89"} <= set(rtx["builds_for"])
    assert target["builds"]
    assert rtx["runs"] == found["cuda"]["available"]
    line = next(line for line in doctor().stdout.splitlines() if line.startswith("tensorrt-rtx-fp16"))
    assert "builds" in line


def test_missing_extras_come_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setitem(machine.EXTRAS, "tensorrt", ("no-such-distribution",))
    extras = json.loads(doctor("--json").stdout)["extras"]
    assert extras["tensorrt"] == {
        "versions": {"no-such-distribution": None},
        "install": "pip install 'tscnc-deploy[tensorrt]'",
    }


def test_a_missing_required_package_is_3(monkeypatch):
    monkeypatch.setitem(machine.REQUIRED, "no_such_module", "no-such-module>=1")
    done = doctor("--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["ok"], found["targets"]) == (3, False, {})
    assert found["problems"] == [
        {
            "problem": "no_such_module is not installed",
            "fix": "pip install --force-reinstall 'no-such-module>=1'",
        }
    ]
    assert "PROBLEM: no_such_module is not installed" in doctor().stdout


def test_two_distributions_of_onnxruntime_are_3(tmp_path, monkeypatch):
    for name in ("onnxruntime", "onnxruntime-gpu"):
        info = tmp_path / f"{name.replace('-', '_')}-1.22.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.22.0\n")
        (info / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = doctor("--json")
    problem = json.loads(done.stdout)["problems"][-1]
    assert done.exit_code == 3
    assert problem["problem"] == "onnxruntime and onnxruntime-gpu overwrite each other's files"
    assert problem["fix"] == (
        f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install '{machine.onnxruntime_requirement()}'"
    )


@pytest.mark.parametrize(
    ("module", "requirement", "problem"),
    [
        ("click", "click>=8.1", None),
        ("click", "click>=99.1", "is version {version}, older than 99.1"),
        ("tscnc_no_such", "tscnc-no-such>=1", "is not installed"),
        ("tscnc_broken", "tscnc-broken>=1", "does not import: libx.so: cannot open shared object file"),
        ("tscnc_lacking", "tscnc-lacking>=1", "does not import: No module named 'tscnc_no_such'"),
    ],
)
def test_packages_are_imported_to_see_whether_they_work(tmp_path, monkeypatch, module, requirement, problem):
    (tmp_path / "tscnc_broken.py").write_text("raise ImportError('libx.so: cannot open shared object file\\nmore')")
    (tmp_path / "tscnc_lacking.py").write_text("import tscnc_no_such")
    monkeypatch.syspath_prepend(tmp_path)
    found = machine.package(module, requirement)
    assert found["problem"] == (problem and problem.format(version=found["version"]))


def test_the_requirements_are_those_of_the_package():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    declared = {dependency.partition(";")[0] for dependency in project["dependencies"]}
    assert declared == {*machine.REQUIRED.values(), "onnxruntime-gpu>=1.22", "onnxruntime>=1.22"}
    extras = {
        name: tuple(requirement.partition(">=")[0] for requirement in project["optional-dependencies"][name])
        for name in machine.EXTRAS
    }
    assert extras == machine.EXTRAS
