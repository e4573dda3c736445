"""Finds weights that sparsity does not count, because they are not those of a convolution or a linear layer.

Sparsity is the share of zeros in the stored weights of convolutions and linear layers, see `structure`. A graph can
compute the same with other operators, or compute the weight itself. So every constant that meets values computed from
the images must be one of these:

- a counted weight;
- a bias, or a position embedding: it is added, and the sum has the size of what it is added to;
- a parameter of a norm, of a quantisation or of a clip, with one number per channel;
- a factor per channel, of which there may be as many as the layers have output channels;
- a class token, or another vector that is joined to the activations;
- an index, or a size.

Everything else is listed with its size. What this cannot see: a bias is not a weight, even if it is large and the layer
that it belongs to has only zeros; and the zeros of a layer count even if its result is multiplied by zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, NodeProto

from tscnc_deploy.engines.onnx.flow import computed_from, data_operands
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.engines.onnx.sizes import sizes_of
from tscnc_deploy.engines.onnx.structure import stored_weights, weight_uses
from tscnc_deploy.text import escaped

# Operands with one number per channel, or one in all.
_PARAMETERS = {
    "BatchNormalization": (1, 2, 3, 4),
    "Clip": (1, 2),
    "Conv": (2,),
    "ConvInteger": (2, 3),
    "ConvTranspose": (2,),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Gemm": (2,),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMulInteger": (2, 3),
    "Pad": (2,),
    "QLinearConv": (1, 2, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "RMSNormalization": (1,),
}
_ADDED = ("Add", "Sub", "Sum")
_FACTORS = ("Div", "Mul", "PRelu")
_INDICES = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1}
# They only move, repeat or round what is stored.
_MOVES = {
    *("Cast", "Concat", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"),
    *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


@dataclass(frozen=True)
class HiddenWeight:
    """A constant that acts as a weight.

    Attributes:
        node: Name of the node that computes with it.
        op: The node's operator.
        operand: Name of the constant, or of what is computed from constants.
        values: Number of values that are stored for it, or that it has if they are computed.
    """

    node: str
    op: str
    operand: str
    values: int


@dataclass(frozen=True)
class HiddenWeights:
    """The constants of a graph that act as weights, and the layers that act as nothing.

    Attributes:
        found: In the order of the graph.
        values: Number of values of all of them; a stored tensor counts once.
        limit: Largest number of values that may be overlooked: the output channels of the widest layer, as many as the
            largest bias has.
        idle: Names of counted weights that meet nothing computed from the images, or whose layers do not reach the
            output.
    """

    found: tuple[HiddenWeight, ...]
    values: int
    limit: int
    idle: tuple[str, ...]


def hidden_weights(model: ModelProto, path: str | Path) -> HiddenWeights:
    """Looks for weights outside of convolutions and linear layers.

    Args:
        model: A model that `onnx.file` has read.
        path: Its file, for messages.

    Raises:
        InputError: It is not an image classifier.
    """
    return _Search(model, Path(path)).result()


class _Search:
    def __init__(self, model: ModelProto, path: Path) -> None:
        graph = model.graph
        signature = signature_of(model, path)
        self._nodes = graph.node
        self._images = computed_from(graph, signature.input)
        self._sizes = sizes_of(model, signature, 1)
        self._stored = {name: math.prod(tensor.dims) for name, tensor in stored_weights(graph).items()}
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._live = _reaching(graph.node, signature.output)
        uses = list(weight_uses(graph))
        self._counted = {(place, position) for place, position, _ in uses}
        working = {place for place in self._live if self._images.intersection(graph.node[place].output)}
        self._idle = {name for _, _, name in uses} - {name for place, _, name in uses if place in working}
        dims = {name: tuple(tensor.dims) for name, tensor in stored_weights(graph).items()}
        channels = {name: _channels(graph.node[place], dims[name]) for place, _, name in uses}
        self._limit = max(channels.values(), default=0)
        self._factors_left = sum(channels.values()) + signature.input_shape[0]
        self._copies = self._repeated()

    def result(self) -> HiddenWeights:
        found, stored, computed = [], set(), 0
        for place in sorted(self._live):
            node = self._nodes[place]
            if not any(name in self._images for name in node.output):
                continue
            for position, name in data_operands(node):
                if name in self._images or (place, position) in self._counted or self._is_known(node, position, name):
                    continue
                behind, makes = self._behind(name)
                size = self._count(name) if makes else sum(self._stored.get(each, 0) for each in behind)
                found.append(HiddenWeight(node.name, node.op_type, name, size))
                if makes:
                    computed += size
                else:
                    stored |= behind
        values = computed + sum(self._stored.get(name, 0) for name in stored)
        return HiddenWeights(tuple(found), values, self._limit, tuple(sorted(self._idle)))

    def _is_known(self, node: NodeProto, position: int, name: str) -> bool:
        op, size = node.op_type, self._count(name)
        vector = self._is_vector(name)
        if position in _PARAMETERS.get(op, ()):
            return vector
        if op in _INDICES:
            return position == _INDICES[op] or size == 1
        others = [other for place, other in data_operands(node) if place != position and other in self._images]
        grows = not others or self._count(node.output[0]) > max(self._count(other) for other in others)
        if op in _ADDED:
            return not grows and (vector or not self._copies.intersection(others))
        if op == "Concat":
            return vector
        if op in _FACTORS and vector and not grows:
            self._factors_left -= size
            return self._factors_left >= 0
        return size == 1

    def _count(self, name: str) -> int:
        """Number of values; those of one image, for what is computed from the images."""
        sizes = self._sizes.get(name)
        if sizes is None or None in sizes:
            return self._stored.get(name, 0) or 1 << 62
        return math.prod(size or 0 for size in sizes)

    def _is_vector(self, name: str) -> bool:
        sizes = self._sizes.get(name)
        return sizes is not None and sum(size != 1 for size in sizes) <= 1

    def _behind(self, name: str) -> tuple[set[str], bool]:
        """The stored tensors that a constant is made of, and whether more than moving them makes it."""
        behind, makes, left, seen = set(), False, [name], set()
        while left:
            one = left.pop()
            if one in seen:
                continue
            seen.add(one)
            node = self._producers.get(one)
            if one in self._stored or node is None:
                behind.add(one)
                continue
            makes |= node.op_type not in _MOVES
            left += [operand for _, operand in data_operands(node)]
        return behind, makes

    def _repeated(self) -> set[str]:
        """Values of images that are repeated within an image, up to the next layer: only weights tell copies apart."""
        found: set[str] = set()
        layers = {place for place, _ in self._counted}
        for place, node in enumerate(self._nodes):
            sources = [name for _, name in data_operands(node) if name in self._images]
            if not sources or place in layers:
                continue
            more = max(self._count(name) for name in node.output) > max(self._count(name) for name in sources)
            repeats = node.op_type in ("Expand", "Gather", "Tile") and more
            joins = node.op_type == "Concat" and len(set(sources)) < len(sources)
            if repeats or joins or found.intersection(sources):
                found.update(node.output)
        return found


def _reaching(nodes: Sequence[NodeProto], output: str) -> set[int]:
    """Places of the nodes whose results reach the output."""
    wanted, live = {output}, set()
    for place in range(len(nodes) - 1, -1, -1):
        if wanted.intersection(nodes[place].output):
            live.add(place)
            wanted.update(name for name in nodes[place].input if name)
    return live


def _channels(node: NodeProto, dims: Sequence[int]) -> int:
    """Output channels of a layer, or fewer."""
    if node.op_type == "Conv":
        return dims[0] if dims else 0
    return min(dims[:2], default=0)


def shown(found: Sequence[HiddenWeight], most: int = 5) -> str:
    """The largest of them, in words."""
    ordered = sorted(found, key=lambda each: -each.values)
    return ", ".join(_words(ordered[:most])) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _words(found: Sequence[HiddenWeight]) -> Iterator[str]:
    for each in found:
        yield f"{each.values} in {escaped(each.operand)!r} of node {escaped(each.node)!r} ({each.op})"
