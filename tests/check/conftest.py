"""A small bundle of a network that learned something, to be copied and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import build_once, tiny_options


@pytest.fixture(scope="session")
def robust_build(tmp_path_factory) -> Path:
    """The bundle of a build whose network stands some attacks, so that there is something to lose."""
    settings = tiny_options(
        data__train_limit=900,
        data__test_limit=120,
        verify__evidence_images=80,
        train__epochs=6,
        train__ramp_epochs=2,
        prune__sparsity=0.5,
        threat__epsilon=0.05,
        gates__clean=0.6,
        gates__robust=0.3,
    )
    return build_once(tmp_path_factory, "robust", settings).bundle


@pytest.fixture
def bundle(robust_build, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return Path(shutil.copytree(robust_build, tmp_path / "bundle"))
