"""Refuses ONNX graphs in which the answer to an image depends on the other images of the batch.

A graph is read twice, for two batch sizes: the axes whose sizes differ are those of the images. No operator may compute
one element from several along such an axis, pick some of them, or lay the elements out in another order. The size of
the batch may only be used where shapes are: in arithmetic, comparisons and selections it would make an answer depend on
how many images are asked about together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from tscnc_deploy.engines.batches import DEPENDS
from tscnc_deploy.engines.onnx.file import array_of
from tscnc_deploy.engines.onnx.flow import attributes_of, computed_from, data_operands, shape_operands
from tscnc_deploy.engines.onnx.mixing import mixed_axes
from tscnc_deploy.engines.onnx.signature import Signature
from tscnc_deploy.engines.onnx.sizes import numbers_of, sizes_of
from tscnc_deploy.engines.onnx.symbolic import (
    DERIVED,
    FREE,
    MOST,
    Number,
    Numbers,
    elementwise,
    is_sized,
    product,
    size_of_axis,
)
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

_IMAGE = ("batch", "channels", "height", "width")
# Two primes, above the sizes that broadcast.
_BATCHES = (5, 7)
# Shapes may contain the batch's size here; other operands that give bounds would make a content depend on it.
_SHAPES = {"ConstantOfShape", "Expand", "Reshape", "Resize", "Tile", "Upsample"}
_MOVE = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_WIDE = {TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.DOUBLE}
_LAY_OUT = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}


def needs_single_images(model: ModelProto, signature: Signature, path: Path) -> bool:
    """Whether the graph must be given one image at a time, as the scales of its dynamic quantisation need it.

    DynamicQuantizeLinear, and onnxruntime's operators that contain it, take their scale from their whole input, that of
    all images of a batch.

    Raises:
        InputError: It must, but has a fixed batch size of more.
    """
    found = next((node for node in model.graph.node if node.op_type.startswith("DynamicQuantize")), None)
    if found is not None and (signature.batch or 1) > 1:
        msg = (
            f"{path}: node {escaped(found.name)!r} ({found.op_type}) takes its scale from all "
            f"{signature.batch} images of a batch, so the answer to an image {DEPENDS}; export it with a batch of 1"
        )
        raise InputError(msg)
    return found is not None


def require_independent_images(model: ModelProto, signature: Signature, path: Path) -> None:
    """Refuses a graph whose answer to an image depends on the other images of the batch.

    Not found are dependences in values whose shapes shape inference does not determine, and, in a file with a fixed
    batch size, those behind a transposition of the batch's axis. `engines.batches` looks for them by trying.

    Args:
        model: A model that `onnx.file` has read and a runtime accepts.
        signature: Its input and output.
        path: Its file, for messages.

    Raises:
        InputError: It depends on the batch, or its nodes are not in the order in which they compute; the message names
            the node.
    """
    _Graph(model, signature, path).check()


class _Graph:
    def __init__(self, model: ModelProto, signature: Signature, path: Path) -> None:
        self._model = model
        self._nodes = model.graph.node
        self._signature = signature
        self._path = path
        self._opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        self._first, self._second = (sizes_of(model, signature, batch) for batch in _BATCHES)
        self._images = computed_from(model.graph, signature.input)
        self._stored = {tensor.name for tensor in model.graph.initializer}
        self._stored |= {tensor.values.name for tensor in model.graph.sparse_initializer}
        self._numbers = {tensor.name: known for tensor in model.graph.initializer if (known := _small(tensor))}
        self._sized: set[str] = set()  # values that depend on the batch's size, too large or too deep to follow
        self._moved: set[str] = set()  # with a fixed batch: values whose first axis may not be the images
        self._outer: dict[str, int] = {}

    def check(self) -> None:
        known = {self._signature.input, "", *self._stored}
        for node in self._nodes:
            if missing := [name for name in node.input if name not in known]:
                self._refuse(node, f"reads {escaped(missing[0])!r} before it is computed")
            known.update(node.output)
            self._check_training(node)
            self._check_axes(node)
            self._check_sizes(node)
            self._check_layout(node)
        if self._is_sized(self._signature.output):
            msg = f"{self._path}: its output is computed from the batch's size, so an answer {DEPENDS}"
            raise InputError(msg)

    # Statistics of the batch

    def _check_training(self, node: NodeProto) -> None:
        attributes = attributes_of(node)
        if node.op_type == "BatchNormalization" and self._images.intersection(node.input):
            # Before opset 14, more than one output means training.
            trains = attributes.get("training_mode") or (self._opset < 14 and len([n for n in node.output if n]) > 1)
            if trains:
                self._depends(node, "is in training mode and normalises by the statistics of the batch")
        if node.op_type == "Dropout":
            mode = node.input[2] if len(node.input) > 2 else ""
            if mode and self._numbers.get(mode) not in ((0,), (False,)):
                self._refuse(node, "is in training mode and drops values at random; export the model in eval mode")
            if self._opset < 7 and not attributes.get("is_test"):
                self._refuse(node, "is in training mode and drops values at random; export the model in eval mode")

    # Operators along the axis of the images

    def _varying(self, name: str) -> set[int]:
        """The axes along which images lie, or anything else whose size depends on the batch's."""
        first, second = self._first.get(name), self._second.get(name)
        if first is None or second is None or len(first) != len(second) or name in self._stored:
            return set()
        if (batch := self._signature.batch) is not None:
            return {0} if name in self._images - self._moved and batch > 1 and first[:1] == (batch,) else set()
        return {axis for axis, sizes in enumerate(zip(first, second, strict=True)) if sizes[0] != sizes[1]}

    def _check_axes(self, node: NodeProto) -> None:
        for place, axes in mixed_axes(node, self._opset, self._rank, self._integers):
            name = node.input[place]
            if axes and name in self._images and None in self._first.get(name, (None,)):
                self._refuse(node, f"works on {escaped(name)!r}, whose sizes cannot be known before running it")
            if found := axes & self._varying(name):
                self._depends(node, f"works along axis {min(found)} of {escaped(name)!r}, that of the images")
        if node.op_type in ("Resize", "Upsample") and node.output:
            self._check_resizing(node)
        for name in node.output:
            if name in self._images and len(self._varying(name)) > 1:
                self._depends(node, "combines every image with every other")

    def _check_resizing(self, node: NodeProto) -> None:
        """Refuses a change of size along the images; a scale close to 1 keeps their number only if it is small."""
        varying = self._varying(node.input[0])
        if not varying:
            return
        before, after = self._axes_of(node.input[0]), self._axes_of(node.output[0])
        attributes = attributes_of(node)
        # Resize takes scales in third place since operator set 11, before in second place as Upsample does.
        place = 2 if node.op_type == "Resize" and self._opset >= 11 else 1
        name = node.input[place] if place < len(node.input) else ""
        scales = attributes.get("scales") or (self._same_numbers.get(name) if name else [])
        axes = [axis % len(after or (0,)) for axis in attributes.get("axes", range(len(after or ())))]
        for axis in varying:
            if before is None or after is None or before[axis] != after[axis]:
                self._depends(node, "resizes along the axis of the images")
            if scales is None or (scales and axis in axes and scales[axes.index(axis)] != 1):
                self._depends(node, "resizes along the axis of the images")
            if attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize" and axis in axes:
                self._depends(node, "crops along the axis of the images")

    def _rank(self, name: str) -> int | None:
        sizes = self._first.get(name)
        if sizes is None:
            # As of an image: an operator that mixes axes is to be found though the sizes are unknown.
            return len(_IMAGE) if name in self._images else None
        return len(sizes)

    def _integers(self, name: str) -> list[int] | None:
        numbers = self._numbers.get(name, (FREE,))
        found = [number for number in numbers if isinstance(number, int)]
        if len(found) == len(numbers):
            return found
        followed = self._same_numbers.get(name, [0.5])
        return [int(number) for number in followed] if all(number == int(number) for number in followed) else None

    @cached_property
    def _same_numbers(self) -> dict[str, list[float]]:
        """Numbers that are computed from sizes and do not depend on the batch's."""
        first, second = (numbers_of(self._model, self._signature, batch) for batch in _BATCHES)
        return {name: numbers for name, numbers in first.items() if second.get(name) == numbers}

    def _check_layout(self, node: NodeProto) -> None:
        """Follows how many elements lie outside of the images on their axis, which a reshape must keep apart."""
        operands = [name for _, name in data_operands(node) if name in self._images]
        if not operands or not node.output:
            return
        if self._signature.batch is not None:
            moves = node.op_type == "Transpose" and list(attributes_of(node).get("perm", [-1]))[:1] != [0]
            if moves or any(name in self._moved for name in operands):
                self._moved.update(node.output)
            return
        source, target = self._place_of(operands[0]), self._place_of(node.output[0])
        if node.op_type not in _LAY_OUT:
            outers = {self._outer.get(name, 1) for name in operands if self._varying(name)}
            if len(outers) > 1:
                self._depends(node, "combines images in different orders")
            if outers:
                self._outer.update(dict.fromkeys(node.output, outers.pop()))
        elif source and target:
            outside = source[0] * self._outer.get(operands[0], 1)
            outer, rest = divmod(outside, max(target[0], 1))
            each, left = divmod(target[1], _BATCHES[0])
            if rest or left or not outer or each % outer:
                self._depends(node, "lays out the elements of images so that those of several become one's")
            self._outer[node.output[0]] = outer

    def _place_of(self, name: str) -> tuple[int, int] | None:
        """Number of elements before the axis of the images, and the size of that axis; None if there is not one."""
        axes, sizes = self._varying(name), self._first.get(name)
        if len(axes) != 1 or sizes is None or None in sizes:
            return None
        axis = axes.pop()
        return math.prod(size or 0 for size in sizes[:axis]), sizes[axis] or 0

    # The batch's size as a number

    def _is_sized(self, name: str) -> bool:
        return name in self._sized or is_sized(self._numbers.get(name, ()))

    def _check_sizes(self, node: NodeProto) -> None:
        if self._signature.batch is not None:
            return  # its size is a constant
        if node.op_type in ("Shape", "Size", "Constant"):
            self._set_source(node)
            return
        data = [name for _, name in data_operands(node)]
        as_data = [name for name in data if self._is_sized(name)]
        for place in shape_operands(node):
            name = node.input[place] if place < len(node.input) else ""
            if not name or not self._is_sized(name):
                continue
            numbers = self._numbers.get(name)
            if node.op_type not in _SHAPES:
                as_data.append(name)
            elif numbers is None or DERIVED in numbers:
                self._depends(node, f"makes a shape of {escaped(name)!r}, which is not a multiple of the batch's size")
        if as_data and any(name in self._images for name in data):
            self._depends(node, f"computes with {escaped(as_data[0])!r}, a number made of the batch's size")
        numbers = self._computed(node)
        if numbers is not None and self._first.get(node.output[0]) in ((), (len(numbers),)):
            self._numbers[node.output[0]] = numbers
        elif as_data:
            self._sized.update(name for name in node.output if name)

    def _axes_of(self, name: str) -> Numbers | None:
        first, second = self._first.get(name), self._second.get(name)
        if first is None or second is None or len(first) != len(second):
            return None
        return tuple(size_of_axis(*sizes, _BATCHES) for sizes in zip(first, second, strict=True))

    def _set_source(self, node: NodeProto) -> None:
        if node.op_type == "Constant":
            if (known := _constant(node.attribute)) is not None and node.output:
                self._numbers[node.output[0]] = known
            return
        attributes, output = attributes_of(node), node.output[0]
        sizes = self._axes_of(node.input[0])
        if sizes is None:
            self._sized.add(output)
        elif node.op_type == "Size":
            self._numbers[output] = (product(sizes),)
        else:
            self._numbers[output] = sizes[attributes.get("start", 0) : attributes.get("end", len(sizes))]

    def _computed(self, node: NodeProto) -> Numbers | None:
        """The result of a node that computes with a few numbers, which do not depend on the images."""
        operands = [self._numbers.get(name) for _, name in data_operands(node)]
        if not operands or len(node.output) != 1 or not all(operands):
            return self._filled(node)
        values: list[Numbers] = [numbers for numbers in operands if numbers is not None]
        attributes, first = attributes_of(node), values[0]
        found: Sequence[Number] | None = None
        if node.op_type == "Cast" and attributes.get("to") not in _WIDE:
            found = None
        elif node.op_type in _MOVE:
            found = first
        elif node.op_type == "Gather":
            places = self._integers(node.input[1])
            if places is not None and all(-len(first) <= place < len(first) for place in places):
                found = [first[place] for place in places]
        elif node.op_type == "Slice":
            bounds = [self._integers(name) if name else None for name in [*node.input, "", ""][1:5]]
            del bounds[2]  # the axes: there is one
            start, end, step = (bound[0] if bound and len(bound) == 1 else None for bound in bounds)
            stepped = len(node.input) > 4 and node.input[4]
            if start is not None and end is not None and (step or not stepped):
                found = first[slice(start, end, step)]
        elif node.op_type == "Concat":
            found = [number for numbers in values for number in numbers]
        elif node.op_type == "ReduceProd":
            found = [product(first)] if len(first) > 0 else None
        else:
            found = elementwise(node.op_type, values)
        return tuple(found) if found is not None and 0 < len(found) <= MOST else None

    def _filled(self, node: NodeProto) -> Numbers | None:
        """The result of a ConstantOfShape that makes a short vector."""
        if node.op_type != "ConstantOfShape":
            return None
        sizes = self._integers(node.input[0])
        if sizes is None or len(sizes) != 1 or not 0 < sizes[0] <= MOST:
            return None
        value = attributes_of(node).get("value")
        filled = _small(value) if isinstance(value, TensorProto) else (0,)
        return filled[:1] * sizes[0] if filled else None

    # Messages

    def _depends(self, node: NodeProto, what: str) -> NoReturn:
        self._refuse(node, f"{what}, so the answer to an image {DEPENDS}")

    def _refuse(self, node: NodeProto, what: str) -> NoReturn:
        msg = f"{self._path}: node {escaped(node.name)!r} ({node.op_type}) {what}"
        raise InputError(msg)


def _small(tensor: TensorProto) -> Numbers | None:
    """The values of a scalar or short vector."""
    if len(tensor.dims) > 1 or not 0 < math.prod(tensor.dims) <= MOST:
        return None
    values = array_of(tensor).reshape(-1)
    if values.dtype.kind not in "biu":
        return (FREE,) * len(values)
    return tuple(int(value) for value in values)


def _constant(attributes: Sequence[AttributeProto]) -> Numbers | None:
    for attribute in attributes:
        if attribute.type == AttributeProto.TENSOR:
            return _small(attribute.t)
        if attribute.name == "value_int":
            return (attribute.i,)
        if attribute.name == "value_ints" and 0 < len(attribute.ints) <= MOST:
            return tuple(attribute.ints)
    return None
