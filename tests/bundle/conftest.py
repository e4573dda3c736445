from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.folders import write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")
