from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.bundles import write_served
from tests.serving.servers import Server, serving


@pytest.fixture(scope="session")
def served_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_served(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="session")
def server(served_bundle: Path) -> Server:
    """One server for all tests that leave it as it is."""
    with serving(served_bundle) as running:
        yield running
