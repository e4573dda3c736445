"""The cost of one image: how often each weight is applied, and the resulting MACs."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from tscnc_deploy.models.applications import applications, evaluated
from tscnc_deploy.models.classifier import Classifier
from tscnc_deploy.tscnc.layers import layer_weights


def output_maps(model: Classifier) -> dict[str, tuple[int, int]]:
    """On which maps each weight is applied, see `applications`."""
    return applications(model, model.config.input_shape)


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
    with evaluated(model), FlopCounterMode(display=False) as counter:
        weight = next(iter(model.parameters()))
        # With gradients: without them, PyTorch replaces whole transformer layers by one operator that is not counted.
        model(torch.zeros(1, *model.config.input_shape, device=weight.device))
    # Two floating-point operations each.
    return counter.get_total_flops() // 2
