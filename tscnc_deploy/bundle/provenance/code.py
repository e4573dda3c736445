"""The version of this code: the package's version and, in a checkout, the commit and whether it was modified."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tscnc_deploy.versions import own_version

_CHECKOUT = Path(__file__).resolve().parents[3]
# The parts of a checkout that a build reads.
_CODE = ("tscnc_deploy", "export", "pipelines", "pyproject.toml")


@dataclass(frozen=True)
class Code:
    """The version of this package.

    Attributes:
        version: Version of the package.
        commit: Commit of the checkout, 40 hexadecimal digits; None outside a checkout or if git fails.
        modified: Whether files that a build reads were modified or added since the commit; None without a commit.
    """

    version: str
    commit: str | None = None
    modified: bool | None = None


def code_version() -> Code:
    """The version of the running code; calls git if the package is imported from its checkout."""
    version = own_version()
    if not (_CHECKOUT / ".git").exists():
        return Code(version)
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", *_CODE)
    return Code(version) if commit is None or changes is None else Code(version, commit, bool(changes))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_CHECKOUT), *arguments],
            capture_output=True, text=True, timeout=30, check=True, env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # git is missing, or refuses a folder that belongs to another user
        return None
    return done.stdout.strip()
