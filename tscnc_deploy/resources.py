"""Finds the folders of recipes and targets that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tscnc_deploy.errors import UnavailableError

_PACKAGE = Path(__file__).resolve().parent


def folder(name: Literal["pipelines", "export"]) -> Path:
    """The folder of built-in recipes ("pipelines") or of built-in targets and templates ("export").

    A wheel contains both as `tscnc_deploy/_shipped/NAME`. In a checkout, including editable installs, they are next to
    the package, so edits take effect immediately.

    Raises:
        UnavailableError: The installation lacks the folder.
    """
    for candidate in (_PACKAGE / "_shipped" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    msg = (
        f"{_PACKAGE}: this installation of tscnc-deploy lacks its folder {name}/; "
        "run: pip install --force-reinstall --no-deps tscnc-deploy"
    )
    raise UnavailableError(msg)
