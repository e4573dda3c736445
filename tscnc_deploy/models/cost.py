"""The cost of one image: how often each weight is applied, and the resulting MACs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from tscnc_deploy.models.classifier import Classifier
from tscnc_deploy.tscnc.layers import layer_weights

_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_ATTENTION = inspect.signature(F.multi_head_attention_forward)
_APPLYING = (F.linear, F.conv1d, F.conv2d, F.conv3d, *_TRANSPOSED)


def output_maps(model: Classifier) -> dict[str, tuple[int, int]]:
    """Height and width of each layer's output for one image; (rows, 1) for linear layers: one row, or one per token.

    A weight is applied once per output pixel or row, and once per input pixel if the convolution is transposed. As is
    customary, padding counts, although a weight applied to padding contributes nothing.

    Returns:
        Sizes by the name of the layer's weight ("network.conv1.weight"), in module order. Of more dimensions, all but
        the last are multiplied into the height; so are the calls of a weight that is used several times.
    """
    with parametrize.cached():
        weights = layer_weights(model)
        with _Applications({id(weight): name for name, weight in weights.items()}) as applications:
            _run_on_one_image(model)
    return {name: applications.maps[name] for name in weights if name in applications.maps}


class _Applications(TorchFunctionMode):
    """Notes the sizes on which known weights are applied, whichever module applies them.

    Args:
        names: The weights' names by their ids.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        super().__init__()
        self.maps: dict[str, tuple[int, int]] = {}
        self._names = names

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: dict[str, Any] = kwargs or {}
        result = func(*args, **given)
        if func is F.multi_head_attention_forward:
            # What it calls is not seen here.
            bound = _ATTENTION.bind(*args, **given).arguments
            for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj_weight"):
                rows = bound["key" if name[0] in "kv" else "query"][..., 0].numel()
                self._note(bound.get(name), rows, 1)
        elif func in _APPLYING:
            mapped = args[0] if func in _TRANSPOSED else result
            sizes = (mapped[..., 0].numel(), 1) if func is F.linear else _two(mapped.shape[2:])
            self._note(given.get("weight", args[1] if len(args) > 1 else None), *sizes)
        return result

    def _note(self, weight: Tensor | None, height: int, width: int) -> None:
        if weight is None or (name := self._names.get(id(weight))) is None:
            return
        before = self.maps.get(name)
        self.maps[name] = (height, width) if before is None else (before[0] + height * width // before[1], before[1])


def _two(sizes: Sequence[int]) -> tuple[int, int]:
    *others, width = sizes
    return (math.prod(others), width) if others else (width, 1)


def layer_multiply_adds(model: Classifier) -> dict[str, int]:
    """MACs per image of each convolution and linear layer of the dense network, biases not counted.

    Returns:
        Counts by the name of the layer's weight, see `output_maps`.
    """
    weights = layer_weights(model)
    return {name: weights[name].numel() * height * width for name, (height, width) in output_maps(model).items()}


def multiply_adds(model: Classifier) -> int:
    """MACs per image of the dense network: those of its layers, see `layer_multiply_adds`, and those of attention.

    The matrix products of attention have no weights, so pruning does not save them, and counts from files exclude them.
    """
    with FlopCounterMode(display=False) as counter:
        _run_on_one_image(model)
    # Two floating-point operations each.
    return counter.get_total_flops() // 2


def _run_on_one_image(model: Classifier) -> None:
    weight = next(iter(model.parameters()))
    images = torch.zeros(1, *model.config.input_shape, device=weight.device)
    # With gradients: without them, PyTorch replaces whole transformer layers by one operator that is not counted.
    with _evaluated(model), torch.random.fork_rng(devices=()):
        model(images)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
