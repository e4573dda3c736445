from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tscnc_deploy.bundle.paths import check_path, parents


@pytest.mark.parametrize("path", ["recipe.toml", "engines/onnx-cpu/model.onnx", "a/b/c_d+e.f", "0"])
def test_plain_names_pass(path):
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../secret",
        "engines/../../secret",
        "engines/./model.onnx",
        "engines//model.onnx",
        "engines/",
        "engines\\..\\..\\secret",
        "C:secret",
        "C:/secret",
        "~root",
        ".hidden",
        "ends.",
        "new\nline",
        "line\n",
        "nul\0",
        "two words",
        "report\u202elmth.exe",
        "rеport.html",
        "ﬁle",
        "e\u0301",
        "model.onnx\u200b",
        "a" * 241,
    ],
)
def test_anything_else_is_refused(path):
    with pytest.raises(ValueError, match=r"is not a path inside the bundle|is longer than 240 characters"):
        check_path(path)


@given(st.text(max_size=12) | st.text("./\\ab:", max_size=12))
def test_a_path_that_passes_stays_inside_and_has_one_spelling(path):
    try:
        check_path(path)
    except ValueError:
        return
    root = Path("/bundle")
    assert (root / path).resolve().relative_to(root).as_posix() == path
    assert PureWindowsPath(path).parts == tuple(path.split("/"))
    assert path.isascii()


def test_parents_lead_to_the_file():
    assert parents("a/b/c") == ["a", "a/b"]
    assert parents("a") == []
