"""Kernels without the taps that only meet padding: the same function and the same gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from tests.engines.onnx.differentiable.test_graph import images_of, logits_of, read
from tests.engines.onnx.graphs import WEIGHT, classifier
from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
from tscnc_deploy.engines.onnx.file import read_onnx


def network(size, kernel, **attributes):
    """A convolution on a map of this size, the mean of whose channels are the numbers "y" before the linear layer."""
    height, width = size
    weight = np.random.default_rng(0).standard_normal((4, 1, *kernel), np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "map"], ["maps"]),
        helper.make_node("Conv", ["maps", "kernel"], ["convolved"], **attributes),
        helper.make_node("ReduceMean", ["convolved", "axes"], ["y"], keepdims=0),
    ]
    stored = [
        numpy_helper.from_array(weight, "kernel"),
        numpy_helper.from_array(np.array([-1, 1, height, width]), "map"),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    return classifier(nodes, stored, side=2, weight=WEIGHT)


@pytest.mark.parametrize(
    ("size", "kernel", "attributes", "left"),
    [
        ((1, 4), (3, 3), {"pads": [1, 1, 1, 1]}, (1, 3)),
        ((2, 2), (3, 3), {"pads": [1, 1, 1, 1]}, (3, 3)),
        ((2, 2), (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, (2, 2)),
        ((2, 2), (5, 5), {"pads": [2, 2, 2, 2]}, (3, 3)),
        ((2, 2), (3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, (1, 1)),
        ((2, 2), (3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (2, 2)),
        ((4, 1), (2, 3), {"pads": [0, 2, 1, 0]}, (2, 1)),
    ],
)
def test_what_is_left_of_a_kernel(size, kernel, attributes, left):
    model = network(size, kernel, **attributes)
    module = read(model)
    assert [tuple(tensor.shape) for tensor in module.buffers() if tensor.ndim == 4] == [(4, 1, *left)]
    images = images_of(3, 1, 2, 2)
    torch.testing.assert_close(module(images), torch.from_numpy(logits_of(model, images)), atol=1e-5, rtol=1e-5)


def test_every_form_computes_what_onnxruntime_does():
    images = images_of(2, 1, 2, 2)
    checked = 0
    for side, before, after, stride, dilation in itertools.product((1, 2, 3), (0, 1, 3), (0, 2), (1, 2), (1, 2)):
        if 2 + before + after < dilation * (side - 1) + 1:
            continue
        settings = {"pads": [before] * 2 + [after] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2}
        model = network((2, 2), (side, side), **settings)
        torch.testing.assert_close(
            read(model)(images), torch.from_numpy(logits_of(model, images)), atol=1e-5, rtol=1e-5
        )
        checked += 1
    assert checked > 60


def test_a_resnet_18_on_8x8_images_needs_one_tap_of_its_last_layers(architectures):
    path = architectures.dense("resnet18", 8)
    module = GraphModule(read_onnx(path), path)
    shapes = [tuple(tensor.shape[2:]) for tensor in module.buffers() if tensor.ndim == 4 and tensor.shape[1] > 3]
    assert shapes.count((1, 1)) == 6  # three of them beside a shortcut
    assert shapes.count((2, 2)) == 1
