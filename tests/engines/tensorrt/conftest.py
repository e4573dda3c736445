from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tscnc_deploy import models
from tscnc_deploy.engines import export_engine, load_target
from tscnc_deploy.engines.target import Target
from tscnc_deploy.models import Classifier
from tscnc_deploy.tscnc import prunable_weights

SHAPE = (3, 32, 32)


def pruned(arch: str = "resnet18", width: float = 0.25, sparsity: float = 0.95) -> Classifier:
    """A classifier with random masks, in eval mode; the weights are scaled up to keep the signal alive."""
    model = models.build(arch, classes=10, input_shape=SHAPE, mean=(0.5,) * 3, std=(0.25,) * 3, width=width).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight *= (torch.rand(weight.shape, generator=generator) >= sparsity).float() / (1 - sparsity) ** 0.5
    return model


def target(name: str = "tensorrt-rtx-fp16", **changes) -> Target:
    return load_target(name).model_copy(update={"capabilities": ("SM80", "SM89"), **changes})


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The folder of a half-precision engine; tests that change it take `folder`."""
    place = tmp_path_factory.mktemp("built")
    export_engine(pruned(), target(), place, input_shape=SHAPE)
    return place


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "engine"))
