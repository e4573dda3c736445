"""The bundle that a command is given, shared by the commands that read one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))


def open_given(path: Path) -> Bundle:
    """Opens a bundle, or the bundle of a run's folder.

    Raises:
        BundleError: There is none, or it is damaged.
    """
    from tscnc_deploy.bundle import open_bundle

    inside = path / "bundle"
    is_run = not (path / "manifest.json").exists() and (inside / "manifest.json").exists()
    return open_bundle(inside if is_run else path)
