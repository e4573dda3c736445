"""A checked ONNX graph as an `nn.Module`, node by node.

Values are of three kinds. Constants are computed once, when the module is made. Sizes depend on how many images there
are, but not on what they show; they stay on the CPU and have no gradient. Everything else is computed from the images,
on the device of the module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from onnx import ModelProto
from torch import Tensor, nn

from tscnc_deploy.engines.onnx.differentiable.node import tensor_of
from tscnc_deploy.engines.onnx.differentiable.shapes import outlines_of
from tscnc_deploy.engines.onnx.differentiable.step import Step, steps_of
from tscnc_deploy.engines.onnx.differentiable.taps import cropped
from tscnc_deploy.engines.onnx.file import array_of, dense_array
from tscnc_deploy.engines.onnx.flow import computed_from
from tscnc_deploy.engines.onnx.fold_norms import fold_norms
from tscnc_deploy.engines.onnx.limits import MAX_ELEMENTS
from tscnc_deploy.engines.onnx.memory import require_memory
from tscnc_deploy.engines.onnx.signature import Signature, signature_of
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

# Constants of so few elements may be numbers of a shape, which is computed on the CPU.
_SHORT = 64
# Elements that are read and written to compute constants from constants, in any case and per stored one.
_FREE = 1 << 24
_PER_STORED = 16


class GraphModule(nn.Module):
    """Images float32 [N, C, H, W] -> logits float32 [N, K], with a gradient with respect to the images.

    The module is in eval mode and has buffers only. `double()` makes it compute in float64, and `to` moves it to
    another device. The batch size may change from call to call; a file with a fixed one is given that many at a time.
    Numbers that the file has in float16 or float64 are computed in the module's dtype, with the rounding of casts to
    float16 (straight-through). Integers through which a gradient passes are computed in the module's dtype, too.

    Args:
        model: A model that `onnx.file` has read.
        path: Its file, for messages.

    Attributes:
        steps: The nodes that are computed in every call.
        elements: Number of elements that they compute for each image; a gradient keeps most of them in memory.

    Raises:
        InputError: A node has an operator or attributes that are not supported, or makes a shape of what the images
            show; the message names it. Or one image needs too much memory.
    """

    _like: Tensor

    def __init__(self, model: ModelProto, path: Path) -> None:
        super().__init__()
        self._path, self._signature = path, signature_of(model, path)
        # Before anything is computed.
        outlines = outlines_of(model, self._signature, 1, path)
        _require_logits(self._signature, outlines, path)
        _require_memory(model, self._signature, outlines, path)
        self.register_buffer("_like", torch.zeros(()), persistent=False)
        self._names: dict[str, str] = {}
        self._known: dict[str, Tensor] = {}
        self._moved: dict[tuple[str, torch.device], Tensor] = {}
        self.steps = self._built(fold_norms(model), outlines)
        results = [name for step in self.steps if step.on_images for name in step.outputs if name]
        self.elements = sum(outlines[name].numel() for name in results) // (self._signature.batch or 1)
        self.eval().requires_grad_(False)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self._signature.input_shape

    @property
    def classes(self) -> int:
        """K, the number of logits."""
        return self._signature.classes

    def forward(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor):
            msg = "a graph is not traced"
            raise TypeError(msg)
        if tuple(images.shape[1:]) != self._signature.input_shape:
            msg = f"{self._path}: takes images of {self._signature.input_shape}, not {tuple(images.shape[1:])}"
            raise InputError(msg)
        if not len(images):
            # Shapes such as [0, -1] would not say what the result's are.
            return self(images.new_zeros(1, *images.shape[1:]))[:0] + images.sum()
        if self._signature.batch not in (None, len(images)):
            return self._in_batches(images, self._signature.batch or 1)
        return self._computed(images)

    def _in_batches(self, images: Tensor, batch: int) -> Tensor:
        found = []
        for part in torch.split(images, batch):
            missing = batch - len(part)
            whole = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            found.append(self._computed(whole)[: len(part)])
        return torch.cat(found)

    def _computed(self, images: Tensor) -> Tensor:
        values = {self._signature.input: images.to(self._like)}
        for step in self.steps:
            values.update(self.outputs_of(step, values))
            for name in step.ends:
                values.pop(name, None)
        return values[self._signature.output]

    def outputs_of(self, step: Step, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a node computes.

        Args:
            step: One of `steps`.
            values: What it reads, by name; constants need not be among them.

        Raises:
            InputError: It cannot be computed with these values.
        """
        operands = [self._operand(step, place, name, values) for place, name in enumerate(step.inputs)]
        if not step.on_images and any(tensor is not None and tensor.device.type != "cpu" for tensor in operands):
            operands = [
                tensor if tensor is None or place in step.sizes else self._on_device(tensor)
                for place, tensor in enumerate(operands)
            ]
        return step.compute(operands, self._path)

    def _operand(self, step: Step, place: int, name: str, values: Mapping[str, Tensor]) -> Tensor | None:
        if not name:
            return None
        found = values.get(name)
        if place in step.sizes:
            return found if found is not None else self._known.get(name, getattr(self, self._names.get(name, ""), None))
        if not step.on_images:
            if found is not None or name in self._known:
                return found if found is not None else self._known[name]
            return self._stored(name)
        if found is not None:
            return self._on_device(found)
        return self._stored(name)

    def _stored(self, name: str) -> Tensor:
        """A constant on the module's device."""
        if (buffer := self._names.get(name)) is not None:
            tensor: Tensor = getattr(self, buffer)
            return tensor
        device = self._like.device
        if device.type == "cpu":
            return self._known[name]
        if (name, device) not in self._moved:
            self._moved[name, device] = self._known[name].to(device)
        return self._moved[name, device]

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._like if tensor.is_floating_point() else self._like.device)

    # Construction

    def _built(self, model: ModelProto, outlines: Mapping[str, Tensor]) -> tuple[Step, ...]:
        graph, signature = model.graph, self._signature
        constants = {tensor.name: tensor_of(array_of(tensor)) for tensor in graph.initializer}
        constants |= {sparse.values.name: tensor_of(dense_array(sparse)) for sparse in graph.sparse_initializer}
        most = _FREE + _PER_STORED * sum(tensor.numel() for tensor in constants.values())
        sized, steps, computed = {signature.input}, [], 0
        for step in steps_of(model, computed_from(graph, signature.input), self._path):
            if step.on_images or any(name in sized for name in step.inputs):
                sized.update(name for name in step.outputs if name)
                steps.append(_with_type(step, outlines))
                continue
            computed += sum(outlines[name].numel() for name in {*step.inputs, *step.outputs} if name in outlines)
            if computed > most:
                msg = f"{step.where(self._path)}: the graph computes with more than {most} numbers of constants"
                raise InputError(msg)
            constants.update(self._constant(step, constants))
        for place, step in enumerate(steps):
            if (smaller := cropped(step, outlines, constants)) is not None:
                steps[place] = smaller[0]
                constants[smaller[0].inputs[1]] = smaller[1]
        needed = {signature.output}
        for place in range(len(steps) - 1, -1, -1):
            if needed.intersection(steps[place].outputs):
                needed.update(steps[place].inputs)
            else:
                del steps[place]
        self._keep({name: tensor for name, tensor in constants.items() if name in needed})
        return tuple(_with_ends(steps, signature.output))

    def _constant(self, step: Step, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            return step.compute([constants[name] if name else None for name in step.inputs], self._path)

    def _keep(self, constants: Mapping[str, Tensor]) -> None:
        for number, (name, tensor) in enumerate(constants.items()):
            if tensor.is_floating_point():
                self._names[name] = f"_constant_{number}"
                self.register_buffer(self._names[name], tensor.contiguous())
            if not tensor.is_floating_point() or tensor.numel() <= _SHORT:
                self._known[name] = tensor.contiguous()


def _require_logits(signature: Signature, outlines: Mapping[str, Tensor], path: Path) -> None:
    found, wanted = outlines.get(signature.output), (signature.batch or 1, signature.classes)
    if found is None or tuple(found.shape) != wanted or not found.is_floating_point():
        msg = f"{path}: its nodes do not compute the output {escaped(signature.output)!r} of the shape {list(wanted)}"
        raise InputError(msg)
    if not found.is_meta:
        msg = f"{path}: its output does not depend on the images"
        raise InputError(msg)


def _require_memory(model: ModelProto, signature: Signature, outlines: Mapping[str, Tensor], path: Path) -> None:
    elements = {name: outlines[name].numel() for node in model.graph.node for name in node.output if name}
    require_memory(model, elements, signature, path)
    # A gradient needs what all nodes compute.
    each = sum(elements.values()) // (signature.batch or 1)
    if each > MAX_ELEMENTS:
        msg = (
            f"{path}: needs {each} elements in memory for the gradient of one image; at most {MAX_ELEMENTS} are allowed"
        )
        raise InputError(msg)


def _with_type(step: Step, outlines: Mapping[str, Tensor]) -> Step:
    """The step, which knows whether it computes integers."""
    found = outlines.get(step.outputs[0]) if step.outputs else None
    integral = found is not None and not found.is_floating_point() and found.dtype != torch.bool
    return replace(step, node=replace(step.node, integral=integral))


def _with_ends(steps: Sequence[Step], output: str) -> Iterable[Step]:
    """The steps, each with the names that none of the later ones reads."""
    last: dict[str, int] = {}
    for place, step in enumerate(steps):
        last.update(dict.fromkeys((*step.inputs, *step.outputs), place))
    last[output] = len(steps)
    for place, step in enumerate(steps):
        ends = tuple(name for name in {*step.inputs, *step.outputs} if last[name] == place)
        yield replace(step, ends=ends)
