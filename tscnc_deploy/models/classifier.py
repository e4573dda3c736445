"""The classifier: normalisation as its first layer, then one of the architectures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.mobilenet import mobilenet_v2
from tscnc_deploy.models.resnet import BasicBlock, Bottleneck, ResNet
from tscnc_deploy.models.vgg import Vgg
from tscnc_deploy.models.vit import Positions, Vit
from tscnc_deploy.models.wide_resnet import WideResNet

_NETWORKS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "resnet18": lambda config: ResNet(config, BasicBlock, (2, 2, 2, 2)),
    "resnet34": lambda config: ResNet(config, BasicBlock, (3, 4, 6, 3)),
    "resnet50": lambda config: ResNet(config, Bottleneck, (3, 4, 6, 3)),
    "vgg16": Vgg,
    "wrn28-10": lambda config: WideResNet(config, depth=28, widen=10),
    "wrn34-10": lambda config: WideResNet(config, depth=34, widen=10),
    "mobilenetv2": mobilenet_v2,
    "vit-tiny": Vit,
}


class Normalize(nn.Module):
    """Subtracts each channel's mean and divides by its standard deviation; both are buffers [1, C, 1, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Images float32 [N, C, H, W] in [0, 1] -> logits float32 [N, classes].

    Use `build`, whose weights do not depend on the global random state.

    Attributes:
        config: The configuration of this module.
        normalize: The first layer.
        network: The architecture.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.normalize = Normalize(config.mean, config.std)
        self.network = _NETWORKS[config.arch](config)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.normalize(images))


def build(
    arch: str,
    *,
    classes: int,
    input_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    width: float = 1.0,
    seed: int = 0,
) -> Classifier:
    """Builds a classifier with new random weights, on the CPU and in training mode.

    Networks for images with a shorter side below 96 begin with a 3x3 convolution of stride 1 and no pooling, as is
    usual for CIFAR. From 96 on they begin with the stem of their ImageNet form, which reduces the resolution by a
    factor of 4 (MobileNetV2: 2) in each direction; VGG-16 has only one form. ViT-tiny uses patches, see `vit.Vit`. Any
    image size works, down to 1x1.

    Convolutions are initialised as in He et al. (arXiv 1502.01852, normal, fan out), linear layers uniformly in
    ±1/sqrt(fan in) with zero biases, and a ViT's position embeddings normally with a standard deviation of 0.02.

    Args:
        arch: One of `names.ARCHITECTURES`.
        classes: Number of logits.
        input_shape: (channels, height, width) of one image.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        width: Multiplies the number of channels of every layer; results are multiples of 8, and at least 8. A ViT's
            number of heads changes with it.
        seed: Determines the weights; the global random state is not read or changed.

    Raises:
        InputError: See `ModelConfig` and `vit.Vit`.
    """
    model = skeleton(ModelConfig(arch, float(width), classes, input_shape, tuple(mean), tuple(std)))
    model.to_empty(device="cpu")
    model.normalize = Normalize(mean, std)
    _initialize(model.network, torch.Generator().manual_seed(seed))
    return model


def skeleton(config: ModelConfig) -> Classifier:
    """The classifier on the meta device: names, shapes and dtypes of all tensors, without memory for them."""
    with torch.device("meta"):
        return Classifier(config)


def _initialize(network: nn.Module, generator: torch.Generator) -> None:
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
