"""ResNet (He et al., arXiv 1512.03385) from torchvision's blocks, with a stem that depends on the image size.

Parameters have torchvision's names, so its checkpoints load wherever the shapes match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from tscnc_deploy.models.builtin.stem import channels, first_convolution, first_pooling
from tscnc_deploy.models.config import ModelConfig

__all__ = ["BasicBlock", "Bottleneck", "ResNet"]


class ResNet(nn.Module):
    """Four stages of residual blocks; the last three begin with stride 2."""

    def __init__(self, config: ModelConfig, block: Any, depths: Sequence[int]) -> None:
        super().__init__()
        widths = [channels(count, config.width) for count in (64, 128, 256, 512)]
        self.conv1 = first_convolution(config, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = first_pooling(config)
        self.layer1 = _stage(block, widths[0], widths[0], depths[0], stride=1)
        self.layer2 = _stage(block, widths[0] * block.expansion, widths[1], depths[1], stride=2)
        self.layer3 = _stage(block, widths[1] * block.expansion, widths[2], depths[2], stride=2)
        self.layer4 = _stage(block, widths[2] * block.expansion, widths[3], depths[3], stride=2)
        self.fc = nn.Linear(widths[3] * block.expansion, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def _stage(block: Any, inputs: int, planes: int, depth: int, *, stride: int) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    first = block(inputs, planes, stride=stride, downsample=shortcut)
    return nn.Sequential(first, *(block(outputs, planes) for _ in range(depth - 1)))
