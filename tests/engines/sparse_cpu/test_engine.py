from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from onnx import helper

from tests.engines.nets import dense_weight, linear_onnx, random_images, sparse_weight
from tests.engines.sparse_cpu.graphs import available, sparse_array, write_graph
from tscnc_deploy.engines import Engine, can_run, export_engine, load_target, open_engine
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.sparse_cpu.engine import SparseCpuEngine
from tscnc_deploy.engines.sparse_cpu.library import INSTRUCTIONS, instructions_for
from tscnc_deploy.errors import EngineInputError, InputError, UnavailableError


def test_what_the_engine_is_is_read_from_the_file(small_files):
    engine = SparseCpuEngine(small_files.model)
    assert isinstance(engine, Engine)
    spec = engine.spec
    assert (spec.name, spec.kind, spec.precision) == ("model", "sparse-cpu", "fp32")
    assert spec.provider == available()[0]
    assert (spec.input_shape, spec.classes, spec.batch_min, spec.batch_max) == ((1, 8, 8), 3, 1, 256)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(dense_weight([1.0, 2, 3, 4, 0, 6, 7, 8]), [[2.5, 5.5]]), (sparse_weight([1.0, 5], [0, 3]), [[1.0, 2.5]])],
)
def test_known_answers(tmp_path, weight, expected):
    engine = SparseCpuEngine(linear_onnx(weight, tmp_path / "model.onnx"), threads=1)
    images = np.array([[[[1, 0.5], [0.25, 0]]]], np.float32)
    assert engine.logits(images).tolist() == expected


def test_dense_and_sparse_files_give_the_same_bits(small_files):
    images = random_images(7, (1, 8, 8))
    dense, sparse = SparseCpuEngine(small_files.dense), SparseCpuEngine(small_files.model)
    assert dense.logits(images).tobytes() == sparse.logits(images).tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_images_give_the_same_bits(small_files, threads):
    images = random_images(21, (1, 8, 8))
    for instructions in available():
        engines = [SparseCpuEngine(small_files.model, threads=threads, instructions=instructions) for _ in range(2)]
        first = engines[0].logits(images).tobytes()
        assert first == engines[0].logits(images).tobytes() == engines[1].logits(images).tobytes()


def test_batches_of_every_size_agree(small_files):
    images = random_images(37, (1, 8, 8))
    expected = OnnxRuntimeEngine(small_files.model).logits(images)
    for threads in (1, 2):
        engine = SparseCpuEngine(small_files.model, threads=threads)
        for batch in range(38):
            np.testing.assert_allclose(engine.logits(images[:batch]), expected[:batch], rtol=0, atol=1e-5)


def test_calls_from_several_threads_take_turns(small_files):
    images = random_images(9, (1, 8, 8))
    engine = SparseCpuEngine(small_files.model, threads=2)
    expected, found = engine.logits(images), []
    workers = [
        threading.Thread(target=lambda: found.extend(engine.logits(images) for _ in range(20))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 80
    assert all(np.array_equal(logits, expected) for logits in found)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_can_use_the_engine(small_files):
    images = random_images(5, (1, 8, 8))
    engine = SparseCpuEngine(small_files.model, threads=2)
    expected = engine.logits(images).tobytes()
    child = os.fork()
    if child == 0:
        same = engine.logits(images).tobytes() == expected
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.logits(images).tobytes() == expected


def test_a_file_with_a_fixed_batch_is_padded_to_it(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    constants = {"shape": np.array([3, 4]), "w": np.ones((4, 2), np.float32)}
    engine = SparseCpuEngine(write_graph(tmp_path / "fixed.onnx", nodes, constants, (1, 2, 2), 2, batch=3))
    assert (engine.spec.batch_min, engine.spec.batch_max) == (3, 3)
    images = random_images(4, (1, 2, 2))
    np.testing.assert_allclose(engine.logits(images)[:, 0], images.sum((1, 2, 3)), rtol=1e-6)


def test_images_that_are_not_contiguous_are_taken(small_files):
    images = random_images(4, (1, 8, 8)).transpose(0, 1, 3, 2)
    engine = SparseCpuEngine(small_files.model)
    np.testing.assert_array_equal(engine.logits(images), engine.logits(np.ascontiguousarray(images)))


def test_bad_values_are_refused(small_files):
    images = random_images(2, (1, 8, 8))
    images[1, 0, 3, 4] = np.nan
    with pytest.raises(EngineInputError, match=r"the value at \[1, 0, 3, 4\]"):
        SparseCpuEngine(small_files.model).logits(images)


def test_unknown_instructions_and_thread_counts_are_refused(small_files):
    with pytest.raises(UnavailableError, match='does not support instructions = "avx1024"'):
        SparseCpuEngine(small_files.model, instructions="avx1024")
    with pytest.raises(InputError, match=r"model\.onnx: the number of threads must be from 1 to 256"):
        SparseCpuEngine(small_files.model, threads=257)


def test_instructions_that_are_not_there_are_refused(small_files):
    for name in set(INSTRUCTIONS[1:]) - set(available()):
        with pytest.raises(UnavailableError, match='use instructions = "auto"'):
            SparseCpuEngine(small_files.model, instructions=name)
    assert instructions_for("auto") == available()[0]


def test_activations_beyond_memory_are_an_error_and_no_crash(tmp_path):
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["wide"]),
        helper.make_node("GlobalAveragePool", ["wide"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    constants = {"w": sparse_array((300, 1, 1, 1), 1.0, 0)}
    path = write_graph(tmp_path / "large.onnx", nodes, constants, (1, 2048, 2048), 300)
    with pytest.raises(InputError, match=r"large\.onnx: needs \d+ elements in memory"):
        SparseCpuEngine(path)


def test_the_target_writes_and_opens_the_engine(tmp_path):
    from tests.engines.nets import small_net

    target = load_target("sparse-cpu")
    assert can_run(target) is None
    export_engine(small_net(), target, tmp_path, input_shape=(1, 8, 8))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dispatch.json",
        "model.dense.onnx",
        "model.onnx",
        "target.json",
    ]
    engine = open_engine(tmp_path, threads=1)
    assert (engine.spec.name, engine.spec.kind) == ("sparse-cpu", "sparse-cpu")
    images = random_images(3, (1, 8, 8))
    expected = OnnxRuntimeEngine(tmp_path / "model.dense.onnx").logits(images)
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-5)


def test_the_plan_is_described(small_files):
    engine = SparseCpuEngine(small_files.model, threads=1)
    engine.logits(random_images(1, (1, 8, 8)))
    plan = engine.describe(1)
    # Small images are moved to fewer lanes on the way, depending on how many there are.
    actions = [step["action"] for step in plan["steps"] if step["action"] != "refold"]
    assert actions == ["input", "conv", "conv", "max_pool", "mean", "conv"]
    assert plan["runs"] == 1
    assert all(step["nanoseconds"] > 0 for step in plan["steps"])
    with pytest.raises(InputError, match="cannot plan for 3 images"):
        engine.describe(3)
