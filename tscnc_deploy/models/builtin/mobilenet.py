"""MobileNetV2 (Sandler et al., arXiv 1801.04381) from torchvision's class, with strides for small images."""

from __future__ import annotations

from torch import nn
from torchvision.models import MobileNetV2
from torchvision.ops import Conv2dNormActivation

from tscnc_deploy.models.builtin.stem import channels, is_large
from tscnc_deploy.models.config import ModelConfig


def mobilenet_v2(config: ModelConfig) -> nn.Module:
    """Inverted residuals; the total stride is 8 for small images and 32 for large ones.

    No dropout: it would draw from the global random state.
    """
    stride = 2 if is_large(config) else 1
    # Expansion, channels, blocks and stride of each stage: table 2 of the paper, except for the first two strides.
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, stride],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    network = MobileNetV2(config.classes, config.width, stages, dropout=0.0)
    first, last = network.features[0][0], network.features[-1][0]
    network.features[0][0] = nn.Conv2d(config.input_shape[0], first.out_channels, 3, stride, padding=1, bias=False)
    # In torchvision the last layer always has at least 1,280 channels, but a width below 1 should reduce it.
    outputs = channels(1280, config.width)
    network.features[-1] = Conv2dNormActivation(last.in_channels, outputs, 1, activation_layer=nn.ReLU6)
    network.classifier[-1] = nn.Linear(outputs, config.classes)
    return network
