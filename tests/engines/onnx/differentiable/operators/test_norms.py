from __future__ import annotations

import pytest

from tests.engines.onnx.differentiable.cases import (
    Case,
    axis_of,
    check_gradient,
    check_values,
    examples,
    few_and_many,
    floats,
    shape_of,
    some,
)


def _images(r, channels):
    return [r.choice([1, 2, 5]), channels, *[r.randint(2, 4) for _ in range(r.randint(1, 3))]]


def _batch_norm(r):
    channels = r.randint(1, 3)
    shape = _images(r, channels) if r.random() < 0.8 else [2, channels]
    operands = [floats(r, *shape), *(floats(r, channels) for _ in range(3)), floats(r, channels, low=0.1)]
    return Case("BatchNormalization", operands, some(r, epsilon=1e-2), r.choice([9, 14, 15]), live=(0, 1, 2))


def _batch_norm_of_weights(r):
    channels = r.randint(1, 3)
    shape = [r.choice([2, 5]), channels, r.randint(2, 4), r.randint(1, 4)]
    operands = [floats(r, *shape), *(floats(r, channels) for _ in range(3)), floats(r, channels, low=0.1)]
    more = some(r, epsilon=1e-2, momentum=0.5)
    return Case("BatchNormalization", operands, {"training_mode": 1, **more}, 15, outputs=3, live=(0, 1, 2))


def _group_norm(r):
    groups, opset = r.randint(1, 3), r.choice([18, 21])
    channels = groups * r.randint(1, 2)
    count = groups if opset == 18 else channels
    operands = [floats(r, *_images(r, channels)), floats(r, count), floats(r, count)]
    return Case("GroupNormalization", operands, {"num_groups": groups, **some(r, epsilon=1e-2)}, opset, live=(0, 1, 2))


def _instance_norm(r):
    channels = r.randint(1, 3)
    shape = [2, channels, *[r.choice([1, 4])] * r.randint(1, 3)]
    operands = [floats(r, *shape), floats(r, channels), floats(r, channels)]
    return Case("InstanceNormalization", operands, some(r, epsilon=1e-2), live=(0, 1, 2), relative=1e-3)


def _layer_norm(r):
    shape = [*shape_of(r, 0, 3), r.randint(2, 4)]
    attributes = some(r, axis=axis_of(r, len(shape)), epsilon=1e-2)
    normal = shape[attributes.get("axis", -1) :]
    parts = [floats(r, *normal), floats(r, *normal)][: r.randint(1, 2)]
    return Case("LayerNormalization", [floats(r, *shape), *parts], attributes, 17, live=(0, 1, 2))


def _rms_norm(r):
    shape = shape_of(r)
    attributes = some(r, axis=axis_of(r, len(shape)), epsilon=1e-2)
    return Case(
        "RMSNormalization", [floats(r, *shape), floats(r, *shape[attributes.get("axis", -1) :])], attributes, 23
    )


def _lrn(r):
    attributes = some(r, alpha=0.5, beta=0.6, bias=1.5)
    size = r.randint(1, 6)
    channels = r.randint(size, 7)
    # onnxruntime refuses even sizes, and ONNX's reference computes only as many channels as there are images.
    return Case("LRN", [floats(r, channels, channels, 2, 3)], {"size": size, **attributes}, reference=size % 2 == 0)


def _mean_variance(r):
    # onnxruntime subtracts squares, which loses digits where three numbers are nearly equal.
    attributes = some(r, axes=r.choice([[0, 2, 3], [2, 3], [1]]))
    return Case("MeanVarianceNormalization", [floats(r, 2, 3, 4, 4)], attributes, relative=1e-3)


def _lp_norm(r):
    shape = shape_of(r)
    return Case("LpNormalization", [floats(r, *shape)], some(r, axis=axis_of(r, len(shape)), p=r.choice([1, 2])))


CASES = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_norm,
    "LRN": _lrn,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
}


@few_and_many(2, 30)
@pytest.mark.parametrize("op", CASES)
def test_values_are_those_of_onnxruntime(op, count):
    examples(CASES[op], check_values, count)


@few_and_many(2, 30)
def test_a_batch_norm_of_weights_is_in_training_mode(count):
    examples(_batch_norm_of_weights, check_values, count)


@few_and_many(1, 20)
@pytest.mark.parametrize("op", CASES)
def test_gradients_are_those_of_finite_differences(op, count):
    examples(CASES[op], check_gradient, count)
