from __future__ import annotations

import pytest
import torch
from torch import nn

from tscnc_deploy.errors import InputError
from tscnc_deploy.models import Classifier, build
from tscnc_deploy.names import ARCHITECTURES

CIFAR = {"classes": 10, "input_shape": (3, 32, 32), "mean": [0.5] * 3, "std": [0.25] * 3}
DIGITS = {"classes": 10, "input_shape": (1, 8, 8), "mean": [0.5], "std": [0.25]}


def parameters(model: Classifier) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Of ten-class networks for CIFAR-10, as published implementations of the same forms count them.
@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("resnet18", 11_173_962),
        ("resnet34", 21_282_122),
        ("resnet50", 23_520_842),
        ("vgg16", 14_728_266),
        ("wrn28-10", 36_479_194),
        ("wrn34-10", 46_160_474),
        ("mobilenetv2", 2_236_682),
    ],
)
def test_number_of_parameters(arch, count):
    assert parameters(build(arch, **CIFAR)) == count


def test_a_vit_has_the_parameters_of_deit_tiny_but_for_the_class_token_and_its_position():
    model = build("vit-tiny", **(CIFAR | {"classes": 1000, "input_shape": (3, 224, 224)}))
    assert parameters(model) == 5_717_416 - 2 * 192


def test_a_grey_resnet18_has_fewer_weights_in_its_first_layer_only():
    assert parameters(build("resnet18", **DIGITS)) == 11_173_962 - 2 * 9 * 64


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (2, 5, 11), (3, 33, 31), (4, 96, 97)])
def test_any_size_and_number_of_channels(tiny, arch, shape):
    model = tiny(arch, shape)
    with torch.no_grad():
        logits = model(torch.rand(3, *shape))
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_channels_of_narrow_networks_are_multiples_of_eight(tiny, arch):
    convolutions = [layer for layer in tiny(arch).modules() if isinstance(layer, nn.Conv2d)]
    assert {layer.out_channels % 8 for layer in convolutions} == {0}
    assert convolutions[0].out_channels == (24 if arch == "vit-tiny" else 8)


def test_width_scales_every_stage():
    network = build("resnet18", width=0.125, **DIGITS).network
    widths = [network.get_submodule(f"layer{stage}.1.conv2").out_channels for stage in (1, 2, 3, 4)]
    assert widths == [8, 16, 32, 64]
    assert build("mobilenetv2", width=0.5, **DIGITS).network.classifier[-1].in_features == 640


@pytest.mark.parametrize("arch", ["resnet18", "wrn28-10", "mobilenetv2"])
def test_large_images_get_the_reducing_stem(arch):
    def strides(side: int) -> int:
        model = build(arch, width=0.125, **(DIGITS | {"input_shape": (1, side, side)}))
        first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        return first.stride[0]

    assert (strides(95), strides(96)) == (1, 2)


def test_the_first_layer_normalizes():
    model = build("resnet18", classes=2, input_shape=(2, 1, 2), mean=[0.5, 0.2], std=[0.25, 0.1], width=0.125)
    images = torch.tensor([[[[0.5, 1.0]], [[0.2, 0.4]]]])
    assert model.normalize(images).flatten().tolist() == pytest.approx([0.0, 2.0, 0.0, 2.0])
    assert model.network(model.normalize(images.expand(2, 2, 1, 2))).equal(model(images.expand(2, 2, 1, 2)))


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = build("mobilenetv2", **DIGITS, seed=1).state_dict()
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(8)
    second = build("mobilenetv2", **DIGITS, seed=1).state_dict()
    other = build("mobilenetv2", **DIGITS, seed=2).state_dict()
    assert all(first[name].equal(second[name]) for name in first)
    assert not first["network.classifier.1.weight"].equal(other["network.classifier.1.weight"])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_fresh_weights_are_those_of_he(tiny, arch):
    model = build(arch, **DIGITS, width=0.25)
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            expected = (2 / (layer.out_channels * layer.weight[0, 0].numel())) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.1), name
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all() and (layer.running_var == 1).all()
            assert (layer.bias == 0).all() and (layer.running_mean == 0).all()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_weight_learns(tiny, arch):
    model = tiny(arch, (1, 16, 16)).train()
    model(torch.rand(8, 1, 16, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_vgg_has_the_same_names_for_every_size(tiny):
    small, large = (tiny("vgg16", (1, side, side)).state_dict() for side in (2, 32))
    assert list(small) == list(large)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arch": "resnet81"}, "model.arch = 'resnet81' is not resnet18, .*; did you mean resnet18"),
        ({"classes": 1}, "the number of classes is 1; it must be from 2"),
        ({"input_shape": (1, 0, 8)}, r"the input shape is \[1, 0, 8\]; height and width must be from 1 to 4096 pixels"),
        ({"input_shape": (0, 8, 8)}, r"the input shape is \[0, 8, 8\]; it must be \[channels, height, width\]"),
        ({"input_shape": (8, 8)}, r"the input shape is \[8, 8\]; it must be \[channels, height, width\]"),
        ({"mean": [0.5, 0.5]}, r"mean is \[0.5, 0.5\] for 1 channels; it must be one finite number for each channel"),
        ({"std": [0.0]}, r"std is \[0.0\]; it must be above 0"),
        ({"std": [float("nan")]}, r"std is \[nan\] for 1 channels"),
        ({"width": 0.0}, "model.width = 0.0 must be a number above 0 and at most 16"),
        ({"width": float("nan")}, "model.width = nan must be a number above 0"),
        ({"width": 95.0}, "model.width = 95.0 must be a number above 0 and at most 16"),
    ],
)
def test_impossible_forms(change, message):
    with pytest.raises(InputError, match=message):
        build(**({"arch": "resnet18"} | DIGITS | change))
