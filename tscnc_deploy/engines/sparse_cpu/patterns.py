"""Finds functions that exporters write as several nodes, and makes each one node again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper

from tscnc_deploy.engines.onnx.file import array_of

_GATES = {"Sigmoid": "Swish", "HardSigmoid": "HardSwish"}


def joined(model: ModelProto, output: str) -> list[NodeProto]:
    """The nodes of a graph, with one for every function that was found.

    - x * Sigmoid(x) becomes Swish, x * HardSigmoid(x) becomes HardSwish, x * Tanh(Softplus(x)) becomes Mish.
    - 0.5 * x * (1 + Erf(x / sqrt(2))), in any order of the products, becomes Gelu.

    Args:
        model: A model that `onnx.file` has read.
        output: Name of the graph's output.
    """
    finder = _Finder(model, output)
    for node in model.graph.node:
        if node.op_type == "Mul" and len(node.input) == 2:
            finder.gate(node)
            finder.gelu(node)
    return [finder.made.get(place, node) for place, node in enumerate(finder.nodes) if place not in finder.dropped]


class _Finder:
    def __init__(self, model: ModelProto, output: str) -> None:
        self.nodes = list(model.graph.node)
        self.made: dict[int, NodeProto] = {}
        self.dropped: set[int] = set()
        self._places = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}
        self._readers = Counter(name for node in self.nodes for name in node.input)
        self._readers[output] += 1
        self._numbers = _numbers(model)

    def gate(self, node: NodeProto) -> None:
        """x * gate(x)."""
        for x, gated in (node.input, reversed(node.input)):
            made = self._maker(gated)
            if made is None or self._readers[gated] != 1:
                continue
            name = _GATES.get(made.op_type)
            if name and list(made.input) == [x]:
                attributes = {}
                if name == "HardSwish":
                    given = {attribute.name: attribute.f for attribute in made.attribute}
                    attributes = {"alpha": given.get("alpha", 0.2), "beta": given.get("beta", 0.5)}
                return self._replace(node, [gated], helper.make_node(name, [x], node.output, node.name, **attributes))
            inner = self._maker(made.input[0]) if made.op_type == "Tanh" else None
            softplus = inner is not None and inner.op_type == "Softplus" and list(inner.input) == [x]
            if softplus and self._readers[made.input[0]] == 1:
                mish = helper.make_node("Mish", [x], node.output, node.name)
                return self._replace(node, [gated, made.input[0]], mish)
        return None

    def gelu(self, node: NodeProto) -> None:
        """0.5 * x * (1 + Erf(x / sqrt(2)))."""
        factors, inner = self._factors(node)
        halves = [name for name in factors if self._is(name, 0.5)]
        others = [name for name in factors if name not in halves]
        if len(factors) != 3 or len(halves) != 1 or len(others) != 2:
            return
        for x, total in (others, reversed(others)):
            add = self._only(total, "Add")
            error = next((name for name in add.input if self._only(name, "Erf")), "") if add else ""
            if not add or not error or not any(self._is(name, 1) for name in add.input):
                continue
            scaled = self._only(error, "Erf")
            argument = scaled.input[0] if scaled else ""
            if self._is_over_root_of_two(argument, x):
                made = helper.make_node("Gelu", [x], node.output, node.name)
                self._replace(node, [total, error, argument, *inner], made)
                return

    def _factors(self, node: NodeProto) -> tuple[list[str], list[str]]:
        """The factors of a product of three, and the name of the product within."""
        for place, name in enumerate(node.input):
            product = self._only(name, "Mul")
            if product is not None and len(product.input) == 2:
                return [*product.input, node.input[1 - place]], [name]
        return list(node.input), []

    def _is_over_root_of_two(self, name: str, x: str) -> bool:
        node = self._maker(name)
        if node is None or self._readers[name] != 1 or len(node.input) != 2 or x not in node.input:
            return False
        other = node.input[1] if node.input[0] == x else node.input[0]
        if node.op_type == "Div":
            return node.input[0] == x and self._is(other, math.sqrt(2))
        return node.op_type == "Mul" and self._is(other, math.sqrt(0.5))

    def _is(self, name: str, number: float) -> bool:
        return math.isclose(self._numbers.get(name, math.nan), number, rel_tol=1e-6)

    def _maker(self, name: str) -> NodeProto | None:
        place = self._places.get(name)
        return None if place is None or place in self.dropped else self.made.get(place, self.nodes[place])

    def _only(self, name: str, kind: str) -> NodeProto | None:
        """The node that computes a value, if it is of this kind and one node reads the value."""
        node = self._maker(name)
        return node if node is not None and node.op_type == kind and self._readers[name] == 1 else None

    def _replace(self, last: NodeProto, inner: Sequence[str], made: NodeProto) -> None:
        self.dropped.update(self._places[name] for name in inner)
        self.made[self._places[last.output[0]]] = made


def _numbers(model: ModelProto) -> Mapping[str, float]:
    """The constants of one element, by name."""
    found = {}
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) == 1:
            found[tensor.name] = float(np.asarray(array_of(tensor)).reshape(-1)[0])
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output and len(node.attribute) == 1:
            value = helper.get_attribute_value(node.attribute[0])
            if node.attribute[0].name == "value" and math.prod(value.dims) == 1:
                found[node.output[0]] = float(np.asarray(array_of(value)).reshape(-1)[0])
            elif isinstance(value, float):
                found[node.output[0]] = value
    return found
