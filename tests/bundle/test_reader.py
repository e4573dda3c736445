from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bundle.folders import CLASSES, contents, edit_manifest, evidence, write_files
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import seal
from tscnc_deploy.engines import Engine, export_engine, load_target
from tscnc_deploy.errors import BundleError
from tscnc_deploy.models import build

IMAGES = evidence().images


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a real twin and a real engine, only small."""
    folder = tmp_path_factory.mktemp("real") / "bundle"
    folder.mkdir()
    write_files(folder)
    (folder / "engines/onnx-cuda/model.onnx").unlink()
    (folder / "engines/onnx-cuda").rmdir()
    model = build("vgg16", classes=len(CLASSES), input_shape=(1, 8, 8), mean=(0.5,), std=(0.25,), width=0.0625).eval()
    export_engine(model, load_target("onnx-cpu"), folder / "engines/onnx-cpu", input_shape=(1, 8, 8))
    (folder / "engines/onnx-cpu/model.dense.onnx").rename(folder / "twin.onnx")
    seal(folder, contents("onnx-cpu"))
    return folder


def test_the_four_lines_of_the_documentation(real):
    bundle = open_bundle(str(real))
    logits = bundle.engine("onnx-cpu").logits(IMAGES)
    assert logits.shape == (4, 3)
    assert logits.dtype == np.float32
    assert not bundle.twin.training
    with torch.no_grad():
        expected = bundle.twin(torch.from_numpy(IMAGES)).numpy()
    assert np.abs(logits - expected).max() < 1e-4
    assert np.array_equal(bundle.evidence.images, IMAGES)
    assert bundle.evidence.labels.tolist() == [0, 1, 2, 0]
    assert bundle.record == bundle.evidence.record
    assert bundle.engines == ("onnx-cpu",)
    assert bundle.recipe == 'name = "tiny"\n'
    assert bundle.path == real


def test_options_reach_the_engine(real):
    engine = open_bundle(real).engine("onnx-cpu", threads=1)
    assert isinstance(engine, Engine)
    assert engine.spec.provider == "CPUExecutionProvider"


def test_an_unknown_engine_names_those_there_are(real):
    with pytest.raises(BundleError, match="engine 'tensorrt' not found; the bundle has onnx-cpu"):
        open_bundle(real).engine("tensorrt")


def test_an_unlisted_file_is_not_read(folder):
    with pytest.raises(BundleError, match=r"manifest.json does not list the file '../secret'"):
        open_bundle(folder).read("../secret")


def test_a_relative_path_survives_a_change_of_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    bundle = open_bundle(folder.name)
    monkeypatch.chdir("/")
    assert bundle.read("README.md") == b"# tiny\n"


USES = {
    "twin.onnx": lambda bundle: bundle.twin,
    "evidence/evidence.json": lambda bundle: bundle.record,
    "evidence/evidence.safetensors": lambda bundle: bundle.evidence,
    "engines/onnx-cpu/model.onnx": lambda bundle: bundle.engine("onnx-cpu"),
    "engines/onnx-cpu/target.json": lambda bundle: bundle.engine("onnx-cpu"),
    "recipe.toml": lambda bundle: bundle.recipe,
    "report.html": lambda bundle: bundle.read("report.html"),
}


@pytest.mark.parametrize("path", USES)
def test_what_is_exchanged_after_opening_is_not_used(folder, path):
    bundle = open_bundle(folder)
    data = bytearray((folder / path).read_bytes())
    data[0] ^= 1
    (folder / path).write_bytes(data)
    with pytest.raises(BundleError, match=f"^{folder}: {path} has changed: its SHA-256 is"):
        USES[path](bundle)


@pytest.mark.parametrize("path", USES)
def test_a_link_put_there_after_opening_is_not_followed(folder, path):
    bundle = open_bundle(folder)
    outside = folder.parent / "outside"
    (folder / path).rename(outside)
    (folder / path).symlink_to(outside)
    with pytest.raises(BundleError, match=f"^{folder}: {path} is a symbolic link"):
        USES[path](bundle)


@pytest.mark.parametrize("path", USES)
def test_what_vanishes_after_opening_is_named(folder, path):
    bundle = open_bundle(folder)
    (folder / path).unlink()
    with pytest.raises(BundleError, match=f"^{folder}: '{path}' cannot be read: No such file or directory"):
        USES[path](bundle)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("path", ["twin.onnx", "evidence/evidence.safetensors", "engines/onnx-cpu/model.onnx"])
def test_a_pickle_is_never_loaded(folder, tmp_path, path):
    marker = tmp_path / "marker"
    (folder / path).write_bytes(pickle.dumps(Bomb(marker)))
    seal(folder, contents())
    with pytest.raises(BundleError, match=f"^{folder}"):
        USES[path](open_bundle(folder))
    assert not marker.exists()


@pytest.mark.parametrize("path", sorted(set(USES) - {"report.html", "recipe.toml"}))
def test_nonsense_with_right_digests_is_refused_when_used(folder, path):
    (folder / path).write_bytes(b"\xffnonsense")
    seal(folder, contents())
    with pytest.raises(BundleError, match=f"^{folder}"):
        USES[path](open_bundle(folder))


def test_a_recipe_that_is_no_text_is_refused(folder):
    (folder / "recipe.toml").write_bytes(b"\xff")
    seal(folder, contents())
    with pytest.raises(BundleError, match=r"recipe.toml is not UTF-8 text"):
        _ = open_bundle(folder).recipe


def test_a_twin_and_an_engine_of_another_form_are_refused(real, tmp_path):
    folder = shutil.copytree(real, tmp_path / "bundle")
    edit_manifest(folder, lambda manifest: manifest["model"].update(classes=["zero", "one"]))
    message = r"is for images \[1, 8, 8\] and 3 classes; manifest.json says \[1, 8, 8\] and 2"
    with pytest.raises(BundleError, match="engines/onnx-cpu " + message):
        open_bundle(folder).engine("onnx-cpu")
    with pytest.raises(BundleError, match="twin.onnx " + message):
        _ = open_bundle(folder).twin


def test_the_dense_file_of_an_engine_is_its_twin(real):
    """TensorRT rebuilds plans from it."""
    read = open_bundle(real)._read_listed
    assert read(real / "engines/onnx-cpu/model.dense.onnx", 1 << 20) == (real / "twin.onnx").read_bytes()


def test_an_engine_of_another_target_is_refused(real, tmp_path):
    folder = shutil.copytree(real, tmp_path / "bundle")
    (folder / "engines/onnx-cpu").rename(folder / "engines/other")
    seal(folder, contents("other"))
    with pytest.raises(BundleError, match="engines/other contains the engine 'onnx-cpu' instead of other"):
        open_bundle(folder).engine("other")


def run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, tscnc_deploy; print({'torch', 'onnx', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules))"
    assert run(code) == "set()"


def test_opening_a_bundle_imports_neither_torch_nor_onnx(folder):
    code = (
        "import sys, tscnc_deploy; tscnc_deploy.open_bundle(sys.argv[1]); print({'torch', 'onnx'} & set(sys.modules))"
    )
    assert run(code, str(folder)) == "set()"


def test_the_package_has_a_version_and_no_other_secrets():
    import tscnc_deploy

    assert isinstance(tscnc_deploy.__version__, str)
    assert tscnc_deploy.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="no attribute 'open_bundles'"):
        _ = tscnc_deploy.open_bundles
