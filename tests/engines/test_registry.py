from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.engines.nets import linear_onnx, random_images, small_net, sums_and_differences
from tscnc_deploy.engines import can_run, export_engine, load_target, open_engine
from tscnc_deploy.engines.target import write_target
from tscnc_deploy.errors import InputError, StorageError, UnavailableError


def test_a_folder_can_be_moved_and_opens_without_the_users_toml(tmp_path):
    (tmp_path / "mine.toml").write_text("batch_max = 4\ntolerance = 0.5")
    files = export_engine(
        sums_and_differences(), load_target(tmp_path / "mine.toml"), tmp_path / "a" / "b", input_shape=(1, 2, 2)
    )
    assert sorted(path.name for path in files.model.parent.iterdir()) == [
        "model.dense.onnx",
        "model.onnx",
        "target.json",
    ]
    (tmp_path / "mine.toml").unlink()
    moved = files.model.parent.rename(tmp_path / "moved")
    engine = open_engine(moved, threads=1)
    assert (engine.spec.name, engine.spec.batch_max, engine.spec.input_shape) == ("mine", 4, (1, 2, 2))
    images = random_images(9, (1, 2, 2))
    np.testing.assert_allclose(engine.logits(images)[:, 0], images.sum((1, 2, 3)), rtol=1e-6)


def test_a_dense_target_opens_the_dense_network(tmp_path):
    target = load_target("onnx-cpu").model_copy(update={"sparse": False})
    files = export_engine(small_net(), target, tmp_path, input_shape=(1, 8, 8))
    assert files.model.read_bytes() == files.dense.read_bytes()
    assert open_engine(tmp_path).spec.classes == 3


def test_another_precision_than_the_targets_is_refused(tmp_path):
    nodes = [
        helper.make_node("Cast", ["images"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Flatten", ["half"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
    ]
    half = helper.make_tensor("w", TensorProto.FLOAT16, [4, 2], [1.0] * 8)
    linear_onnx(half, tmp_path / "model.onnx", nodes=nodes)
    write_target(load_target("onnx-cpu"), tmp_path / "target.json")
    with pytest.raises(InputError, match="computes in fp16, but the target asks for fp32"):
        open_engine(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"target\.json: file not found"):
        open_engine(tmp_path)
    with pytest.raises(InputError, match=r"model\.onnx: file not found"):
        open_engine(tmp_path, load_target("onnx-cpu"))


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(StorageError, match="taken: cannot be created: File exists"):
        export_engine(small_net(), load_target("onnx-cpu"), tmp_path / "taken", input_shape=(1, 8, 8))


def test_the_cpu_target_runs_everywhere():
    assert can_run(load_target("onnx-cpu")) is None


def test_a_target_that_cannot_run_here_says_why_and_cannot_be_opened(tmp_path, small_files):
    target = load_target("onnx-cuda")
    reason = can_run(target)
    if reason is not None:
        assert "pip install" in reason
        with pytest.raises(UnavailableError):
            open_engine(small_files.model.parent, target)


def test_opening_an_engine_needs_no_torch(small_files):
    code = (
        "import sys; from tscnc_deploy.engines import open_engine; "
        "open_engine(sys.argv[1]); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, small_files.model.parent],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
