from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.engines.nets import dense_weight, linear_onnx, random_images
from tscnc_deploy.engines import Engine, can_run, load_target
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.session import CPU, CUDA, require
from tscnc_deploy.errors import EngineInputError, InputError, UnavailableError


def _info(name, kind, *sizes):
    return helper.make_tensor_value_info(name, kind, sizes)


def test_what_the_engine_is_is_read_from_the_file(small_files):
    engine = OnnxRuntimeEngine(small_files.model, threads=1)
    assert isinstance(engine, Engine)
    spec = engine.spec
    assert (spec.name, spec.kind, spec.provider, spec.precision) == ("model", "onnxruntime", CPU, "fp32")
    assert (spec.input_shape, spec.classes, spec.batch_min, spec.batch_max) == ((1, 8, 8), 3, 1, 256)


def test_batches_of_every_size_agree(small_files):
    images = random_images(11, (1, 8, 8))
    one_by_one = OnnxRuntimeEngine(small_files.model, batch_max=1).logits(images)
    for batch_max in (2, 4, 11):
        together = OnnxRuntimeEngine(small_files.model, batch_max=batch_max).logits(images)
        np.testing.assert_allclose(together, one_by_one, rtol=0, atol=1e-5)


def test_the_same_images_give_the_same_bits(small_files):
    images = random_images(7, (1, 8, 8))
    first, second = OnnxRuntimeEngine(small_files.model), OnnxRuntimeEngine(small_files.model)
    assert first.logits(images).tobytes() == first.logits(images).tobytes() == second.logits(images).tobytes()


def test_a_file_with_a_fixed_batch_is_padded_to_it(tmp_path):
    fixed = {"inputs": [_info("images", 1, 3, 1, 2, 2)], "outputs": [_info("logits", 1, 3, 2)]}
    engine = OnnxRuntimeEngine(linear_onnx(dense_weight([1.0, 0] * 4), tmp_path / "fixed.onnx", **fixed))
    assert (engine.spec.batch_min, engine.spec.batch_max) == (3, 3)
    images = random_images(4, (1, 2, 2))
    np.testing.assert_allclose(engine.logits(images)[:, 0], images.sum((1, 2, 3)), rtol=1e-6)


def test_images_that_are_not_contiguous_are_taken(small_files):
    images = random_images(4, (1, 8, 8)).transpose(0, 1, 3, 2)
    engine = OnnxRuntimeEngine(small_files.model)
    np.testing.assert_array_equal(engine.logits(images), engine.logits(np.ascontiguousarray(images)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.1])
def test_bad_values_are_refused(small_files, value):
    images = random_images(2, (1, 8, 8))
    images[1, 0, 3, 4] = value
    with pytest.raises(EngineInputError, match=r"the value at \[1, 0, 3, 4\]"):
        OnnxRuntimeEngine(small_files.model).logits(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, "must have one input, float32 .*, but has none"),
        ({"inputs": [_info("images", 1, "n", 1, 2, 2), _info("more", 1, "n")]}, "but has 'images' .*, 'more'"),
        ({"inputs": [_info("images", TensorProto.DOUBLE, "n", 1, 2, 2)]}, "'images' of type 11"),
        ({"inputs": [_info("images", 1, "n", 4)]}, r"'images' float32 \[n, 4\]"),
        ({"inputs": [_info("images", 1, "n", 1, "h", "w")]}, r"'images' float32 \[n, 1, h, w\]"),
        ({"inputs": [_info("images", 1, "n\x1b[2J", 4)]}, r"'images' float32 \[n\\x1b\[2J, 4\]"),
        ({"inputs": [_info("images", 1, 2**40, 1, 2, 2)]}, "must have one input"),
        ({"inputs": [_info("images", 1, -1, 1, 2, 2)]}, "must have one input"),
        ({"outputs": [_info("logits", 1, "n")]}, r"must have one output, float32 \[batch, classes\]"),
        ({"outputs": [_info("logits", 1, "n", 7)]}, "onnxruntime refuses it|instead of"),
        ({"nodes": [helper.make_node("Nonsense", ["images"], ["logits"])]}, "onnxruntime refuses it"),
        ({"nodes": [helper.make_node("Relu", ["nothing"], ["logits"])]}, "onnxruntime refuses it"),
    ],
)
def test_a_file_that_is_no_classifier_is_refused(tmp_path, changes, message):
    path = linear_onnx(dense_weight([1.0] * 8), tmp_path / "model.onnx", **changes)
    with pytest.raises(InputError, match=message) as refused:
        OnnxRuntimeEngine(path).logits(random_images(1, (1, 2, 2)))
    assert str(refused.value).startswith(f"{path}: ")


def test_a_graph_that_fails_when_it_runs_is_an_error_with_the_files_name(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["logits"]),
        helper.make_node("Constant", [], ["shape"], value_ints=[3, 2]),
    ]
    path = linear_onnx(dense_weight([1.0] * 8), tmp_path / "model.onnx", nodes=[nodes[2], *nodes[:2]])
    with pytest.raises(InputError, match=r"model\.onnx: onnxruntime cannot run it on a batch of 1"):
        OnnxRuntimeEngine(path).logits(random_images(1, (1, 2, 2)))


def test_an_unknown_provider_is_refused(small_files):
    with pytest.raises(InputError, match="did you mean CPUExecutionProvider"):
        OnnxRuntimeEngine(small_files.model, provider="CpuExecutionProvider")


def test_cuda_runs_on_cuda_or_says_what_is_missing_and_never_falls_back(small_files, capfd):
    try:
        require(CUDA)
    except UnavailableError as missing:
        assert "pip" in str(missing)
        with pytest.raises(UnavailableError, match="CUDAExecutionProvider"):
            OnnxRuntimeEngine(small_files.model, provider=CUDA)
    else:
        assert OnnxRuntimeEngine(small_files.model, provider=CUDA).spec.provider == CUDA
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(small_files):
    if reason := can_run(load_target("onnx-cuda")):
        pytest.skip(reason)
    engine = OnnxRuntimeEngine(small_files.model, provider=CUDA)
    images = random_images(300, (1, 8, 8))
    expected = OnnxRuntimeEngine(small_files.model).logits(images)
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=2e-5)
    assert engine.logits(images).tobytes() == engine.logits(images).tobytes()


def test_onnxruntime_prints_nothing(small_files, tmp_path, capfd):
    OnnxRuntimeEngine(small_files.model).logits(random_images(2, (1, 8, 8)))
    with pytest.raises(InputError):
        OnnxRuntimeEngine(
            linear_onnx(
                dense_weight([1.0] * 8), tmp_path / "x.onnx", nodes=[helper.make_node("Bad", ["w"], ["logits"])]
            )
        )
    assert capfd.readouterr() == ("", "")
    assert CPU in onnxruntime.get_available_providers()
