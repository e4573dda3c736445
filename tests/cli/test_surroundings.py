"""Builds where something around them goes wrong: no room for a file, permissions, a recipe that changes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ctrl_c_reaches_children, invoke, tiny_options

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tscnc_deploy", "build"]


@pytest.fixture
def unpacked(tiny_build, tmp_path):
    """A build that has everything but its bundle."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_build.folder, folder)
    shutil.rmtree(folder / "bundle")
    (folder / "stages" / "package.json").unlink()
    return folder


def child(*arguments, before=None):
    with ctrl_c_reaches_children():
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, preexec_fn=before,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "most"), [("export", 64_000), ("package", 16_000)])
def test_a_file_for_which_there_is_no_room_is_one_line_and_the_next_build_continues(tiny_build, unpacked, stage, most):
    (unpacked / "stages" / f"{stage}.json").unlink(missing_ok=True)
    process = child(
        *tiny_options(), "--out", unpacked, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    )
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2
    assert said.splitlines()[-1] == (
        f"error: {unpacked}: a file may not get this large; raise ulimit -f and run the same command again "
        "(finished work is kept)"
    )
    assert "Traceback" not in said
    assert not (unpacked / "bundle").exists()
    again = invoke("build", *tiny_options(), "--out", unpacked, "--json")
    assert again.exit_code == 0, again.stderr
    reused = [done["name"] for done in json.loads(again.stdout)["stages"] if done["cached"]]
    assert reused[:5] == ["trial", "train", "prune", "finetune", "verify"]
    for name in ("twin.onnx", "engines/onnx-cpu/model.onnx"):
        assert (unpacked / "bundle" / name).read_bytes() == (tiny_build.bundle / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("mask", "file", "directory"), [(0o077, 0o600, 0o700), (0o000, 0o666, 0o777)])
def test_the_umask_decides_who_may_read_a_bundle(unpacked, mask, file, directory):
    before = os.umask(mask)
    try:
        assert invoke("build", *tiny_options(), "--out", unpacked).exit_code == 0
        checked = invoke("check", unpacked / "bundle")
    finally:
        os.umask(before)
    assert checked.exit_code == 0, checked.stderr
    for path in (unpacked / "bundle").rglob("*"):
        if "engines" not in path.parts:  # which have the modes of the stage that wrote them
            assert path.stat().st_mode & 0o777 == (directory if path.is_dir() else file), path


@pytest.mark.slow
def test_a_recipe_that_changes_meanwhile_changes_nothing(unpacked, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text((unpacked / "recipe.toml").read_text())
    process = child("--recipe", recipe, "--out", unpacked)
    assert process.stderr.readline().startswith("[1/8]")
    recipe.write_text("not a recipe [")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "sparsity = 0.8" in (unpacked / "bundle" / "recipe.toml").read_text()
    refused = invoke("build", "--recipe", recipe, "--out", unpacked)
    assert refused.exit_code == 2
    assert "mine.toml" in refused.stderr


@pytest.mark.slow
def test_ctrl_c_twice_ends_a_build_at_once(tmp_path):
    process = child(*tiny_options(), "--out", tmp_path / "run")
    line = process.stderr.readline()
    while line and "train" not in line:
        line = process.stderr.readline()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted; run the same command again to resume" in said
    assert "Traceback" not in said
