"""The built-in networks, in their form for small images and with any width."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from tscnc_deploy.models.builtin.mobilenet import mobilenet_v2
from tscnc_deploy.models.builtin.resnet import BasicBlock, Bottleneck, ResNet
from tscnc_deploy.models.builtin.vgg import Vgg
from tscnc_deploy.models.builtin.vit import Positions, Vit
from tscnc_deploy.models.builtin.wide_resnet import WideResNet
from tscnc_deploy.models.config import ModelConfig

NETWORKS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "resnet18": lambda config: ResNet(config, BasicBlock, (2, 2, 2, 2)),
    "resnet34": lambda config: ResNet(config, BasicBlock, (3, 4, 6, 3)),
    "resnet50": lambda config: ResNet(config, Bottleneck, (3, 4, 6, 3)),
    "vgg16": Vgg,
    "wrn28-10": lambda config: WideResNet(config, depth=28, widen=10),
    "wrn34-10": lambda config: WideResNet(config, depth=34, widen=10),
    "mobilenetv2": mobilenet_v2,
    "vit-tiny": Vit,
}


def initialize(network: nn.Module, seed: int) -> None:
    """Draws the weights of a built-in network, see `classifier.build`."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, Positions):
            module.initialize(generator)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
