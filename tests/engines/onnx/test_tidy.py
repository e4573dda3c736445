from __future__ import annotations

import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.engines.onnx.structure import recount

SHAPE = (1, 4, 4)


class Tokens(nn.Module):
    """One row of pixels is a token; a class token before them, attention, and two linear layers that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.rand(1, 1, 4))
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.cat([self.start.expand(images.shape[0], -1, -1), images.flatten(1, 2)], 1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.second(self.first(x).relu()).mean(1))


def test_weights_of_linear_layers_on_tokens_keep_their_names_transposed(tmp_path):
    torch.manual_seed(0)
    model = Tokens()
    export_onnx(model, tmp_path / "model.onnx", input_shape=SHAPE)
    graph = read_onnx(tmp_path / "model.onnx").graph
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    assert stored["attention.in_proj_weight"].equal(model.attention.in_proj_weight.T)
    assert stored["first.weight"].equal(model.first.weight.T)
    assert stored["head.weight"].equal(model.head.weight)


def test_a_shared_weight_is_stored_and_counted_once(tmp_path):
    export_onnx(Tokens(), tmp_path / "model.onnx", input_shape=SHAPE)
    assert {layer.name: layer.prunable for layer in recount(tmp_path / "model.onnx").layers} == {
        "attention.in_proj_weight": 48,
        "attention.out_proj.weight": 16,
        "first.weight": 16,
        "head.weight": 12,
    }


def test_only_what_depends_on_the_batch_is_computed(tmp_path):
    export_onnx(Tokens(), tmp_path / "model.onnx", input_shape=SHAPE)
    graph = read_onnx(tmp_path / "model.onnx").graph
    operators = [node.op_type for node in graph.node]
    # For the class token of every image.
    assert operators.count("Shape") == operators.count("Expand") == 1
    assert not {"Constant", "CastLike", "Identity"} & set(operators)
    stored = {tensor.name for tensor in graph.initializer}
    by_output = {name: node for node in graph.node for name in node.output}
    computed = [node for node in graph.node if node.op_type == "Reshape" and node.input[1] not in stored]
    assert [by_output[node.input[0]].op_type for node in computed if node.input[0] in by_output] == []


def test_parametrised_weights_are_exported_as_their_values_and_the_model_keeps_its_own(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(16, 5)), nn.ReLU(), spectral_norm(nn.Linear(5, 3))).eval()
    expected, kinds = model(torch.ones(2, *SHAPE)), [type(module) for module in model]
    export_onnx(model, tmp_path / "model.onnx", input_shape=SHAPE)
    assert [layer.name for layer in recount(tmp_path / "model.onnx").layers] == ["1.weight", "3.weight"]
    assert [type(module) for module in model] == kinds
    assert model(torch.ones(2, *SHAPE)).equal(expected)


def test_what_is_computed_from_constants_is_stored(tmp_path):
    class Placed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("grid", torch.linspace(-1, 1, 40_000).reshape(10_000, 4))
            self.table, self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), nn.Linear(16, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1) + self.table(self.grid)[:16, 0])

    model = Placed()
    export_onnx(model, tmp_path / "model.onnx", input_shape=SHAPE)
    graph = read_onnx(tmp_path / "model.onnx").graph
    assert [node.op_type for node in graph.node] == ["Reshape", "Add", "Gemm"]
    assert [layer.name for layer in recount(tmp_path / "model.onnx").layers] == ["head.weight"]
    images = torch.rand(3, *SHAPE)
    with torch.no_grad():
        found = OnnxRuntimeEngine(tmp_path / "model.onnx").logits(images.numpy())
        assert abs(found - model(images).numpy()).max() < 1e-6
