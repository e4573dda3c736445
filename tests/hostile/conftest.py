from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.box import Box
from tests.hostile.bundles import write_bundle


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("honest") / "bundle")


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory, honest: Path) -> Iterator[Box]:
    with Box(tmp_path_factory.mktemp("scratch"), honest) as box:
        yield box
