from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from tests.engines.architectures import network


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("resnet18", 9),
        ("vgg16", 8),
        ("vgg16", 32),
        pytest.param("wrn28-10", 32, marks=pytest.mark.slow),
        pytest.param("mobilenetv2", 9, marks=pytest.mark.slow),
    ],
)
def test_exported_networks_give_the_same_logits_for_every_batch(architectures, arch, size):
    model = network(arch, size)
    session = onnxruntime.InferenceSession(architectures.dense(arch, size), providers=["CPUExecutionProvider"])
    for count in (1, 2, 7):
        images = torch.rand(count, 3, size, size)
        with torch.no_grad():
            expected = model(images).numpy()
        (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()
