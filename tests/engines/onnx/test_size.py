from __future__ import annotations

import math
import zipfile

from onnx import TensorProto, helper

from tests.engines.nets import dense_weight, linear_onnx, sparse_weight
from tscnc_deploy.engines.onnx.size import size_table


def test_sizes_are_those_on_disk(tmp_path, small_files):
    table = size_table(small_files.dense, small_files.model).to_json()
    assert table["dense file"] == {"bytes": small_files.dense.stat().st_size, "ratio": 1.0}
    assert table["sparse file"]["bytes"] == small_files.model.stat().st_size
    assert table["sparse file"]["ratio"] == table["dense file"]["bytes"] / table["sparse file"]["bytes"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(small_files.dense, "model.onnx")
    assert table["dense file, zip"]["bytes"] == (tmp_path / "x.zip").stat().st_size
    assert list(table) == [
        "dense file",
        "dense file, zip",
        "dense file, xz",
        "sparse file",
        "sparse file, zip",
        "sparse file, xz",
        "entropy bound",
    ]


def test_entropy_bound_of_a_weight_that_can_be_computed_by_hand(tmp_path):
    dense = linear_onnx(dense_weight([1.0, 0, 0, 0, 0, 0, 0, 2]), tmp_path / "dense.onnx")
    sparse = linear_onnx(sparse_weight([1.0, 2.0], [0, 7]), tmp_path / "sparse.onnx")
    # 8 positions of which a quarter is taken: 8 (1/4 log2 4 + 3/4 log2 4/3) = 6.49 bits, and two values of 32 bits.
    assert size_table(dense, sparse).to_json()["entropy bound"]["bytes"] == math.ceil((6.49 + 64) / 8)


def test_other_parameters_count_in_full(small_files):
    bound = size_table(small_files.dense, small_files.model).to_json()["entropy bound"]["bytes"]
    nonzero = 635
    others = 4 * 16 + 32 + 3 + 2
    assert bound > 4 * (nonzero + others)


def test_an_engine_that_is_no_onnx_file_has_its_own_rows_and_no_bound(tmp_path, small_files):
    (tmp_path / "model.engine").write_bytes(b"plan" * 100)
    table = size_table(small_files.dense, tmp_path / "model.engine").to_json()
    assert list(table)[3:] == ["engine file", "engine file, zip", "engine file, xz"]
    assert table["engine file"]["bytes"] == 400


def test_a_file_of_another_precision_is_not_called_the_sparse_one(tmp_path, small_files):
    half = helper.make_tensor("w", TensorProto.FLOAT16, [4, 2], [1.0] * 8)
    table = size_table(small_files.dense, linear_onnx(half, tmp_path / "half.onnx")).to_json()
    assert list(table)[3:] == ["engine file", "engine file, zip", "engine file, xz"]
