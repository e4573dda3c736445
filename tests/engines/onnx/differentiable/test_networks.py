"""Whole networks of torchvision, with random weights, from both of PyTorch's exporters."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torchvision

from tscnc_deploy.engines.onnx.differentiable import differentiable

NETWORKS = {
    "resnet18": {},
    "mobilenet_v3_small": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "googlenet": {"init_weights": False},
    "shufflenet_v2_x0_5": {},
    "squeezenet1_0": {},
}


def _network(name):
    torch.manual_seed(0)
    if name == "vit":
        model = torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)
        torch.nn.init.normal_(model.heads.head.weight)
        return model.eval(), 32
    if name == "swin":
        sizes = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": [4, 4]}
        return torchvision.models.SwinTransformer([4, 4], **sizes, num_classes=10).eval(), 64
    return getattr(torchvision.models, name)(num_classes=10, **NETWORKS[name]).eval(), 64


def _export(model, path, images, dynamo):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(model, (images,), path, external_data=False, dynamic_shapes=shapes, verbose=False)
        else:
            axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
            names = {"input_names": ["images"], "output_names": ["logits"]}
            torch.onnx.export(model, (images,), path, dynamo=False, dynamic_axes=axes, **names)


def _cases():
    for name in (*NETWORKS, "vit", "swin"):
        for dynamo in (False, True):
            quick = name in ("vit", "squeezenet1_0") and not dynamo
            yield pytest.param(name, dynamo, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(("name", "dynamo"), list(_cases()))
def test_logits_are_those_of_onnxruntime_and_gradients_those_of_pytorch(name, dynamo, tmp_path):
    model, size = _network(name)
    generator = torch.Generator().manual_seed(1)
    path = tmp_path / "model.onnx"
    _export(model, path, torch.rand(2, 3, size, size, generator=generator), dynamo)
    module = differentiable(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = torch.rand(3, 3, size, size, generator=generator).requires_grad_()
    logits = module(images)
    (wanted,) = session.run(None, {session.get_inputs()[0].name: images.detach().numpy()})
    np.testing.assert_allclose(logits.detach().numpy(), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    (found,) = torch.autograd.grad(logits.square().sum(), images)
    (gradient,) = torch.autograd.grad(model(images).square().sum(), images)
    torch.testing.assert_close(found, gradient, rtol=0, atol=1e-4 * float(gradient.abs().max()))
