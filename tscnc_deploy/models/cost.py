"""The cost of one image: how often each weight is applied, and the resulting MACs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.models.classifier import Classifier, skeleton
from tscnc_deploy.models.vit import Attention


def output_maps(model: Classifier) -> dict[str, tuple[int, int]]:
    """Height and width of each layer's output for one image; (rows, 1) for linear layers: one row, or one per token.

    A weight is applied once per output pixel or row. As is customary, padding counts, although a weight applied to
    padding contributes nothing. Runs the network on the meta device: shapes are computed, values are not.

    Returns:
        Sizes by the name of the layer's weight ("network.conv1.weight"), in module order.
    """
    dense = skeleton(model.config).eval()
    maps: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Any:
        def hook(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            maps[name] = (output.shape[2], output.shape[3]) if output.ndim == 4 else (len(output), 1)

        return hook

    for name, layer in dense.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note(f"{name}.weight"))
    with torch.no_grad():
        dense(torch.zeros(1, *model.config.input_shape, device="meta"))
    return maps


def layer_multiply_adds(model: Classifier) -> dict[str, int]:
    """MACs per image of each convolution and linear layer of the dense network, biases not counted.

    Returns:
        Counts by the name of the layer's weight, see `output_maps`.
    """
    weights = dict(model.named_parameters())
    return {name: weights[name].numel() * height * width for name, (height, width) in output_maps(model).items()}


def multiply_adds(model: Classifier) -> int:
    """MACs per image of the dense network: those of its layers, see `layer_multiply_adds`, and those of attention.

    The matrix products of attention have no weights, so pruning does not save them, and counts from files exclude them.
    """
    attention = sum(module.multiply_adds for module in model.modules() if isinstance(module, Attention))
    return sum(layer_multiply_adds(model).values()) + attention
