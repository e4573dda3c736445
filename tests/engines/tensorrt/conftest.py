from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.engines.architectures import SHAPE, network
from tscnc_deploy.engines import ExportAids, export_engine, load_target
from tscnc_deploy.engines.target import Target


def target(name: str = "tensorrt-rtx-fp16", **changes) -> Target:
    return load_target(name).model_copy(update={"capabilities": ("SM80", "SM89"), **changes})


@pytest.fixture(scope="session")
def built(architectures, tmp_path_factory) -> Path:
    """The folder of a half-precision engine; tests that change it take `folder`."""
    place = tmp_path_factory.mktemp("built")
    export_engine(network(), target(), place, input_shape=SHAPE, aids=ExportAids(dense=architectures.dense()))
    return place


@pytest.fixture
def folder(built, tmp_path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "engine"))
