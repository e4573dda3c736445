"""The classifier: normalisation as its first layer, then a network of any source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.applications import applications
from tscnc_deploy.models.builtin import NETWORKS, initialize
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.seeds import layers_draw_from
from tscnc_deploy.text import escaped
from tscnc_deploy.tscnc.layers import exclude_layers, prunable_weights


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
        network: Any module that maps normalised images to logits.
    """

    def __init__(self, config: ModelConfig, network: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.normalize = Normalize(config.mean, config.std)
        self.network = network

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
    args: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    seed: int = 0,
) -> Classifier:
    """Builds a classifier with new random weights, on the CPU and in training mode.

    Built-in networks for images with a shorter side below 96 begin with a 3x3 convolution of stride 1 and no pooling,
    as is usual for CIFAR. From 96 on they begin with the stem of their ImageNet form, which reduces the resolution by a
    factor of 4 (MobileNetV2: 2) in each direction; VGG-16 has only one form. ViT-tiny uses patches, see
    `builtin.vit.Vit`. Any image size works, down to 1x1. Their convolutions are initialised as in He et al. (arXiv
    1502.01852, normal, fan out), linear layers uniformly in ±1/sqrt(fan in) with zero biases, and a ViT's position
    embeddings normally with a standard deviation of 0.02. Other networks initialise themselves; layers that compute
    nothing of the images, such as a table of positions, are not prunable.

    Args:
        arch: The network's name, see `arch.parse_arch`. A file or a module is imported, and its callable is called.
        classes: Number of logits.
        input_shape: (channels, height, width) of one image.
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        width: Multiplies the number of channels of every layer of a built-in network; results are multiples of 8, and
            at least 8. A ViT's number of heads changes with it.
        args: Keyword arguments of what makes a network that is not built in.
        pretrained: Begin with the weights that torchvision or timm has for that name, which are downloaded.
        seed: Determines the weights; the global random state is not read or changed.

    Raises:
        InputError: See `ModelConfig`, `builtin.vit.Vit`, `libraries` and `own`, or the network does not give logits
            [N, classes].
        UnavailableError: timm is not installed.
    """
    config = ModelConfig(arch, float(width), classes, input_shape, tuple(mean), tuple(std), dict(args or {}))
    if config.network.source == "builtin":
        if pretrained:
            msg = f"model.pretrained: {arch} comes without weights; use torchvision:NAME, timm:NAME or model.checkpoint"
            raise InputError(msg)
        model = skeleton(config)
        model.to_empty(device="cpu")
        model.normalize = Normalize(mean, std)
        initialize(model.network, seed)
        return model
    with layers_draw_from(seed, torch.device("cpu")):
        model = Classifier(config, _foreign(config, pretrained=pretrained))
        _require_logits(model)
        reached = applications(model, config.input_shape)
        exclude_layers(model, prunable_weights(model).keys() - reached.keys())
        # A module that keeps what it computed then keeps something that can be copied.
        _require_logits(model)
    return model.train()


def skeleton(config: ModelConfig) -> Classifier:
    """A built-in classifier on the meta device: names, shapes and dtypes of all tensors, without memory for them."""
    with torch.device("meta"):
        return Classifier(config, NETWORKS[config.arch](config))


def _foreign(config: ModelConfig, *, pretrained: bool) -> nn.Module:
    match config.network.source:
        case "torchvision":
            from tscnc_deploy.models.libraries import torchvision_network

            return torchvision_network(config, pretrained=pretrained)
        case "timm":
            from tscnc_deploy.models.libraries import timm_network

            return timm_network(config, pretrained=pretrained)
    if pretrained:
        msg = f"model.pretrained is for networks of torchvision and timm; {config.network.public} loads its own weights"
        raise InputError(msg)
    from tscnc_deploy.models.own import own_network

    return own_network(config)


def _require_logits(model: Classifier) -> None:
    """Refuses a network that does not map two images to finite logits, in float32.

    Lazy layers get their shapes here.
    """
    config, shape = model.config, (2, model.config.classes)
    sizes = "x".join(map(str, config.input_shape))
    start = f"model.arch = {config.network.public!r}: the network"
    model.float().eval()
    try:
        with torch.no_grad():
            logits = model(torch.full((2, *config.input_shape), 0.5))
    except Exception as error:  # anybody's module may raise anything
        cause = (str(error).strip() or "without a message").splitlines()[0]
        msg = f"{start} fails on images of {sizes}: {type(error).__name__}: {escaped(cause, 300)}"
        raise InputError(msg) from error
    if not isinstance(logits, Tensor):
        msg = f"{start} returns {type(logits).__name__}, not a tensor of logits [N, {config.classes}]"
        raise InputError(msg)
    if tuple(logits.shape) != shape or logits.dtype != torch.float32:
        msg = f"{start} returns {logits.dtype} {list(logits.shape)} for 2 images instead of float32 {list(shape)}"
        raise InputError(msg)
    if not logits.isfinite().all():
        msg = f"{start} returns logits that are not finite"
        raise InputError(msg)
