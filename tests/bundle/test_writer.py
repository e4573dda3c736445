from __future__ import annotations

import hashlib
import json
import os

import pytest

from tests.bundle.folders import contents, write_bundle, write_files
from tscnc_deploy.bundle import open_bundle, seal
from tscnc_deploy.errors import BundleError, StorageError


def test_lists_every_file_with_its_digest_and_size(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [
        "README.md",
        "engines/onnx-cpu/model.onnx",
        "engines/onnx-cpu/target.json",
        "engines/onnx-cuda/model.onnx",
        "evidence/evidence.json",
        "evidence/evidence.safetensors",
        "recipe.toml",
        "report.html",
        "twin.onnx",
    ]
    expected = {"sha256": hashlib.sha256(b"# tiny\n").hexdigest(), "bytes": 7}
    assert manifest["files"]["README.md"] == expected
    assert manifest["schema"] == "tscnc-bundle/2"
    assert manifest["threat"] == {"norm": "Linf", "epsilon": 0.1}
    assert manifest["passed"] is True


def test_equal_files_give_equal_bytes(tmp_path):
    first, second = write_bundle(tmp_path / "first"), write_bundle(tmp_path / "second")
    for path in sorted(path for path in first.rglob("*") if path.is_file()):
        assert (second / path.relative_to(first)).read_bytes() == path.read_bytes()


def test_returns_the_manifest_that_opening_finds(tmp_path):
    write_files(tmp_path)
    assert seal(tmp_path, contents()) == open_bundle(tmp_path).manifest


def test_sealing_again_takes_what_is_there_now(folder):
    (folder / "README.md").write_text("# changed\n")
    (folder / ".manifest.json.7-7.partial").write_text("left by a kill")
    seal(folder, contents())
    assert open_bundle(folder).read("README.md") == b"# changed\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "README.md").unlink(), "files does not list README.md, which every bundle holds"),
        (lambda folder: (folder / "empty").mkdir(), "the folder empty is empty"),
        (lambda folder: (folder / "two words").write_text(""), "files has the key 'two words'"),
        (lambda folder: (folder / "link").symlink_to("README.md"), "'link' is a symbolic link"),
        (lambda folder: os.truncate(folder / "recipe.toml", 2 << 20), "files.recipe.toml.bytes is 2097152"),
    ],
)
def test_refuses_what_opening_would_refuse(tmp_path, damage, message):
    write_files(tmp_path)
    damage(tmp_path)
    with pytest.raises(BundleError) as caught:
        seal(tmp_path, contents())
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert message in str(caught.value)
    assert not (tmp_path / "manifest.json").exists()


def test_refuses_an_engine_that_is_not_there(tmp_path):
    write_files(tmp_path)
    with pytest.raises(BundleError, match="files lists nothing in engines/tensorrt, the folder of the engine tensorrt"):
        seal(tmp_path, contents("tensorrt"))


def test_a_manifest_that_cannot_be_written_is_a_storage_error(tmp_path):
    write_files(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(StorageError, match=r"manifest\.json: cannot be written"):
        seal(tmp_path, contents())
