"""Versions of this package and of installed distributions, and their comparison."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, such as "2.11.0+cpu", or None."""
    try:
        return version(distribution)
    except (PackageNotFoundError, ValueError):  # ValueError: an empty name
        return None


def python_and_system() -> dict[str, str]:
    """The version of Python, and the operating system with its processor: {"python", "system"}."""
    return {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}


@cache
def own_version() -> str:
    """The version of this package; "0+unknown" in a checkout that was never installed."""
    return installed_version("tscnc-deploy") or "0+unknown"


def is_older(found: str, least: str) -> bool:
    """Whether a version is older than another one; a version that does not follow PEP 440 counts as older.

    A pre-release is older than its release. A local part such as +cpu is ignored.
    """
    # Here, as the version of the package has to be known where nothing but the standard library is installed.
    from packaging.version import InvalidVersion, Version

    try:
        return Version(Version(found).public) < Version(least)
    except InvalidVersion:
        return True
