"""Networks of a few weights whose zeros and answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn


def sums_and_differences() -> nn.Module:
    """Images [N, 1, 2, 2] -> the sum of the pixels, and the top left minus the bottom right.

    The convolution has weights [1, 1, 1, 1] and [1, 0, 0, -1], the linear layer [[1, 0], [0, 1]]: 8 of 12 not zero.
    """
    conv, linear = nn.Conv2d(1, 2, 2, bias=False), nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[[1.0, 1], [1, 1]]], [[[1, 0], [0, -1]]]]))
        linear.weight.copy_(torch.eye(2))
        linear.bias.copy_(torch.tensor([0.0, 10]))
    return nn.Sequential(conv, nn.Flatten(), linear).eval()


class SmallNet(nn.Module):
    """Images [N, 1, 8, 8] -> 3 logits, with what real networks have: norms, groups, strides, pooling, clipping."""

    def __init__(self, sparsity: float = 0.75) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2)
        self.head = nn.Linear(32, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)
            self.norm.running_var.copy_(torch.rand(16, generator=generator) + 0.5)
            for layer in (self.first, self.second, self.head):
                layer.weight *= (torch.rand(layer.weight.shape, generator=generator) >= sparsity).float()

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first((images - 0.5) / 0.25)))
        x = nn.functional.max_pool2d(nn.functional.relu6(self.second(x)), 2)
        return self.head(x.mean((2, 3)))


def small_net(sparsity: float = 0.75) -> SmallNet:
    return SmallNet(sparsity).eval()


def random_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *shape), np.float32)


def linear_onnx(weight: TensorProto | onnx.SparseTensorProto, path: Path, **changes) -> Path:
    """Writes a file by hand: images ["batch", 1, 2, 2] are flattened and multiplied by a weight called "w"."""
    nodes = [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    parts = {"nodes": nodes, "inputs": [images], "outputs": [logits]} | changes
    sparse = isinstance(weight, onnx.SparseTensorProto)
    graph = helper.make_graph(
        parts["nodes"],
        "by hand",
        parts["inputs"],
        parts["outputs"],
        initializer=[] if sparse else [weight],
        sparse_initializer=[weight] if sparse else [],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    path.write_bytes(model.SerializeToString())
    return path


def dense_weight(values: list[float], shape: tuple[int, ...] = (4, 2)) -> TensorProto:
    return helper.make_tensor("w", TensorProto.FLOAT, shape, values)


def sparse_weight(values: list[float], indices: list[int], shape: tuple[int, ...] = (4, 2)) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [len(values)], values),
        helper.make_tensor("w_indices", TensorProto.INT64, [len(indices)], indices),
        shape,
    )
