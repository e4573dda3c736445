"""Which code this is: the package's version, and in a checkout the commit and whether it was edited since."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import tscnc_deploy

_CHECKOUT = Path(__file__).resolve().parents[3]
# What a build reads of a checkout.
_CODE = ("tscnc_deploy", "export", "pipelines", "pyproject.toml")


@dataclass(frozen=True)
class Code:
    """This package as it runs.

    Attributes:
        version: Of the package.
        commit: Of the checkout, 40 hexadecimal digits; None outside of one, or where git does not say.
        modified: Whether files that a build reads differ from the commit, or are new; None without a commit.
    """

    version: str
    commit: str | None = None
    modified: bool | None = None


def code_version() -> Code:
    """The code that runs; asks git, where the package stands in a checkout of its own."""
    version = tscnc_deploy.__version__
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
    except (OSError, subprocess.SubprocessError):  # no git, or it refuses a folder of another user's
        return None
    return done.stdout.strip()
