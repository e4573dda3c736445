"""Wide ResNet with pre-activation (Zagoruyko & Komodakis, arXiv 1605.07146).

Modules have the names used in public adversarially trained checkpoints of this network (TRADES, RobustBench).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tscnc_deploy.models.builtin.stem import channels, first_convolution, first_pooling
from tscnc_deploy.models.config import ModelConfig


class WideResNet(nn.Module):
    """Three groups of (depth - 4) / 6 blocks; the second and third group begin with stride 2."""

    def __init__(self, config: ModelConfig, *, depth: int, widen: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        stem, *widths = (channels(count, config.width) for count in (16, 16 * widen, 32 * widen, 64 * widen))
        self.conv1 = first_convolution(config, stem)
        self.maxpool = first_pooling(config)
        self.block1 = Group(stem, widths[0], blocks, stride=1)
        self.block2 = Group(widths[0], widths[1], blocks, stride=2)
        self.block3 = Group(widths[1], widths[2], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.maxpool(self.conv1(x)))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class Group(nn.Module):
    """Blocks of one width; the first one changes width and resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, outputs, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class PreActivationBlock(nn.Module):
    """Normalisation, ReLU and a 3x3 convolution, twice, plus the input or its 1x1 projection."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        projects = stride != 1 or inputs != outputs
        self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        # A projection takes the activated input, the identity the raw one.
        shortcut = x if self.convShortcut is None else self.convShortcut(activated)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(activated))))
