from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tscnc_deploy.resources import folder

_ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["pipelines", "export"])
def test_folders_are_found_and_hold_no_python(name):
    assert folder(name).is_dir()
    assert not list(folder(name).rglob("*.py"))


def test_the_build_lists_every_package():
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    inside = {".".join(path.parent.relative_to(_ROOT).parts) for path in (_ROOT / "tscnc_deploy").rglob("__init__.py")}
    shipped = {"tscnc_deploy._shipped.export", "tscnc_deploy._shipped.pipelines"}
    assert set(settings["packages"]) == inside | shipped
