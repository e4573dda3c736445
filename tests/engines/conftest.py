from __future__ import annotations

import pytest

from tests.engines.nets import small_net
from tscnc_deploy.engines import EngineFiles, export_engine, load_target


@pytest.fixture(scope="session")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> EngineFiles:
    """The exported files of `small_net()`; do not write to them."""
    return export_engine(small_net(), load_target("onnx-cpu"), tmp_path_factory.mktemp("engine"), input_shape=(1, 8, 8))
