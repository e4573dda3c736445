"""Folds batch norms into the preceding convolutions, so that a quantiser sees one layer."""

from __future__ import annotations

from collections import Counter

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from tscnc_deploy.engines.onnx.file import array_of

_EPSILON = 1e-5  # ONNX's default


def fold_norms(model: ModelProto) -> ModelProto:
    """The same network with every batch norm folded that is the only reader of a convolution's output.

    Weights keep their names and their zeros; a norm with a gain of zero makes a filter of zeros. The model is not
    changed.

    Args:
        model: A float32 model that `onnx.file` has read.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(output.name for output in graph.output)
    convs = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    kept = []
    for node in graph.node:
        conv = convs.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is not None and _can_fold(conv, node, stored, uses):
            _fold(conv, node, stored)
        else:
            kept.append(node)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    tensors = [TensorProto.FromString(tensor.SerializeToString()) for tensor in stored.values() if tensor.name in used]
    others = [t for t in graph.initializer if t.name not in stored and t.name in used]
    tensors += [TensorProto.FromString(tensor.SerializeToString()) for tensor in others]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    del graph.value_info[:]
    return result


def _can_fold(conv: NodeProto, norm: NodeProto, stored: dict[str, TensorProto], uses: Counter[str]) -> bool:
    tensors = [*conv.input[1:], *norm.input[1:]]
    return uses[conv.output[0]] == 1 and uses[conv.input[1]] == 1 and all(name in stored for name in tensors)


def _fold(conv: NodeProto, norm: NodeProto, stored: dict[str, TensorProto]) -> None:
    gain, shift, mean, variance = (array_of(stored[name]).astype(np.float64) for name in norm.input[1:5])
    epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), _EPSILON)
    scale = gain / np.sqrt(variance + epsilon)
    weight = array_of(stored[conv.input[1]])
    bias = array_of(stored[conv.input[2]]) if len(conv.input) > 2 else np.zeros(len(scale))
    folded = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    # Adding zero turns the negative zeros of a negative gain into zeros.
    stored[conv.input[1]].CopyFrom(numpy_helper.from_array((folded + 0).astype(np.float32), conv.input[1]))
    # A new name, because exporters let convolutions without a bias share a bias of zeros.
    name = f"{conv.input[1].removesuffix('.weight')}.folded_bias"
    stored[name] = numpy_helper.from_array((shift + (bias - mean) * scale).astype(np.float32), name)
    inputs = [*conv.input[:2], name]
    del conv.input[:]
    conv.input.extend(inputs)
    conv.output[0] = norm.output[0]
