"""On which maps the weights of a network are applied, whichever module applies them."""

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

from tscnc_deploy.tscnc.layers import layer_weights

_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_ATTENTION = inspect.signature(F.multi_head_attention_forward)
_APPLYING = (F.linear, F.conv1d, F.conv2d, F.conv3d, *_TRANSPOSED)


def applications(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, tuple[int, int]]:
    """Height and width of each layer's output for one image; (rows, 1) for linear layers: one row, or one per token.

    A weight is applied once per output pixel or row, and once per input pixel if the convolution is transposed. As is
    customary, padding counts, although a weight applied to padding contributes nothing.

    Args:
        model: Any module; it is run on one image, in eval mode.
        input_shape: [C, H, W].

    Returns:
        Sizes by the name of the layer's weight ("network.conv1.weight"), in module order; weights that are applied on
        nothing that depends on the image are left out. Of more dimensions, all but the last are multiplied into the
        height; so are the calls of a weight that is used several times.
    """
    weight = next(iter(model.parameters()))
    images = torch.zeros(1, *input_shape, device=weight.device, requires_grad=True)
    with _only_images_differentiable(model), parametrize.cached(), evaluated(model):
        weights = layer_weights(model)
        with _Applications({id(weight): name for name, weight in weights.items()}) as found:
            model(images)
    return {name: found.maps[name] for name in weights if name in found.maps}


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Context in which a model is in eval mode, and the global random state is one of its own."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.random.fork_rng(devices=()):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _only_images_differentiable(model: nn.Module) -> Iterator[None]:
    """Then what has a gradient depends on the images."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


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
            if not bound["query"].requires_grad:
                return result
            for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj_weight"):
                rows = bound["key" if name[0] in "kv" else "query"][..., 0].numel()
                self._note(bound.get(name), rows, 1)
        elif func in _APPLYING:
            images: Tensor = given["input"] if "input" in given else args[0]
            if not images.requires_grad:
                return result
            mapped = images if func in _TRANSPOSED else result
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
