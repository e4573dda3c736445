"""A model of the digits as files of every kind."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.bundle.folders import contents, write_files
from tests.verify.models import MEAN, PLACES, STD, Files, trained
from tscnc_deploy.bundle import seal
from tscnc_deploy.data import Dataset, load
from tscnc_deploy.engines import export_engine, load_target
from tscnc_deploy.engines.onnx.export import export_onnx
from tscnc_deploy.models import build, save_model
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.file import load_recipe


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return load_recipe("digits", ["model.width=0.125"])


@pytest.fixture(scope="session")
def digits(recipe: Recipe) -> Dataset:
    return load(recipe.data)


@pytest.fixture(scope="session")
def files(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("models")
    model = trained(digits)
    save_model(model, folder / "model.safetensors")
    torch.save(model.network.state_dict(), folder / "weights.pt")
    export_onnx(model, folder / "whole.onnx", input_shape=(1, 8, 8))
    export_onnx(model.network, folder / "bare.onnx", input_shape=(1, 8, 8))
    permuted = onnx.load(folder / "bare.onnx")
    for tensor in permuted.graph.initializer:
        if tensor.name in ("fc.weight", "fc.bias"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[list(PLACES)], tensor.name))
    onnx.save(permuted, folder / "permuted.onnx")
    paths = (folder / name for name in ("model.safetensors", "weights.pt", "whole.onnx", "bare.onnx", "permuted.onnx"))
    return Files(model, *paths)


@pytest.fixture(scope="session")
def bundle(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a narrow three-class network with the engine onnx-cpu."""
    folder = tmp_path_factory.mktemp("bundle")
    write_files(folder)
    model = build("resnet18", classes=3, input_shape=(1, 8, 8), mean=MEAN, std=STD, width=0.125).eval()
    export_engine(model, load_target("onnx-cpu"), folder / "engines" / "onnx-cpu", input_shape=(1, 8, 8))
    (folder / "engines" / "onnx-cpu" / "model.dense.onnx").rename(folder / "twin.onnx")
    seal(folder, contents())
    return folder
