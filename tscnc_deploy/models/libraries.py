"""Networks of torchvision and timm, for any number of classes and channels and any image size that they allow."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.plain import plain_
from tscnc_deploy.text import did_you_mean, escaped

# What the data determines, and what would load a file or something from the internet.
_SETTLED = frozenset({"num_classes", "in_chans", "img_size", "image_size"})
_LOADING = frozenset(
    {"weights", "weights_backbone", "pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}
    | {"cache_dir", "progress"}
)


def torchvision_network(config: ModelConfig, *, pretrained: bool = False) -> nn.Module:
    """A classifier of torchvision by its name there, such as "mobilenet_v3_small".

    Args:
        config: Its number of classes and channels and its image size are those of the network.
        pretrained: Take torchvision's default weights, which are downloaded, where their shapes fit.

    Raises:
        InputError: The name is unknown, or the network does not take the arguments or the image size.
    """
    from torchvision import models

    name, known = config.network.name, models.list_models(module=models)
    if name not in known:
        raise InputError(_unknown("torchvision", name, known))
    arguments = _checked(config)
    if name.startswith("vit_"):
        arguments["image_size"] = _square_side(config)
    if name in ("googlenet", "inception_v3"):
        # In training they would return the logits of two heads; the second one helped before there were batch norms.
        arguments = {"aux_logits": False, "init_weights": True} | arguments
    network = _made(config, lambda: models.get_model(name, weights=None, num_classes=config.classes, **arguments))
    if pretrained:
        _load_fitting(network, models.get_model_weights(name).DEFAULT.get_state_dict(check_hash=True))
    return with_channels(network, config.input_shape[0])


def timm_network(config: ModelConfig, *, pretrained: bool = False) -> nn.Module:
    """A classifier of timm by its name there, such as "efficientnet_lite0".

    Args:
        config: See `torchvision_network`.
        pretrained: Take timm's weights for that name, which are downloaded.

    Raises:
        InputError: See `torchvision_network`.
        UnavailableError: timm is not installed.
    """
    timm = _timm()
    name = config.network.name
    if not timm.is_model(name):
        raise InputError(_unknown("timm", name, timm.list_models()))
    arguments = _checked(config)
    described = timm.get_pretrained_cfg(name)
    if described is not None and described.fixed_input_size:
        arguments["img_size"] = config.input_shape[1:]
    network = _made(
        config,
        lambda: timm.create_model(
            name, pretrained=pretrained, num_classes=config.classes, in_chans=config.input_shape[0], **arguments
        ),
    )
    return plain_(network)


def preprocessing(config: ModelConfig) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation per channel that a library's weights were trained with; None if it does not say.

    Raises:
        UnavailableError: timm is not installed.
    """
    name = config.network.name
    if config.network.source == "timm":
        found = _timm().get_pretrained_cfg(name)
        mean, std = (found.mean, found.std) if found is not None else ((), ())
    else:
        from torchvision import models

        transforms = models.get_model_weights(name).DEFAULT.transforms()
        mean, std = transforms.mean, transforms.std
    if len(mean) != config.input_shape[0] or len(std) != config.input_shape[0]:
        return None
    return tuple(map(float, mean)), tuple(map(float, std))


def with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Replaces the first convolution of a network for three channels, keeping its weights' sum over the channels.

    As in timm: a grey image then gives the same features as one whose three channels are all that image.
    """
    if channels == 3:
        return network
    name, first = next(
        ((name, layer) for name, layer in network.named_modules() if type(layer) is nn.Conv2d), ("", None)
    )
    if first is None or first.in_channels != 3:
        msg = f"its first convolution does not take 3 channels, so it cannot be changed to {channels}"
        raise InputError(msg)
    replaced = copy.deepcopy(first)
    replaced.in_channels = channels
    mean = first.weight.detach().sum(1, keepdim=True) / channels
    replaced.weight = nn.Parameter(mean.repeat(1, channels, 1, 1))
    network.set_submodule(name, replaced)
    return network


def _timm() -> Any:
    try:
        return import_module("timm")
    except ImportError as error:
        msg = "networks of timm need the package timm; install it with: pip install 'tscnc-deploy[timm]'"
        raise UnavailableError(msg) from error


def _checked(config: ModelConfig) -> dict[str, Any]:
    for key in config.args:
        if key in _SETTLED:
            msg = f"model.args.{key}: the data determines classes, channels and image size; leave it out"
            raise InputError(msg)
        if key in _LOADING:
            msg = f"model.args.{key}: set model.checkpoint, or model.pretrained = true, to begin with trained weights"
            raise InputError(msg)
    return dict(config.args)


def _made(config: ModelConfig, make: Any) -> nn.Module:
    try:
        network: nn.Module = make()
    except (TypeError, ValueError, AssertionError, RuntimeError, KeyError, AttributeError, IndexError) as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        sizes = "x".join(map(str, config.input_shape[1:]))
        msg = (
            f"model.arch = {config.network.public!r} cannot be made for images of {sizes} pixels: {escaped(cause, 300)}"
        )
        raise InputError(msg) from error
    return network


def _unknown(library: str, name: str, known: list[str]) -> str:
    return f"model.arch = '{library}:{name}': {library} has no classifier of that name{did_you_mean(name, known)}"


def _square_side(config: ModelConfig) -> int:
    height, width = config.input_shape[1:]
    if height != width:
        msg = f"model.arch = {config.network.public!r} takes square images, not {height}x{width} pixels"
        raise InputError(msg)
    return height


def _load_fitting(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(fitting, strict=False)
