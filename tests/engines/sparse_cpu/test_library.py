from __future__ import annotations

import pytest

from tscnc_deploy.engines import can_run, load_target
from tscnc_deploy.engines.sparse_cpu import library
from tscnc_deploy.errors import UnavailableError

pytestmark = pytest.mark.without_core


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The package as if it were installed in another folder, without its core."""
    library._library.cache_clear()
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    yield tmp_path
    library._library.cache_clear()


def test_a_missing_core_is_named_with_what_builds_it(elsewhere):
    with pytest.raises(UnavailableError, match=r"was not built; install a C\+\+ compiler .* pip install"):
        library.instructions_for("auto")
    assert "was not built" in can_run(load_target("sparse-cpu"))


def test_a_file_that_is_no_library_is_named(elsewhere):
    (elsewhere / "_core.so").write_text("no library")
    with pytest.raises(UnavailableError, match="does not load"):
        library.instructions_for("auto")
