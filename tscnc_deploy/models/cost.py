"""What one image costs: multiply-accumulate operations of convolutions and linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.models.classifier import Classifier, skeleton


def layer_multiply_adds(model: Classifier) -> dict[str, int]:
    """Multiply-accumulates per image of each convolution and linear layer of the dense network, biases not counted.

    Runs the network on the meta device: shapes are computed, values are not.

    Returns:
        Counts by the layer's name in the model ("network.conv1"), in the order of the model's modules.
    """
    dense = skeleton(model.config).eval()
    counts: dict[str, int] = {}

    def count(name: str) -> Any:
        def hook(layer: nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # Each output value is a sum over one filter, or one row.
            counts[name] = output[0].numel() * layer.weight[0].numel()

        return hook

    for name, layer in dense.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            counts[name] = 0
            layer.register_forward_hook(count(name))
    with torch.no_grad():
        dense(torch.zeros(1, *model.config.input_shape, device="meta"))
    return counts


def multiply_adds(model: Classifier) -> int:
    """Multiply-accumulates per image of the dense network; see `layer_multiply_adds`."""
    return sum(layer_multiply_adds(model).values())
