"""What one image costs: how often each weight is applied, and the multiply-accumulate operations that makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.models.classifier import Classifier, skeleton
from tscnc_deploy.models.vit import Attention


def output_maps(model: Classifier) -> dict[str, tuple[int, int]]:
    """Height and width of what each layer gives for one image; (rows, 1) for linear layers: 1 row, or 1 for each token.

    A weight is applied once to each pixel or row of it: padding counts, as is the custom, although a weight that meets
    nothing but padding changes nothing. Runs the network on the meta device: shapes are computed, values are not.

    Returns:
        Sizes by the name of the layer's weight ("network.conv1.weight"), in the order of the model's modules.
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
    """Multiply-accumulates per image of each convolution and linear layer of the dense network, biases not counted.

    Returns:
        Counts by the name of the layer's weight, see `output_maps`.
    """
    weights = dict(model.named_parameters())
    return {name: weights[name].numel() * height * width for name, (height, width) in output_maps(model).items()}


def multiply_adds(model: Classifier) -> int:
    """Multiply-accumulates per image of the dense network: of its layers, see `layer_multiply_adds`, and of attention.

    The products of attention have no weights, so no zero saves them, and what is counted in files leaves them out.
    """
    attention = sum(module.multiply_adds for module in model.modules() if isinstance(module, Attention))
    return sum(layer_multiply_adds(model).values()) + attention
