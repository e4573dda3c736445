from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tscnc_deploy.models import build, layer_multiply_adds, multiply_adds, output_maps
from tscnc_deploy.models.applications import applications


def test_by_hand(tiny):
    counts = layer_multiply_adds(tiny("resnet18", (1, 8, 8)))
    assert counts["network.conv1.weight"] == 8 * 8 * 8 * 9
    assert counts["network.layer2.0.conv1.weight"] == 4 * 4 * 16 * 8 * 9
    assert counts["network.layer2.0.downsample.0.weight"] == 4 * 4 * 16 * 8
    assert counts["network.fc.weight"] == 64 * 5
    assert len(counts) == 21


def test_a_weight_is_applied_once_to_every_pixel_of_its_layers_output(tiny):
    maps = output_maps(tiny("resnet18", (1, 8, 8)))
    assert maps["network.conv1.weight"] == (8, 8)
    assert maps["network.layer3.0.conv1.weight"] == (2, 2)
    assert maps["network.fc.weight"] == (1, 1)


def test_grouped_convolutions_see_their_group_only(tiny):
    counts = layer_multiply_adds(tiny("mobilenetv2", (1, 8, 8)))
    assert counts["network.features.1.conv.0.0.weight"] == 8 * 8 * 8 * 9


def test_a_weight_of_a_vit_is_applied_to_every_token_and_attention_counts_besides(tiny):
    model = tiny("vit-tiny", (1, 8, 8))
    counts, dim = layer_multiply_adds(model), 24
    assert output_maps(model)["network.blocks.0.attention.query.weight"] == (16, 1)
    assert counts["network.patches.weight"] == 16 * dim * 4
    assert counts["network.blocks.11.mlp.0.weight"] == 16 * dim * 4 * dim
    assert counts["network.head.weight"] == dim * 5
    assert len(counts) == 74
    assert multiply_adds(model) == sum(counts.values()) + 12 * 2 * 16 * 16 * dim


# Published figures of the networks' forms for CIFAR-10 and for ImageNet; of the ViT by hand.
@pytest.mark.parametrize(
    ("arch", "side", "millions"),
    [
        ("resnet18", 32, 555),
        ("wrn28-10", 32, 5243),
        ("vgg16", 32, 313),
        ("resnet50", 224, 4087),
        ("resnet18", 224, 1814),
        # 29 in the patches, 1,040 in the linear layers of the blocks, 177 in the products of attention.
        ("vit-tiny", 224, 1246),
    ],
)
def test_of_whole_networks(arch, side, millions):
    model = build(arch, classes=10, input_shape=(3, side, side), mean=[0.5] * 3, std=[0.25] * 3)
    assert multiply_adds(model) // 10**6 == pytest.approx(millions, abs=1)


def test_the_model_itself_is_left_alone(tiny):
    model = tiny().train()
    multiply_adds(model)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_functional_call_with_keywords_counts():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(1, 4, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return F.conv2d(input=images, weight=self.convolution.weight)

    assert applications(Functional(), (1, 8, 6)) == {"convolution.weight": (6, 4)}
