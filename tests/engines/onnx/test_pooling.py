from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.pooling import adaptive_average, plain_pooling


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 4), (7, 7), (8, 5), (13, 6)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, (6, 6), (1, None), (None, 2)])
def test_windows_are_those_of_pytorch(shape, size):
    images = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(adaptive_average(images, size), F.adaptive_avg_pool2d(images, size), atol=1e-6)


def test_the_context_ends():
    original = F.adaptive_avg_pool2d
    with pytest.raises(ZeroDivisionError), plain_pooling():
        assert F.adaptive_avg_pool2d is adaptive_average
        raise ZeroDivisionError
    assert F.adaptive_avg_pool2d is original


def test_no_gather_is_exported(tmp_path):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18, 4))
    for side in (1, 4, 6):
        export_onnx(model, tmp_path / "model.onnx", input_shape=(2, side, side))
        operators = {node.op_type for node in read_onnx(tmp_path / "model.onnx").graph.node}
        assert operators <= {"AveragePool", "Concat", "Gemm", "ReduceMean", "Reshape", "Slice"}, side
