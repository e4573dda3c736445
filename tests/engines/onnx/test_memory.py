from __future__ import annotations

import math

import pytest
from onnx import TensorProto, helper

from tests.engines.nets import small_net
from tscnc_deploy.engines import export_engine, load_target, open_engine
from tscnc_deploy.engines.onnx.limits import MAX_ALIVE
from tscnc_deploy.engines.onnx.memory import largest_batch
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.errors import InputError


def chain(*nodes, batch="batch", shape=(1, 8, 8), constants=()):
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, math.prod(shape)])
    graph = helper.make_graph(nodes, "g", [images], [logits], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def fits(model, path):
    return largest_batch(model, signature_of(model, path), path)


FLATTEN = helper.make_node("Flatten", ["images"], ["logits"])


def test_counts_what_is_alive_at_once(tmp_path):
    assert fits(chain(FLATTEN), tmp_path) == MAX_ALIVE // 64
    # While the third runs, the first is no longer needed: never more than two of 64.
    row = [helper.make_node("Relu", [a], [b]) for a, b in (("images", "a"), ("a", "b"), ("b", "c"))]
    assert fits(chain(*row, helper.make_node("Flatten", ["c"], ["logits"])), tmp_path) == MAX_ALIVE // 128
    # All three are.
    fan = [helper.make_node("Relu", ["images"], [name]) for name in "abc"]
    total = [helper.make_node("Sum", [*"abc"], ["d"]), helper.make_node("Flatten", ["d"], ["logits"])]
    assert fits(chain(*fan, *total), tmp_path) == MAX_ALIVE // 256


def test_what_the_file_claims_of_shapes_does_not_count(tmp_path):
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 0, 0, 0, 0, 9000, 9000])
    model = chain(helper.make_node("Pad", ["images", "pads"], ["wide"], name="p"), FLATTEN, constants=[pads])
    model.graph.value_info.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, [1, 1, 8, 8]))
    with pytest.raises(
        InputError, match=r"needs 81144064 elements in memory for one image; at most 67108864 are allowed"
    ):
        fits(model, tmp_path)


def test_a_fixed_batch_counts_whole(tmp_path):
    assert fits(chain(FLATTEN, batch=16), tmp_path) == 16
    twice = [helper.make_node("Relu", ["images"], ["a"]), helper.make_node("Flatten", ["a"], ["logits"])]
    with pytest.raises(InputError, match=r"elements in memory for its 40000 images; at most 536870911 are allowed"):
        fits(chain(*twice, batch=40_000, shape=(3, 64, 64)), tmp_path)


def test_a_size_that_images_decide_is_refused(tmp_path):
    node = helper.make_node("NonZero", ["images"], ["where"], name="n")
    with pytest.raises(InputError, match=r"node 'n' \(NonZero\): its size cannot be known before running it"):
        fits(chain(node, FLATTEN), tmp_path)


@pytest.mark.parametrize("target", ["onnx-cpu", "onnx-int8"])
def test_large_batches_are_split_where_memory_asks_for_it(tmp_path, target):
    from tests.engines.nets import random_images
    from tscnc_deploy.engines.kind import ExportAids

    shape = (1, 512, 512)
    aids = ExportAids(calibration=random_images(4, shape))
    export_engine(small_net(), load_target(target), tmp_path, input_shape=shape, aids=aids)
    assert 1 <= open_engine(tmp_path).spec.batch_max < load_target(target).batch_max


def test_a_stored_weight_may_be_moved_once_however_large_it_is(tmp_path):
    large = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[MAX_ALIVE // 64, 64, 2])
    moves = [helper.make_node("Transpose", ["w"], [name]) for name in ("a", "b")]
    uses = [helper.make_node("Shape", [name], [f"{name}_shape"]) for name in ("a", "b")]
    assert fits(chain(moves[0], uses[0], FLATTEN, constants=[large]), tmp_path) == MAX_ALIVE // 64
    # A hundred copies of it would not be bounded by the file.
    with pytest.raises(InputError, match="needs 134217731 elements in memory for one image"):
        fits(chain(*moves, *uses, FLATTEN, constants=[large]), tmp_path)
