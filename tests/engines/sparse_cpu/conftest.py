from __future__ import annotations

from pathlib import Path

import pytest

from tscnc_deploy.engines.sparse_cpu.library import instructions_for
from tscnc_deploy.errors import UnavailableError


def pytest_collection_modifyitems(items):
    """Tests of this folder need the core unless they say otherwise; a checkout in which it was not built skips them."""
    try:
        instructions_for("auto")
        reason = None
    except UnavailableError as error:
        reason = str(error)
    for item in items:
        if Path(__file__).parent in item.path.parents and "without_core" not in item.keywords:
            item.add_marker(pytest.mark.compiled)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
