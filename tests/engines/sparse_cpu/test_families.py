"""Families of networks that people bring, small or narrow, with 90% zeros, exported and compared with onnxruntime."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.vision_transformer import VisionTransformer

from tests.engines.sparse_cpu.graphs import assert_same, available
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.sparse import write_sparse
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.engines.sparse_cpu.dispatch import layer_costs
from tscnc_deploy.engines.sparse_cpu.lowering import lower

DENSITY = 0.1


class _ConvNext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = ConvNeXt([CNBlockConfig(24, 48, 1), CNBlockConfig(48, None, 1)], num_classes=10).features
        self.head = nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean((2, 3)))


def _densenet():
    return DenseNet(growth_rate=8, block_config=(2, 2, 2), num_init_features=16, num_classes=10)


def _vit():
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=3, hidden_dim=48, mlp_dim=64, num_classes=10
    )


# The network and the side of its images.
FAMILIES = {
    "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(num_classes=10), 32),
    "efficientnet_b0": (lambda: models.efficientnet_b0(num_classes=10), 32),
    "regnet_y_400mf": (lambda: models.regnet_y_400mf(num_classes=10), 32),
    "densenet": (_densenet, 32),
    "squeezenet1_1": (lambda: models.squeezenet1_1(num_classes=10), 32),
    "shufflenet_v2_x0_5": (lambda: models.shufflenet_v2_x0_5(num_classes=10), 32),
    "mnasnet0_5": (lambda: models.mnasnet0_5(num_classes=10), 32),
    "googlenet": (lambda: models.googlenet(num_classes=10, aux_logits=False, init_weights=False), 32),
    "inception_v3": (lambda: models.inception_v3(num_classes=10, aux_logits=False, init_weights=False), 75),
    "resnext50_32x4d": (lambda: models.resnext50_32x4d(num_classes=10), 64),
    "convnext": (_ConvNext, 32),
    "vit_b_16": (_vit, 32),
}
QUICK = ("mobilenet_v3_small", "convnext", "vit_b_16")


def _pruned(model: nn.Module, size: int) -> nn.Module:
    """Random zeros in all weights, and norms, biases, scales and tokens that change something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith(("layer_scale", "class_token", "pos_embedding")):
                parameter.copy_(noise / 4)
            elif parameter.ndim > 1:
                keep = torch.rand(parameter.shape, generator=generator) < DENSITY
                keep.view(-1)[0] = True
                # Heads that begin as zeros would hide everything before them.
                fan_in = parameter[0].numel()
                parameter.copy_(noise * keep * (2 / DENSITY / fan_in) ** 0.5)
            else:
                parameter += noise / 8
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()
        model(torch.rand((8, 3, size, size), generator=generator))
        # A channel that hardly varies would have its rounding errors multiplied.
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.clamp_(min=0.25)
    return model.eval()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_families_agree_with_onnxruntime(tmp_path, name):
    make, size = FAMILIES[name]
    torch.manual_seed(0)
    dense, sparse = tmp_path / "dense.onnx", tmp_path / "sparse.onnx"
    export_onnx(_pruned(make(), size), dense, input_shape=(3, size, size))
    write_sparse(dense, sparse)
    for instructions in available():
        assert_same(sparse, (1, 3), instructions=instructions, tolerance=1e-4)
    assert_same(sparse, (1, 9), threads=2, tolerance=1e-4)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext"])
def test_layers_cost_what_is_counted_on_the_file(tmp_path, name):
    make, size = FAMILIES[name]
    path = tmp_path / "dense.onnx"
    export_onnx(make().eval(), path, input_shape=(3, size, size))
    layers = layer_costs(lower(read_onnx(path), path))
    assert sum(layer.multiply_adds for layer in layers) == recount(path).multiply_adds
