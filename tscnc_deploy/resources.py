"""Finds the folders of recipes and targets that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tscnc_deploy.errors import UnavailableError

_PACKAGE = Path(__file__).resolve().parent


def folder(name: Literal["pipelines", "export"]) -> Path:
    """The shipped folder of recipes ("pipelines") or of targets and templates ("export").

    A wheel carries both as `tscnc_deploy/_shipped/NAME`; in a checkout, editable installs included, they stand beside
    the package, so an edit there takes effect at once.

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
