"""The bundle that a command is given, shared by the commands that read one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def given_folder(path: Path) -> Path:
    """The folder of a bundle, or of the bundle in a run's folder; whether there is one is for `open_bundle` to say."""
    inside = path / "bundle"
    is_run = not (path / "manifest.json").exists() and (inside / "manifest.json").exists()
    return inside if is_run else path


def open_given(path: Path) -> Bundle:
    """Opens a bundle, or the bundle of a run's folder.

    Raises:
        BundleError: There is none, or it is damaged.
    """
    from tscnc_deploy.bundle import open_bundle

    return open_bundle(given_folder(path))
