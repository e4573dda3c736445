from __future__ import annotations

from pathlib import Path

import pytest

from tscnc_deploy.resources import folder

_ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["pipelines", "export"])
def test_folders_are_found_and_hold_no_python(name):
    assert folder(name).is_dir()
    assert not list(folder(name).rglob("*.py"))


def test_every_folder_with_modules_is_a_package():
    # The build finds packages by this file.
    folders = {path.parent for path in (_ROOT / "tscnc_deploy").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
