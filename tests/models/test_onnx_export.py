from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("resnet18", (1, 8, 8)),
        ("vgg16", (1, 8, 8)),
        ("vgg16", (3, 32, 32)),
        pytest.param("wrn28-10", (1, 8, 8), marks=pytest.mark.slow),
        pytest.param("mobilenetv2", (1, 8, 8), marks=pytest.mark.slow),
    ],
)
def test_exported_networks_give_the_same_logits_for_every_batch(tiny, tmp_path, arch, shape):
    model = tiny(arch, shape)
    path = tmp_path / "m.onnx"
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.onnx.export(
        model,
        (torch.rand(2, *shape),),
        path,
        dynamo=True,
        opset_version=20,
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 2, 7):
        images = torch.rand(count, *shape)
        with torch.no_grad():
            expected = model(images).numpy()
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
