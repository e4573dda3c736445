from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

from tscnc_deploy import models
from tscnc_deploy.errors import InputError, UnavailableError
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.libraries import preprocessing, with_channels
from tscnc_deploy.models.plain import plain_
from tscnc_deploy.tscnc import prunable_weights


def build(arch: str, shape: tuple[int, int, int] = (1, 32, 32), **options):
    mean, std = (0.5,) * shape[0], (0.25,) * shape[0]
    return models.build(arch, classes=7, input_shape=shape, mean=mean, std=std, **options)


# Those of the libraries for 1,000 classes and 3 channels, without what is not needed.
@pytest.mark.parametrize(
    ("arch", "parameters", "weights"),
    [
        ("torchvision:shufflenet_v2_x0_5", 1_366_792 - 1025 * 993 - 24 * 2 * 9, 57),
        ("timm:mobilenetv3_small_050", 1_593_224 - 1025 * 993 - 16 * 2 * 9, 54),
    ],
)
def test_classes_and_channels_are_those_of_the_data(arch, parameters, weights):
    model = build(arch).eval()
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 7)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert len(prunable_weights(model)) == weights


def test_image_size_and_arguments_reach_the_network():
    assert build("torchvision:vit_b_16", (3, 32, 32)).network.image_size == 32
    assert build("timm:vit_tiny_patch16_224", (3, 48, 32)).network.patch_embed.img_size == (48, 32)
    assert build("torchvision:mobilenet_v2", args={"width_mult": 0.35}).network.last_channel == 1280
    assert build("torchvision:mobilenet_v2", args={"dropout": 0.5}).network.classifier[0].p == 0.5


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        (
            "torchvision:mobilenet_v3_smal",
            {},
            "has no classifier of that name; did you mean mobilenet_v3_small",
        ),
        ("timm:efficientnet_lite9", {}, "timm has no classifier of that name; did you mean efficientnet_lite"),
        ("torchvision:vgg11", {"depth": 3}, "cannot be made for images of 32x32 pixels: .*depth"),
        ("torchvision:vgg11", {"num_classes": 3}, "model.args.num_classes: the data determines classes, channels and"),
        (
            "timm:vgg11",
            {"checkpoint_path": "x"},
            "model.args.checkpoint_path: set model.checkpoint",
        ),
        ("torchvision:vgg11", {"weights": "DEFAULT"}, "model.args.weights: set model.checkpoint"),
        ("torchvision:inception_v3", {}, "fails on images of 1x32x32"),
    ],
)
def test_what_cannot_be_made(arch, options, message):
    with pytest.raises(InputError, match=message):
        build(arch, args=options)


def test_without_timm_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UnavailableError, match=r"pip install 'tscnc-deploy\[timm\]'"):
        build("timm:vgg11")


def test_a_grey_image_gives_what_three_equal_channels_gave():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    image = torch.rand(2, 1, 6, 6)
    with torch.no_grad():
        expected = network(image.expand(-1, 3, -1, -1))
        assert torch.allclose(with_channels(network, 1)(image), expected, atol=1e-6)
    with pytest.raises(InputError, match="its first convolution does not take 3 channels"):
        with_channels(nn.Sequential(nn.Conv2d(4, 5, 3)), 1)


@pytest.mark.parametrize("name", ["StdConv2d", "ScaledStdConv2d", "StdConv2dSame", "ScaledStdConv2dSame"])
def test_standardised_weights_become_plain_ones_of_the_same_function(name):
    layers = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    network = nn.Sequential(getattr(layers, name)(3, 6, 3, stride=2, padding=1)).eval()
    images = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        expected = network(images)
        weight = plain_(network)[0].weight
        assert torch.allclose(network(images), expected, atol=1e-5)
        weight[:, 0] = 0
        assert not torch.allclose(network(images), expected, atol=1e-3)
        images[:, 0] = 0.5
        before = network(images)
        images[:, 0] = 0
        # The channel whose weights are zero has no effect any more.
        assert torch.equal(network(images), before)


def test_the_normalisation_that_trained_weights_expect():
    mean = (0.485, 0.456, 0.406)
    for arch in ("torchvision:resnet18", "timm:resnet18"):
        config = ModelConfig(arch, 1.0, 7, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
        assert preprocessing(config) == (mean, (0.229, 0.224, 0.225))
    grey = ModelConfig("torchvision:resnet18", 1.0, 7, (1, 32, 32), (0.5,), (0.25,))
    assert preprocessing(grey) is None


def test_biases_of_attention_follow_the_weights_in_eval_mode():
    model = copy.deepcopy(build("timm:levit_128s", (3, 64, 64))).eval()
    model(torch.rand(2, 3, 64, 64))
    layers = [layer for layer in copy.deepcopy(model).modules() if hasattr(layer, "attention_bias_cache")]
    assert len(layers) == 11
    for layer in layers:
        layer.train()
        layer.eval()
        before = layer.get_attention_biases(torch.device("cpu"))
        with torch.no_grad():
            layer.attention_biases.add_(1)
        assert torch.allclose(layer.get_attention_biases(torch.device("cpu")), before + 1)
