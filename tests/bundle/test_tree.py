"""Bundles made to harm: each is refused with one message, in bounded memory, and nothing of it is followed or run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bundle.folders import edit_manifest, write_bundle
from tscnc_deploy import open_bundle
from tscnc_deploy.errors import BundleError

Damage = Callable[[Path], object]


def relist(path: str, **entry: object) -> Damage:
    return lambda folder: edit_manifest(folder, lambda manifest: manifest["files"][path].update(entry))


def list_also(path: str) -> Damage:
    return lambda folder: edit_manifest(
        folder, lambda manifest: manifest["files"].update({path: manifest["files"]["README.md"]})
    )


def write_manifest(text: str) -> Damage:
    return lambda folder: (folder / "manifest.json").write_text(text)


def edit_text(old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        text = (folder / "manifest.json").read_text()
        assert old in text
        (folder / "manifest.json").write_text(text.replace(old, new, 1))

    return damage


def replace(path: str, make: Damage) -> Damage:
    def damage(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        make(target)

    return damage


def flip(path: str) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / path).read_bytes())
        data[-1] ^= 1
        (folder / path).write_bytes(data)

    return damage


def swap_engines(folder: Path) -> None:
    first, second = folder / "engines/onnx-cpu/model.onnx", folder / "engines/onnx-cuda/model.onnx"
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def outside(folder: Path) -> Path:
    """The same content outside of the bundle, so that only the link itself is wrong."""
    copy = folder.parent / "outside"
    shutil.copytree(folder, copy)
    return copy


def link_folder(folder: Path) -> None:
    copy = outside(folder)
    replace("engines", lambda target: target.symlink_to(copy / "engines"))(folder)


def link_file(folder: Path) -> None:
    copy = outside(folder)
    replace("README.md", lambda target: target.symlink_to(copy / "README.md"))(folder)


def link_manifest(folder: Path) -> None:
    copy = outside(folder)
    replace("manifest.json", lambda target: target.symlink_to(copy / "manifest.json"))(folder)


def sparse_file(length: int) -> Damage:
    return lambda folder: os.truncate(folder / "twin.onnx", length)


def both_say(length: int) -> Damage:
    def damage(folder: Path) -> None:
        sparse_file(length)(folder)
        relist("twin.onnx", bytes=length)(folder)

    return damage


def fill_with_folders(folder: Path) -> None:
    deep = folder
    for _ in range(100):
        deep /= "d"
    deep.mkdir(parents=True)


def listen(target: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(target.parent)  # the path of a socket has at most 107 characters
        try:
            server.bind(target.name)
        finally:
            os.chdir(here)


CORPUS: dict[str, tuple[Damage, str]] = {
    "missing file": (lambda folder: (folder / "report.html").unlink(), "report.html is missing"),
    "missing engine": (lambda folder: shutil.rmtree(folder / "engines/onnx-cpu"), "model.onnx is missing"),
    "missing evidence": (lambda folder: (folder / "evidence/evidence.json").unlink(), "evidence.json is missing"),
    "extra file": (lambda folder: (folder / "setup.py").write_text("1/0"), "the file 'setup.py' is not in"),
    "extra hidden file": (lambda folder: (folder / ".env").write_text(""), "the file '.env' is not in"),
    "extra look-alike": (lambda folder: (folder / "rеport.html").write_text(""), "the file 'r\\u0435port.html'"),
    "extra control characters": (lambda folder: (folder / "\x1b[2J").write_text(""), "the file '\\x1b[2J' is not in"),
    "extra bytes": (lambda folder: (folder / os.fsdecode(b"\xff")).write_text(""), "the file '\\udcff' is not in"),
    "extra empty folder": (lambda folder: (folder / "engines/none").mkdir(), "the folder 'engines/none' is not in"),
    "many folders": (fill_with_folders, "the folder 'd' is not in"),
    "changed byte": (flip("twin.onnx"), "twin.onnx has changed: its SHA-256 is"),
    "changed record": (flip("evidence/evidence.json"), "evidence/evidence.json has changed"),
    "swapped engines": (swap_engines, "has changed"),
    "longer file": (sparse_file(12), "twin.onnx has 12 bytes, manifest.json says 11"),
    "shorter file": (sparse_file(3), "twin.onnx has 3 bytes, manifest.json says 11"),
    "huge file": (sparse_file(10**11), "twin.onnx has 100000000000 bytes, manifest.json says 11"),
    "huge size declared": (relist("twin.onnx", bytes=10**9), "has 11 bytes, manifest.json says 1000000000"),
    "impossible size declared": (relist("twin.onnx", bytes=10**10), "at most 4294967296 are allowed"),
    "huge file and size": (both_say(10**10), "at most 4294967296 are allowed"),
    "huge record and size": (relist("evidence/evidence.json", bytes=10**9), "at most 16777216 are allowed"),
    "link to a file": (link_file, "'README.md' is a symbolic link"),
    "link to a folder": (link_folder, "'engines' is a symbolic link"),
    "link to itself": (replace("README.md", lambda target: target.symlink_to(target)), "is a symbolic link"),
    "link to a device": (replace("README.md", lambda target: target.symlink_to("/dev/zero")), "is a symbolic link"),
    "pipe": (replace("README.md", os.mkfifo), "'README.md' is neither a file nor a folder"),
    "socket": (replace("README.md", listen), "'README.md' is neither a file nor a folder"),
    "folder for a file": (replace("README.md", lambda target: target.mkdir()), "the folder 'README.md' is not in"),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "is not a bundle: it contains no manifest.json",
    ),
    "manifest is a folder": (replace("manifest.json", lambda target: target.mkdir()), "is not a regular file"),
    "manifest is a link": (link_manifest, "manifest.json is a symbolic link"),
    "manifest is a device": (
        replace("manifest.json", lambda target: target.symlink_to("/dev/zero")),
        "manifest.json is a symbolic link",
    ),
    "manifest is a pipe": (replace("manifest.json", os.mkfifo), "manifest.json is not a regular file"),
    "manifest is empty": (write_manifest(""), "manifest.json is not JSON"),
    "manifest is cut": (
        lambda folder: os.truncate(folder / "manifest.json", 500),
        "manifest.json is not JSON",
    ),
    "manifest is huge": (
        lambda folder: os.truncate(folder / "manifest.json", 10**10),
        "manifest.json is longer than 8388608 bytes",
    ),
    "manifest is nested": (write_manifest('{"schema":' * 100_000), "is nested deeper than 32 levels"),
    "manifest is nested lists": (write_manifest("[" * 1_000_000), "is nested deeper than 32 levels"),
    "manifest is a list": (write_manifest("[]"), "manifest.json is not a JSON object"),
    "duplicate key": (edit_text('"passed": true', '"passed": true, "passed": true'), "the key 'passed' twice"),
    "duplicate file": (edit_text('"files": {', '"files": {"README.md": 0,'), "the key 'README.md' twice"),
    "NaN": (edit_text("0.95", "NaN"), "holds NaN"),
    "infinity": (edit_text("0.95", "1e999"), "holds the number '1e999'"),
    "unknown schema": (
        edit_text("tscnc-bundle/2", "tscnc-bundle/9"),
        "'tscnc-bundle/9'; the known schema is tscnc-bundle/2",
    ),
    "path upwards": (list_also("../outside"), "files has the key '../outside'"),
    "path upwards inside": (list_also("engines/../../outside"), "files has the key 'engines/../../outside'"),
    "absolute path": (list_also("/etc/passwd"), "files has the key '/etc/passwd'"),
    "path with a backslash": (list_also("..\\outside"), "files has the key '..\\\\outside'"),
    "path with a drive": (list_also("C:outside"), "files has the key 'C:outside'"),
    "path with a null": (list_also("a\0b"), "files has the key 'a\\x00b'"),
    "path that reads backwards": (list_also("a\u202etxt.exe"), "files has the key 'a\\u202etxt.exe'"),
    "path that looks alike": (list_also("rеcipe.toml"), "files has the key 'r\\u0435cipe.toml'"),
    "paths that collide": (list_also("Readme.md"), "which are the same file on systems that ignore case"),
    "file inside a file": (list_also("README.md/x"), "README.md/x is missing"),
    "manifest names itself": (list_also("manifest.json"), "files lists manifest.json itself"),
    "engine elsewhere": (edit_text('"folder": "engines/onnx-cpu"', '"folder": "evidence"'), "engines.onnx-cpu.folder"),
}


@pytest.mark.parametrize("case", CORPUS)
def test_a_hostile_bundle_is_refused(folder, case):
    damage, message = CORPUS[case]
    damage(folder)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError) as caught:
            open_bundle(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"{folder}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.exit_status == 2
    assert peak < 50e6


def test_what_is_no_folder_is_refused(tmp_path, folder):
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", folder)
    with pytest.raises(BundleError, match=r"archive\.zip: is an archive; unpack it"):
        open_bundle(archive)
    with pytest.raises(
        BundleError, match=r"README\.md: is not a folder; a bundle is the folder that contains manifest\.json"
    ):
        open_bundle(folder / "README.md")
    with pytest.raises(BundleError, match="nowhere: bundle not found"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="bundle not found"):
        open_bundle(tmp_path / "nul\0")
    with pytest.raises(BundleError, match="cannot be read: File name too long"):
        open_bundle(tmp_path / ("x" * 300))
    with pytest.raises(BundleError, match="is not a bundle"):
        open_bundle(tmp_path)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may read everything, so it steps down for the test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("path", ["README.md", "manifest.json", "engines"])
def test_what_may_not_be_read_is_refused(folder, path, request):
    for place in (folder, *folder.parents[:3]):
        place.chmod(0o755)
    (folder / path).chmod(0)
    request.getfixturevalue("nobody")
    with pytest.raises(BundleError, match="cannot be read: Permission denied"):
        open_bundle(folder)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_is_found(folder, data):
    path = data.draw(st.sampled_from(sorted(json.loads((folder / "manifest.json").read_text())["files"])))
    before = (folder / path).read_bytes()
    after = bytearray(before)
    after[data.draw(st.integers(0, len(before) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / path).write_bytes(after)
    try:
        with pytest.raises(BundleError, match=f"{path} has changed"):
            open_bundle(folder)
    finally:
        (folder / path).write_bytes(before)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 200))
def test_any_manifest_is_taken_or_refused(folder, noise, start, length):
    before = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(before[:start] + noise + before[start + length :])
    try:
        open_bundle(folder)
    except BundleError as error:
        assert str(error).isprintable()
    finally:
        (folder / "manifest.json").write_bytes(before)


def test_a_bundle_that_only_moved_is_fine(tmp_path):
    write_bundle(tmp_path / "here").rename(tmp_path / "there")
    (tmp_path / "latest").symlink_to("there")
    assert open_bundle(tmp_path / "latest").manifest.name == "tiny"
