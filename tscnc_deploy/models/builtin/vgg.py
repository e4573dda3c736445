"""VGG-16 with batch normalisation (Simonyan & Zisserman, arXiv 1409.1556) from torchvision's layers.

One linear layer replaces the three large ones, as is usual for small images.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from tscnc_deploy.models.builtin.stem import channels
from tscnc_deploy.models.config import ModelConfig


class Vgg(nn.Module):
    """Thirteen 3x3 convolutions with five max poolings, global average pooling, and one linear layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        form = [item if item == "M" else channels(item, config.width) for item in cfgs["D"]]
        self.features = make_layers(form, batch_norm=True)
        if config.input_shape[0] != 3:
            self.features[0] = nn.Conv2d(config.input_shape[0], form[0], 3, padding=1)
        side = min(config.input_shape[1:])
        for index, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d):
                if side == 1:
                    # Replaced by an identity, so that parameters have the same names for every size.
                    self.features[index] = nn.Identity()
                side = max(1, side // 2)
        self.classifier = nn.Linear(channels(512, config.width), config.classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))
