"""Attacks by ONNX files: what they declare, point at, or ask a runtime to make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper

from tests.hostile.bundles import reseal
from tests.hostile.files import TWIN

Change = Callable[[ModelProto], None]
ENGINE = "engines/onnx-cpu/model.onnx"
ELSEWHERE = ("/etc/passwd", "../../../twin.onnx", "model.onnx", "/dev/zero")


def in_network(change: Change, engine: str = ENGINE) -> Callable[[Path], None]:
    """Changes the file that the engine opens, and seals the bundle again."""

    def damage(folder: Path) -> None:
        model = onnx.load(folder / engine)
        change(model)
        (folder / engine).write_bytes(model.SerializeToString())
        reseal(folder)

    return damage


def external(location: str) -> Change:
    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def declare(*dims: int) -> Change:
    return lambda model: model.graph.initializer.append(TensorProto(name="huge", data_type=1, dims=dims))


def declare_sparse(*dims: int) -> Change:
    def change(model: ModelProto) -> None:
        sparse = model.graph.sparse_initializer.add(dims=dims)
        sparse.values.CopyFrom(helper.make_tensor("huge", TensorProto.FLOAT, [1], [1.0]))
        sparse.indices.CopyFrom(helper.make_tensor("where", TensorProto.INT64, [1], [0]))

    return change


def through(op: str, *constants: tuple[str, list[int]], **attributes: object) -> Change:
    """Sends the images through one more node before the network sees them."""

    def change(model: ModelProto) -> None:
        source = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["made" if name == source else name for name in node.input]
        for name, values in constants:
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        made = helper.make_node(op, [source, *(name for name, _ in constants)], ["made"], name="maker", **attributes)
        model.graph.node.insert(0, made)

    return change


def beside(op: str, *constants: tuple[str, list[int]], **attributes: object) -> Change:
    """Computes something from constants alone, which runtimes do when they open the file."""

    def change(model: ModelProto) -> None:
        for name, values in constants:
            model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        model.graph.node.append(
            helper.make_node(op, [name for name, _ in constants], ["made"], name="maker", **attributes)
        )
        model.graph.node.append(helper.make_node("ReduceMax", ["made"], ["least"], keepdims=1))
        model.graph.node.append(helper.make_node("Cast", ["least"], ["cast"], to=TensorProto.FLOAT))
        last = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["before" if name == last else name for name in node.output]
        model.graph.node.append(helper.make_node("Add", ["before", "cast"], [last]))

    return change


def nest_graphs(model: ModelProto) -> None:
    graph = GraphProto(name="inner")
    for _ in range(20):
        outer = GraphProto(name="outer")
        outer.node.append(helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=GraphProto(name="no")))
        graph = outer
    model.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=GraphProto(name="no")))


def nest_deeply(folder: Path) -> None:
    """The same, too deep for protobuf's own recursion: written by hand, field by field."""
    data = b""
    for _ in range(3000):
        # AttributeProto.g = 6, NodeProto.attribute = 5, GraphProto.node = 1
        for field in (6, 5, 1):
            data = bytes([field << 3 | 2]) + _varint(len(data)) + data
    (folder / ENGINE).write_bytes(bytes([7 << 3 | 2]) + _varint(len(data)) + data)
    reseal(folder)


def double(model: ModelProto) -> None:
    """Functions that call each other twice: inlined, a billion nodes."""
    for level in range(30):
        callee = [helper.make_node(f"f{level + 1}", ["x"], ["y"], domain="bomb") for _ in range(2)]
        model.functions.append(
            helper.make_function("bomb", f"f{level}", ["x"], ["y"], callee, [helper.make_opsetid("", 20)])
        )


def many_nodes(model: ModelProto) -> None:
    for _ in range(200_000):
        model.graph.node.add(op_type="Relu", input=["x"], output=["x"])


def circle(model: ModelProto) -> None:
    model.graph.node[1].input[0] = model.graph.node[-1].output[0]


def attribute_of(name: str, *values: int) -> Change:
    """Changes an attribute of the first convolution."""

    def change(model: ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        kept = [attribute for attribute in node.attribute if attribute.name not in (name, "auto_pad")]
        del node.attribute[:]
        node.attribute.extend([*kept, AttributeProto(name=name, type=AttributeProto.INTS, ints=values)])

    return change


def _varint(number: int) -> bytes:
    digits = b""
    while number > 127:
        digits += bytes([number & 127 | 128])
        number >>= 7
    return digits + bytes([number])


HUGE = 1 << 31
NETWORKS: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"data in {place}": (in_network(external(place)), "stores its data in another file") for place in ELSEWHERE},
    "10 GB declared": (in_network(declare(2500, 1000, 1000)), "more elements than an ONNX file can contain"),
    "1 GB declared, none there": (in_network(declare(256, 1024, 1024)), "does not contain the 268435456 elements"),
    "dimensions that overflow": (in_network(declare(HUGE, HUGE, 4)), "more elements than an ONNX file can contain"),
    "negative dimensions": (in_network(declare(-1, -1)), "none of them negative"),
    "10 GB sparse": (in_network(declare_sparse(2500, 1000, 1000)), "more elements than an ONNX file can contain"),
    "2 GB sparse": (in_network(declare_sparse(500, 1000, 1000)), "sparse initializers expand to 500"),
    "10 GB by ConstantOfShape": (
        in_network(beside("ConstantOfShape", ("n", [2500, 1000, 1000]))),
        "elements in memory",
    ),
    "10 GB by Range": (
        in_network(beside("Range", ("a", [0]), ("b", [HUGE]), ("c", [1]))),
        "cannot be known before running it",
    ),
    "10 GB by RandomNormal": (in_network(beside("RandomNormal", shape=[2500, 1000, 1000])), "elements in memory"),
    "10 GB by Tile": (in_network(through("Tile", ("n", [1, 1, 6000, 6000]))), "elements in memory"),
    "10 GB by Expand": (in_network(through("Expand", ("n", [1, 40_000_000, 8, 8]))), "elements in memory"),
    "10 GB by Pad": (in_network(through("Pad", ("n", [0, 0, 0, 0, 0, 0, 50_000, 50_000]))), "elements in memory"),
    "10 GB by padding": (in_network(attribute_of("pads", 9, 9, 90_000, 90_000)), "elements in memory"),
    "padding that overflows": (in_network(attribute_of("pads", HUGE, 1, HUGE, 1)), "out of range"),
    "strides of zero": (in_network(attribute_of("strides", 0, 0)), "out of range"),
    "a size that the images decide": (in_network(through("NonZero")), "cannot be known before running it"),
    "nested graphs": (in_network(nest_graphs), "contains a subgraph"),
    "graphs nested too deep for a parser": (nest_deeply, "not an ONNX file"),
    "functions that double": (in_network(double), "defines its own functions"),
    "200,000 nodes": (in_network(many_nodes), "at most 20000 are allowed"),
    "a circle": (in_network(circle), "onnx-cpu"),
}
# What the reader of gradients says of the twin, before anything is computed.
TWINS: dict[str, tuple[Callable[[Path], None], str]] = {
    f"the twin: {name}": (in_network(change, TWIN), message)
    for name, (change, message) in {
        "data elsewhere": (external("/etc/passwd"), "stores its data in another file"),
        "10 GB declared": (declare(2500, 1000, 1000), "more elements than an ONNX file can contain"),
        "2 GB sparse": (declare_sparse(500, 1000, 1000), "sparse initializers expand to 500"),
        "10 GB by ConstantOfShape": (beside("ConstantOfShape", ("n", [2500, 1000, 1000])), "elements at once"),
        "10 GB by Range": (beside("Range", ("a", [0]), ("b", [HUGE]), ("c", [1])), "elements at once"),
        "10 GB by Tile": (through("Tile", ("n", [1, 1, 6000, 6000])), "elements at once"),
        "10 GB by Expand": (through("Expand", ("n", [1, 40_000_000, 8, 8])), "elements at once"),
        "10 GB by Pad": (through("Pad", ("n", [0, 0, 0, 0, 0, 0, 50_000, 50_000])), "elements at once"),
        "10 GB by padding": (attribute_of("pads", 9, 9, 90_000, 90_000), "elements at once"),
        "a size that the images decide": (through("NonZero"), "depends on what the images show"),
        "nested graphs": (nest_graphs, "contains a subgraph"),
        "functions that double": (double, "defines its own functions"),
        "200,000 nodes": (many_nodes, "at most 20000 are allowed"),
        "a circle": (circle, "before it is computed"),
    }.items()
}
