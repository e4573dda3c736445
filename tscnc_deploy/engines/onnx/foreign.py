"""Third-party image classifiers in the one form that everything here works on.

Exporters write classifiers in many forms: channels last, pixels from 0 to 255, in bytes or in half precision, blue
before red, ending in a softmax or with several outputs. `adopt` puts nodes before and after such a graph, and leaves
out the last ones, so that it takes float32 images [batch, C, H, W] in [0, 1] and returns float32 logits [batch, K]. The
runtime runs that graph, and `differentiable` reads the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tscnc_deploy.engines.onnx.external import has_external
from tscnc_deploy.engines.onnx.file import parse_onnx, read_bytes
from tscnc_deploy.engines.onnx.first_nodes import Hints, hints_of
from tscnc_deploy.engines.onnx.flow import attributes_of
from tscnc_deploy.engines.onnx.limits import MAX_ELEMENTS
from tscnc_deploy.engines.onnx.reading import Reading
from tscnc_deploy.engines.onnx.signature import Signature, described, signature_of
from tscnc_deploy.engines.onnx.sizes import Dims, sizes_of
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_LABELS = (TensorProto.INT64, TensorProto.INT32)
# Not HardSigmoid: several of its results may be 1, and then the first decides.
_PROBABILITIES = ("Softmax", "Sigmoid")
# They pass values on unchanged, but for their shape or by rounding, so what comes before them is the kind of output.
_PASSING = {
    *(
        "Cast",
        "DequantizeLinear",
        "Dropout",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
    ),
}
_FEW_CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class Adopted:
    """A file as it is run.

    Attributes:
        model: Its graph, with one float32 input [batch, C, H, W] and one float32 output [batch, K].
        data: The bytes that a runtime opens: those of the file if nothing had to change.
        notes: What was changed, each as a sentence.
        labels_only: Whether it returns labels, so that its "logits" are 1 for the label and -1 for all others.
        answers: If the last nodes were left out, or there is only one output or a label: the graph whose output is the
            file's own, to compare labels with; None where it is the same.
        single: Whether the file has one number for two classes.
        cut: Whether the last nodes were left out.
    """

    model: ModelProto
    data: bytes
    notes: tuple[str, ...]
    labels_only: bool
    answers: bytes | None = None
    single: bool = False
    cut: bool = False


def adopt(
    path: Path,
    reading: Reading | None = None,
    *,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    order: tuple[int, ...] | None = None,
) -> Adopted:
    """Reads a third-party file.

    Args:
        path: The file; its weights may be in other files beside it.
        reading: How to read it.
        mean: Subtracted from the pixels after they have the file's range; one number for each channel of the images,
            or one for all.
        std: What they are divided by after that; given if and only if mean is.
        order: For each class of the data set, the index of its logit; None keeps the order.

    Raises:
        InputError: The file is damaged, malicious, or not an image classifier; or it cannot be told how to read it, and
            the message says which option does.
    """
    data = read_bytes(path)
    reading = reading or Reading()
    model = parse_onnx(data, path, third_party=True, contrib=reading.contrib)
    return _Adoption(model, data, path, reading).result(mean, std, order)


class _Adoption:
    def __init__(self, model: ModelProto, data: bytes, path: Path, reading: Reading) -> None:
        self._model, self._data, self._path, self._reading = model, data, path, reading
        graph = model.graph
        self._stored = {tensor.name for tensor in graph.initializer}
        self._stored |= {tensor.values.name for tensor in graph.sparse_initializer}
        self._opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self._notes: list[str] = []
        self._before: list[NodeProto] = []
        self._after: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._is_cut = self._single = False
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)} | self._stored
        self._taken |= {value.name for value in (*graph.input, *graph.output)}

    def result(
        self, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, order: tuple[int, ...] | None
    ) -> Adopted:
        given = self._image_input()
        hints = hints_of(self._model.graph, given.name, self._stored)
        last = self._channels_last(given, hints)
        batch, shape = self._image_shape(given, last)
        images = self._wrap_input(given, hints, last, shape[0], mean, std)
        outer = _rebuilt(self._model, self._before, self._constants)
        added = len(self._constants)
        _set_input(outer.graph, images, batch, shape)
        sizes = sizes_of(outer, Signature(images, "", shape, 1, batch), 1)
        output, dims = self._output(outer.graph, sizes, batch)
        logits, classes, labels = self._wrap_output(outer.graph, output, dims, sizes, order)
        if self._is_strict() and not self._before and logits == output.name:
            return Adopted(self._model, self._stored_bytes(self._model), tuple(self._notes), labels)
        final = _rebuilt(outer, [], self._constants[added:], self._after)
        _keep_only(final.graph, logits)
        _set_output(final.graph, logits, batch, classes)
        signature_of(final, self._path)
        answers = None
        if self._is_cut or self._single or labels:
            own = _rebuilt(outer, [], [])
            del own.graph.output[:]
            own.graph.output.append(output)
            _keep_only(own.graph, output.name)
            answers = own.SerializeToString(deterministic=True)
        data = final.SerializeToString(deterministic=True)
        return Adopted(final, data, tuple(self._notes), labels, answers, self._single, self._is_cut)

    def _is_strict(self) -> bool:
        """Whether the file's own inputs and outputs are those that engines take."""
        try:
            signature_of(self._model, self._path)
        except InputError:
            return False
        return len(self._model.graph.input) == 1

    def _stored_bytes(self, model: ModelProto) -> bytes:
        """The file's own bytes, unless some of its weights are in other files."""
        if has_external(ModelProto.FromString(self._data)):
            return model.SerializeToString(deterministic=True)
        return self._data

    # The input

    def _image_input(self) -> ValueInfoProto:
        values = [value for value in self._model.graph.input if value.name not in self._stored]
        if len(values) != 1:
            found = ", ".join(described(value) for value in values) or "none"
            self._refuse(f"must have one input without a default value, the images, but has {found}")
        (value,) = values
        kind = value.type.tensor_type.elem_type
        if kind not in (*_FLOATS, TensorProto.UINT8) or len(value.type.tensor_type.shape.dim) != 4:
            self._refuse(f"must take images with four axes as floats or uint8, but has {described(value)}")
        return value

    def _channels_last(self, value: ValueInfoProto, hints: Hints) -> bool:
        if self._reading.layout is not None:
            return self._reading.layout == "nhwc"
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        last = hints.layout == "nhwc" or (sizes[3] in _FEW_CHANNELS and sizes[1] not in _FEW_CHANNELS)
        if last and hints.layout == "nchw":
            self._refuse(f"cannot tell whether {described(value)} has its channels last; give --layout nhwc or nchw")
        return last

    def _image_shape(self, value: ValueInfoProto, last: bool) -> tuple[int | None, tuple[int, int, int]]:
        """The fixed batch size, if there is one, and (C, H, W)."""
        sizes = [max(dim.dim_value, 0) for dim in value.type.tensor_type.shape.dim]
        batch, *rest = sizes
        channels, height, width = (rest[2], rest[0], rest[1]) if last else rest
        wanted = self._reading.input_size
        if not (height and width):
            if wanted is None:
                self._refuse("leaves height and width free; give --input-size, such as --input-size 224")
            height, width = height or wanted[0], width or wanted[1]
        channels = channels or self._reading.image_channels or 3
        if math.prod((batch or 1, channels, height, width)) > MAX_ELEMENTS:
            self._refuse(f"takes images that are too large: {described(value)}")
        return batch or None, (channels, height, width)

    def _wrap_input(
        self,
        value: ValueInfoProto,
        hints: Hints,
        last: bool,
        channels: int,
        mean: tuple[float, ...] | None,
        std: tuple[float, ...] | None,
    ) -> str:
        """Adds nodes that make the file's input of images; gives the name of the new input."""
        kind = value.type.tensor_type.elem_type
        whole = kind == TensorProto.UINT8
        steps: list[tuple[str, dict[str, Any], list[TensorProto]]] = []
        if self._range(hints, whole) == 255:
            steps.append(("Mul", {}, [self._stored_as(np.array(255, np.float32))]))
        if mean is not None and std is not None:
            self._check_normalization(mean, std, channels, whole)
            steps.append(("Sub", {}, [self._stored_as(np.array(mean, np.float32).reshape(-1, 1, 1))]))
            steps.append(("Div", {}, [self._stored_as(np.array(std, np.float32).reshape(-1, 1, 1))]))
        if self._blue_first(hints, channels):
            steps.append(("Gather", {"axis": 1}, [self._stored_as(np.arange(channels - 1, -1, -1, dtype=np.int64))]))
        if last:
            self._notes.append("its input has the channels last")
            steps.append(("Transpose", {"perm": [0, 2, 3, 1]}, []))
        if whole:
            self._notes.append("it takes bytes, so attacks are judged on pixels rounded to multiples of 1/255")
            steps.append(("Add", {}, [self._stored_as(np.array(0.5, np.float32))]))
            steps.append(("Floor", {}, []))
        if kind != TensorProto.FLOAT:
            steps.append(("Cast", {"to": kind}, []))
            if not whole:
                self._notes.append(f"its input is {TensorProto.DataType.Name(kind).lower()}")
        if not steps:
            return value.name
        images = name = self._new_name("images")
        for place, (op, attributes, constants) in enumerate(steps):
            target = value.name if place == len(steps) - 1 else self._new_name("pixels")
            operands = [name, *(constant.name for constant in constants)]
            self._before.append(helper.make_node(op, operands, [target], self._new_name(op), **attributes))
            name = target
        return images

    def _range(self, hints: Hints, whole: bool) -> int:
        given = self._reading.range
        if whole:
            if given == 1:
                self._refuse("takes bytes, which are pixels from 0 to 255; leave out --range 1")
            return 255
        if given is None and hints.range == 255:
            self._notes.append(f"it takes pixels from 0 to 255: {hints.why}")
        return given or hints.range or 1

    def _blue_first(self, hints: Hints, channels: int) -> bool:
        given = self._reading.channels
        if given == "bgr" and channels != 3:
            self._refuse(f"has {channels} channels; --channels bgr needs 3")
        if given is None and hints.channels == "bgr" and channels == 3:
            self._notes.append("it takes blue before red: it subtracts ImageNet's means in that order")
            return True
        return given == "bgr"

    def _check_normalization(self, mean: tuple[float, ...], std: tuple[float, ...], channels: int, whole: bool) -> None:
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                msg = f"--{name} has {len(values)} values; give one value or one per channel ({channels})"
                raise InputError(msg)
        if min(std) <= 0:
            msg = f"--std {min(std):g}: standard deviations must be above 0"
            raise InputError(msg)
        if whole:
            self._refuse("takes bytes, which cannot be normalised; leave out --mean and --std")

    # The output

    def _output(self, graph: GraphProto, sizes: dict[str, Dims], batch: int | None) -> tuple[ValueInfoProto, Dims]:
        candidates = {}
        for value in graph.output:
            dims = sizes.get(value.name) or _declared(value)
            kept = [size for size in dims[1:] if size != 1]
            kind = value.type.tensor_type.elem_type
            numbers = kind in _FLOATS or (kind in _LABELS and not kept)
            if numbers and dims and len(kept) <= 1 and None not in kept and dims[0] in (batch or 1, None):
                candidates[value.name] = (value, dims)
        name = self._reading.output
        if name is not None:
            if name not in candidates:
                self._refuse_output(graph, f"--output {escaped(name)}: is not an output [batch, classes]")
            return candidates[name]
        wide = [name for name, (_, dims) in candidates.items() if any(size not in (1, None) for size in dims[1:])]
        named = wide or list(candidates)
        if len(named) != 1:
            self._refuse_output(graph, "must have one output [batch, classes]; --output NAME chooses one")
        return candidates[named[0]]

    def _refuse_output(self, graph: GraphProto, problem: str) -> NoReturn:
        found = ", ".join(described(value) for value in graph.output[:8])
        self._refuse(f"{problem}; it has {found}")

    def _wrap_output(
        self,
        graph: GraphProto,
        output: ValueInfoProto,
        dims: Dims,
        sizes: dict[str, Dims],
        order: tuple[int, ...] | None,
    ) -> tuple[str, int, bool]:
        """Adds nodes that make logits of the output; gives their name, their number, and whether they are labels."""
        name, kind = output.name, output.type.tensor_type.elem_type
        if len(graph.output) > 1:
            self._notes.append(f"of its {len(graph.output)} outputs, {escaped(name)!r} is used")
        cut = self._cut(graph, name, kind, sizes)
        if cut is not None:
            name, dims = cut, sizes[cut]
            kind = TensorProto.FLOAT if kind in _LABELS else kind
        if kind in _LABELS:
            return self._labels(name, order)
        if len(dims) != 2:
            name = self._add("Flatten", [name], axis=1) if len(dims) > 2 else self._add("Reshape", [name], [[-1, 1]])
        if kind != TensorProto.FLOAT or (cut is not None and output.type.tensor_type.elem_type in _LABELS):
            name = self._add("Cast", [name], to=TensorProto.FLOAT)
        (classes,) = [size for size in dims[1:] if size != 1] or [1]
        if classes is None:
            self._refuse_output(graph, "cannot tell how many classes there are")
        if classes == 1:
            self._single = True
            if self._reading.probability:
                self._notes.append("its one output is in [0, 1] and read as the probability of the second class")
                name = self._add("Sub", [name], np.array(0.5, np.float32))
            else:
                self._notes.append("its one logit z is read as two classes, [0, z]")
            name, classes = self._add("Mul", [name], np.array([[0, 1]], np.float32)), 2
        return self._ordered(name, classes, order), classes if order is None else len(order), False

    def _cut(self, graph: GraphProto, output: str, kind: int, sizes: dict[str, Dims]) -> str | None:
        """The scores before a softmax, sigmoid or argmax that the graph ends in; None if it does not end in one."""
        makers = {name: node for node in graph.node for name in node.output}
        node = makers.get(output)
        for _ in graph.node:  # no chain is longer, even if the nodes form a cycle
            if node is None or node.op_type not in _PASSING or not node.input:
                break
            node = makers.get(node.input[0])
        if node is None or not node.input:
            return None
        dims = sizes.get(node.input[0], ())
        # Of something else than one number for each class it is not a classifier's last node.
        if not self._reading.cut or not dims or None in dims or len([size for size in dims[1:] if size != 1]) > 1:
            return None
        over_classes = self._is_over_classes(node, [size or 0 for size in dims])
        if node.op_type in _PROBABILITIES and kind not in _LABELS and over_classes:
            what = "so that rounding of probabilities does not hide how close an attack is"
        elif node.op_type == "ArgMax" and kind in _LABELS and over_classes:
            what = "whose scores tell an attack more than labels do"
        else:
            return None
        self._is_cut = True
        self._notes.append(f"the {node.op_type} at its end is left out, {what}")
        return str(node.input[0])

    def _is_over_classes(self, node: NodeProto, dims: list[int]) -> bool:
        """Whether a last node works along the axis of the classes, or along none."""
        if node.op_type == "Sigmoid":
            return True
        usual = 0 if node.op_type == "ArgMax" else -1 if self._opset >= 13 else 1
        axis = attributes_of(node).get("axis", usual) % len(dims)
        if node.op_type == "Softmax" and self._opset < 13:  # all axes from this one on were one
            return axis > 0 and math.prod(dims[1:axis]) == 1
        return axis > 0 and (dims[axis] > 1 or math.prod(dims[1:]) == 1)

    def _labels(self, name: str, order: tuple[int, ...] | None) -> tuple[str, int, bool]:
        classes = self._reading.classes
        if classes is None:
            self._refuse("returns labels only, and it is not known how many classes there are")
        self._notes.append("it returns labels only, so attacks see no scores")
        flat = self._add("Reshape", [self._add("Cast", [name], to=TensorProto.INT64)], [[-1]])
        depth = self._stored_as(np.array(classes, np.int64)).name
        values = self._stored_as(np.array([-1, 1], np.float32)).name
        hot = self._add("OneHot", [flat, depth, values], axis=-1)
        return self._ordered(hot, classes, order), classes if order is None else len(order), True

    def _ordered(self, name: str, classes: int, order: tuple[int, ...] | None) -> str:
        if order is None:
            return name
        if len(set(order)) != len(order) or not set(order) <= set(range(classes)):
            msg = f"the labels name a class that is not among the engine's {classes} logits, or name one twice"
            raise InputError(msg)
        return self._add("Gather", [name], np.array(order, np.int64), axis=1)

    def _add(self, op: str, operands: list[str], constant: Any = None, **attributes: Any) -> str:
        """Adds a node after the graph; gives the name of its result."""
        if constant is not None:
            array = constant if isinstance(constant, np.ndarray) else np.array(constant[0], np.int64)
            operands = [*operands, self._stored_as(array).name]
        target = self._new_name("logits")
        self._after.append(helper.make_node(op, operands, [target], self._new_name(op), **attributes))
        return target

    def _stored_as(self, array: np.ndarray[Any, Any]) -> TensorProto:
        tensor = numpy_helper.from_array(array, self._new_name("constant"))
        self._constants.append(tensor)
        return tensor

    def _new_name(self, what: str) -> str:
        number = len(self._taken)
        while (name := f"tscnc.{what}.{number}") in self._taken:
            number += 1
        self._taken.add(name)
        return name

    def _refuse(self, problem: str) -> NoReturn:
        msg = f"{self._path}: {problem}"
        raise InputError(msg)


def _rebuilt(
    model: ModelProto,
    before: Sequence[NodeProto],
    constants: Sequence[TensorProto],
    after: Sequence[NodeProto] = (),
) -> ModelProto:
    """The model with nodes before and after, and with the constants that these need."""
    result = ModelProto()
    result.CopyFrom(model)
    # Until version 4, initializers had to be inputs too.
    result.ir_version = max(model.ir_version, 4)
    nodes = [*before, *model.graph.node, *after]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(constants)
    return result


def _set_input(graph: GraphProto, name: str, batch: int | None, shape: tuple[int, int, int]) -> None:
    sizes: list[int | str] = [batch or "batch", *shape]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
    # Shapes that the file declares may be those of the input before its sizes were set.
    del graph.value_info[:]


def _set_output(graph: GraphProto, name: str, batch: int | None, classes: int) -> None:
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch or "batch", classes]))


def _keep_only(graph: GraphProto, output: str) -> None:
    """Removes what the output does not need."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    sparse = [tensor for tensor in graph.sparse_initializer if tensor.values.name in needed]
    copy = GraphProto(initializer=tensors, sparse_initializer=sparse)
    del graph.node[:]
    del graph.initializer[:]
    del graph.sparse_initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(copy.initializer)
    graph.sparse_initializer.extend(copy.sparse_initializer)


def _declared(value: ValueInfoProto) -> Dims:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)
