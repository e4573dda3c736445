from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.pipeline.silent import Silent
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.structure import Structure, recount
from tscnc_deploy.errors import InputError
from tscnc_deploy.models import Classifier
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.pipeline.stages.base import Context
from tscnc_deploy.pipeline.stages.trial import Trial, network_facts, require_layers, require_masks
from tscnc_deploy.recipe.file import load_recipe
from tscnc_deploy.tscnc import Masks, magnitude, rank_globally

NET = """
import torch
from torch import nn

class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x).abs()

def make(classes, input_shape):
    return nn.Sequential(Spectrum(), nn.Flatten(), nn.LazyLinear(classes))
"""


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(16, 3)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.last((self.convolved(images) * self.scale).relu().flatten(1))

    def convolved(self, images: Tensor) -> Tensor:
        return self.first(images)


class Centred(Plain):
    def convolved(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.first.weight - self.first.weight.mean(), self.first.bias)


class Unused(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(16, 3)


class Bare(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.bare = nn.Parameter(torch.rand(4, 16))

    def convolved(self, images: Tensor) -> Tensor:
        return super().convolved(images) + (images.flatten(1) @ self.bare.T)[:, :, None, None]


class Einsum(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(16, 16))

    def convolved(self, images: Tensor) -> Tensor:
        weighted = (images.flatten(1)[:, None] * self.table).sum(2)
        return super().convolved(weighted.reshape(images.shape))


def exported(network: nn.Module, folder: Path) -> tuple[Classifier, Structure]:
    torch.manual_seed(0)
    model = Classifier(ModelConfig("net.py:make", 1.0, 3, (1, 4, 4), (0.5,), (0.25,)), network).eval()
    Masks(rank_globally(magnitude(model), 0.5)).apply_(model)
    export_onnx(model, folder / "model.onnx", input_shape=(1, 4, 4))
    return model, recount(folder / "model.onnx")


def test_a_network_whose_zeros_are_those_of_the_file(tmp_path):
    model, structure = exported(Plain(), tmp_path)
    require_masks(model, structure)
    require_layers(model, tmp_path / "model.onnx")
    assert network_facts(model, structure) == {
        "arch": "net.py:make",
        "parameters": 36 + 4 + 48 + 3 + 4,
        "prunable": 84,
        "sparsity": 0.5,
        "multiply_adds": 4 * 36 + 48,
        "not_pruned": {"Conv2d.bias": 4, "Plain.scale": 4, "Linear.bias": 3},
    }


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Centred, r"network.first.weight is not in the exported file|network.first.weight has \d+ weights .* not zero"),
        (Unused, "the weight network.auxiliary.weight is not in the exported file: its layer is not used"),
        (
            Bare,
            r"multiplies with network.bare \[.*\], which is the weight of no convolution, linear layer",
        ),
    ],
)
def test_networks_whose_masks_do_not_reach_the_file(tmp_path, network, message):
    model, structure = exported(network(), tmp_path)
    with pytest.raises(InputError, match=message):
        require_masks(model, structure)
        require_layers(model, tmp_path / "model.onnx")


def test_a_module_that_cannot_be_exported_is_refused_by_its_operator(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    recipe = load_recipe("digits", arch=f"{tmp_path / 'net.py'}:make", sparsity=0.5, targets=["onnx-cpu"])
    for name in ("out", "work", "cache"):
        (tmp_path / name).mkdir()
    places = {name: tmp_path / name for name in ("out", "work", "cache")}
    with pytest.raises(InputError, match=r"cannot be (exported|read)|fft|DFT"):
        Trial().run(Context(recipe, "cpu", {}, progress=Silent(), **places))
    assert list(places["out"].iterdir()) == []


def test_the_trial_of_a_small_network(tmp_path):
    recipe = load_recipe("digits", ["model.width=0.125"], sparsity=0.9, targets=["onnx-cpu", "onnx-int8"])
    for name in ("out", "work", "cache"):
        (tmp_path / name).mkdir()
    places = {name: tmp_path / name for name in ("out", "work", "cache")}
    Trial().run(Context(recipe, "cpu", {}, progress=Silent(), **places))
    found = json.loads((places["out"] / "network.json").read_text())
    assert found["arch"] == "resnet18"
    assert abs(found["sparsity"] - 0.9) < 1e-4
    assert found["differences"]["onnx-cpu"] < 1e-4
    assert set(found["differences"]) == {"onnx-cpu", "onnx-int8"}


def test_the_trial_is_of_one_network():
    settings = [Trial().settings(load_recipe("digits", arch=arch)) for arch in ("resnet18", "vgg16")]
    assert settings[0] != settings[1]
