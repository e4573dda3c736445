"""Kernels without the taps that only meet padding: the same function and the same gradients."""

import pytest
import torch
from torch import nn

from tscnc_deploy import models
from tscnc_deploy.models.folded import FoldedCopy
from tscnc_deploy.models.taps import Taps, cropped, needed_taps, taps_by_layer


@pytest.mark.parametrize(
    ("settings", "size", "expected"),
    [
        # A map of one pixel: the tap in the middle.
        ({"kernel_size": 3, "padding": 1}, (1, 1), Taps((1, 2), (1, 2), (0, 0))),
        # Two pixels under stride 2: the one window begins a pixel outside.
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (2, 2), Taps((1, 3), (1, 3), (0, 0))),
        # Each tap is met by one of the two windows.
        ({"kernel_size": 3, "padding": 1}, (2, 2), None),
        ({"kernel_size": 3, "padding": 1}, (1, 5), Taps((1, 2), (0, 3), (0, 1))),
        ({"kernel_size": 5, "padding": 2}, (2, 2), Taps((1, 4), (1, 4), (1, 1))),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, (2, 2), Taps((1, 2), (1, 2), (0, 0))),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, (1, 1), None),
        ({"kernel_size": 3, "padding": "same"}, (1, 1), None),
        ({"kernel_size": 1}, (1, 1), None),
    ],
)
def test_which_taps_reach_the_map(settings, size, expected):
    layer = nn.Conv2d(2, 3, **settings)
    assert needed_taps(layer, *size) == expected
    if expected is not None:
        images = torch.rand(4, 2, *size)
        found = nn.functional.conv2d(
            images, expected.of(layer.weight), layer.bias, layer.stride, expected.padding, layer.dilation
        )
        torch.testing.assert_close(found, layer(images))


def network(arch, width=0.125):
    return models.build(arch, classes=4, input_shape=(1, 8, 8), mean=(0.5,), std=(0.2,), width=width)


def test_a_resnet_18_on_8x8_images_needs_one_tap_of_its_last_layers():
    taps = taps_by_layer(network("resnet18").eval(), (1, 8, 8))
    assert {name: part.shape for name, part in taps.items()} == {
        "network.layer4.0.conv1": (2, 2),
        "network.layer4.0.conv2": (1, 1),
        "network.layer4.1.conv1": (1, 1),
        "network.layer4.1.conv2": (1, 1),
    }


@pytest.mark.parametrize("arch", ["resnet18", "vgg16", "mobilenetv2"])
def test_training_the_copy_trains_the_network(arch):
    # In float64, as rounding is all that biases before a batch norm get for a gradient.
    plain, whole = network(arch).double(), network(arch).double()
    whole.load_state_dict(plain.state_dict())
    twin = cropped(whole, (1, 8, 8))
    assert twin is not whole
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    outputs = []
    for model in (plain, twin):
        torch.manual_seed(0)  # dropout
        outputs.append(model.train()(images))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(outputs[0], outputs[1])
    largest = max(float(weight.grad.abs().max()) for weight in plain.parameters())
    assert largest > 0.1
    for (name, weight), expected in zip(whole.named_parameters(), plain.parameters(), strict=True):
        assert (weight.grad - expected.grad).abs().max() <= 1e-9 * largest, name
    for found, expected in zip(whole.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_network_that_needs_all_its_taps_stays_what_it_is():
    model = models.build("resnet18", classes=4, input_shape=(1, 32, 32), mean=(0.5,), std=(0.2,), width=0.125)
    assert cropped(model, (1, 32, 32)) is model
    assert model.training


def test_a_layer_that_sees_maps_of_two_sizes_keeps_its_taps():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, images):
            return self.layer(self.layer(images).mean((2, 3), keepdim=True)).flatten(1)

    assert taps_by_layer(Twice(), (1, 4, 4)) == {}


def test_the_folded_copy_is_cropped_and_follows_its_network():
    model = network("resnet18").eval()
    copied = FoldedCopy(model, input_shape=(1, 8, 8))
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for factor in (1.0, 0.5):
        with torch.no_grad():
            model.network.layer4[0].conv2.weight.mul_(factor)
            torch.testing.assert_close(copied.refreshed()(images), model(images), rtol=1e-4, atol=1e-5)
    assert copied.network.get_submodule("network.layer4.1.conv2").weight.shape == (64, 64, 1, 1)


def test_a_cropped_convolution_has_what_a_convolution_has():
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.convolution(images.to(self.convolution.weight.dtype)) * self.convolution.out_channels

    model = Reading().eval()
    copy = cropped(model, (2, 1, 1))
    assert copy is not model
    images = torch.rand(4, 2, 1, 1)
    assert torch.allclose(copy(images), model(images), atol=1e-6)
