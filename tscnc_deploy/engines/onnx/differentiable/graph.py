"""A checked ONNX graph as an `nn.Module`, node by node.

Values are of three kinds. Constants are computed once, when the module is made. Sizes depend on how many images there
are, but not on what they show; they stay on the CPU and have no gradient. Everything else is computed from the images,
on the device of the module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from tscnc_deploy.engines.onnx.differentiable.shapes import shapes_of
from tscnc_deploy.engines.onnx.differentiable.step import Step, steps_of, tensor_of
from tscnc_deploy.engines.onnx.file import array_of, indices_of
from tscnc_deploy.engines.onnx.flow import computed_from
from tscnc_deploy.engines.onnx.fold_norms import fold_norms
from tscnc_deploy.engines.onnx.signature import signature_of
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

# Constants of so few elements may be numbers of a shape, which is computed on the CPU.
_FEW = 64
# Elements of all constants that are computed from constants when a module is made.
_MOST_COMPUTED = 1 << 27


class GraphModule(nn.Module):
    """Images float32 [N, C, H, W] -> logits float32 [N, K], with a gradient with respect to the images.

    The module is in eval mode and has buffers only. `double()` makes it compute in float64, and `to` moves it to
    another device. The batch size may change from call to call; a file with a fixed one is given that many at a time.
    Numbers that the file has in float16 or float64 are computed in the module's dtype, with the rounding of casts to
    float16 (straight-through).

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
        signature = signature_of(model, path)
        # Before anything is computed.
        shapes = shapes_of(model, signature, signature.batch or 1, path)
        self._path = path
        self._input, self._output, self._batch = signature.input, signature.output, signature.batch
        self.register_buffer("_like", torch.zeros(()), persistent=False)
        self._names: dict[str, str] = {}
        self._known: dict[str, Tensor] = {}
        self._moved: dict[tuple[str, torch.device], Tensor] = {}
        self.steps = self._built(fold_norms(model), shapes)
        results = [name for step in self.steps if step.on_images for name in step.outputs]
        self.elements = sum(math.prod(shapes.get(name, ())) for name in results) // (self._batch or 1)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor):
            msg = "a graph is not traced"
            raise TypeError(msg)
        if self._batch is not None and len(images) != self._batch:
            return self._in_batches(images, self._batch)
        return self._computed(images)

    def _in_batches(self, images: Tensor, batch: int) -> Tensor:
        found = []
        for part in torch.split(images, batch):
            missing = batch - len(part)
            whole = torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part
            found.append(self._computed(whole)[: len(part)])
        return torch.cat(found)

    def _computed(self, images: Tensor) -> Tensor:
        values = {self._input: images}
        for step in self.steps:
            values.update(self.outputs_of(step, values))
            for name in step.ends:
                values.pop(name, None)
        return values[self._output]

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
        if tensor.is_floating_point() and not tensor.requires_grad:
            return tensor.to(self._like)
        return tensor.to(self._like.device)

    # Construction

    def _built(self, model: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Step, ...]:
        graph = model.graph
        on_images = computed_from(graph, self._input)
        constants = {tensor.name: tensor_of(array_of(tensor)) for tensor in graph.initializer}
        for sparse in graph.sparse_initializer:
            dense = np.zeros(int(np.prod(sparse.dims)), np.float32)
            dense[indices_of(sparse)] = array_of(sparse.values)
            constants[sparse.values.name] = torch.from_numpy(dense.reshape(list(sparse.dims)))
        sized, steps, computed = {self._input}, [], 0
        for step in steps_of(model, on_images, self._path):
            if step.on_images or any(name in sized for name in step.inputs):
                sized.update(step.outputs)
                steps.append(step)
                continue
            computed += sum(math.prod(shapes.get(name, ())) for name in step.outputs)
            if computed > _MOST_COMPUTED:
                msg = f"{self._path}: computes more than {_MOST_COMPUTED} numbers from constants"
                raise InputError(msg)
            constants.update(self._constant(step, constants))
        needed = {self._output}
        for place in range(len(steps) - 1, -1, -1):
            if needed.intersection(steps[place].outputs):
                needed.update(steps[place].inputs)
            else:
                del steps[place]
        self._keep({name: tensor for name, tensor in constants.items() if name in needed})
        if self._output in constants:
            msg = f"{self._path}: its output does not depend on the images"
            raise InputError(msg)
        return tuple(_with_ends(steps, self._output))

    def _constant(self, step: Step, constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if missing := [name for name in step.inputs if name and name not in constants]:
            msg = f"{step.where(self._path)}: reads {escaped(missing[0])!r} before it is computed"
            raise InputError(msg)
        with torch.no_grad():
            return step.compute([constants[name] if name else None for name in step.inputs], self._path)

    def _keep(self, constants: Mapping[str, Tensor]) -> None:
        for number, (name, tensor) in enumerate(constants.items()):
            if tensor.is_floating_point():
                self._names[name] = f"_constant_{number}"
                self.register_buffer(self._names[name], tensor.contiguous())
            if not tensor.is_floating_point() or tensor.numel() <= _FEW:
                self._known[name] = tensor.contiguous()


def _with_ends(steps: Sequence[Step], output: str) -> Iterable[Step]:
    """The steps, each with the names that none of the later ones reads."""
    last: dict[str, int] = {}
    for place, step in enumerate(steps):
        last.update(dict.fromkeys((*step.inputs, *step.outputs), place))
    last[output] = len(steps)
    for place, step in enumerate(steps):
        ends = tuple(name for name in {*step.inputs, *step.outputs} if last[name] == place)
        yield replace(step, ends=ends)
