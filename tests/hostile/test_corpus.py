"""Attacks made by hand: each ends in exit status 2 and a message, in two seconds and 500 MB, and leaves no trace."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.hostile.files import FILES
from tests.hostile.networks import ENGINE, NETWORKS, TWINS, in_network, through

# The box imports everything and checks a bundle before the first test.
pytestmark = pytest.mark.slow

CHECK = ("--attack", "square-2", "--budget", "none", "--device", "cpu")
COMMANDS = {
    "inspect": (),
    "check": CHECK,
    "verify": ("--attack", "square-2", "--device", "cpu"),
    "serve": ("--port", "0", "--grpc-port", "0"),
}


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_the_honest_bundle_passes(box, honest):
    for command in ("inspect", "check", "verify"):
        outcome = box.run(command, honest, *COMMANDS[command])
        outcome.require_civil()
        assert outcome.status == 0, outcome


@pytest.mark.parametrize("case", [*FILES, *NETWORKS, *TWINS])
def test_a_file_made_to_harm_is_refused(box, folder, case):
    damage, message = (FILES | NETWORKS | TWINS)[case]
    damage(folder)
    before = listing(folder.parent)
    outcome = box.run("check", folder, *CHECK)
    outcome.require_civil()
    outcome.require_cheap()
    assert (outcome.status, message in outcome.stderr) == (2, True), outcome
    assert listing(folder.parent) == before


def link(folder: Path) -> None:
    shutil.move(folder / "evidence", folder.parent / "outside")
    (folder / "evidence").symlink_to(folder.parent / "outside")


def pipe(folder: Path) -> None:
    (folder / "recipe.toml").unlink()
    os.mkfifo(folder / "recipe.toml")


def device(folder: Path) -> None:
    (folder / "twin.onnx").unlink()
    try:
        os.mknod(folder / "twin.onnx", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root can make a device")


def archive(folder: Path) -> None:
    """The product never unpacks one: neither names that lead out of it, nor links, nor devices can do anything."""
    shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)
    folder.with_suffix(".zip").rename(folder)


def sparse(folder: Path) -> None:
    os.truncate(folder / "twin.onnx", 10**13)


KINDS = {
    "a link to a folder": (link, "is a symbolic link"),
    "a pipe": (pipe, "is neither a file nor a folder"),
    "a device": (device, "is neither a file nor a folder"),
    "an archive": (archive, "is no"),
    "a file of 10 TB": (sparse, "has 10000000000000 bytes"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_refuses_what_is_no_file(box, folder, kind, command):
    damage, message = KINDS[kind]
    damage(folder)
    outcome = box.run(command, folder, *COMMANDS[command])
    outcome.require_civil()
    outcome.require_cheap()
    assert (outcome.status, message in outcome.stderr) == (2, True), outcome


@pytest.mark.parametrize("command", ["verify", "serve"])
@pytest.mark.parametrize("engine", [ENGINE, "engines/sparse-cpu/model.onnx"])
def test_every_engine_refuses_to_fill_memory(box, folder, engine, command):
    in_network(through("Tile", ("n", [1, 1, 6000, 6000])), engine)(folder)
    outcome = box.run(command, folder, "--engine", engine.split("/")[1], *COMMANDS[command])
    outcome.require_civil()
    outcome.require_cheap()
    assert (outcome.status, "elements in memory" in outcome.stderr) == (2, True), outcome
