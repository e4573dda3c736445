"""The tasks of a contributor: `nox --list` names them, `nox` runs lint, docs and test.

Sessions run in the environment that nox was started from, so PyTorch is not installed a second time. To use a fresh
one, create it, install '.[dev]' there, and start nox from it.
"""

from __future__ import annotations

import shutil
import sys

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "docs", "test"]

PYTEST = nox.project.load_toml("pyproject.toml")["tool"]["pytest"]["ini_options"]


@nox.session
def test(session: nox.Session) -> None:
    """Run the tests with warnings as errors. Arguments go to pytest: nox -s test -- tests/tscnc -m "not slow"."""
    # On the command line, as "error" in pyproject.toml would let a new release of a dependency fail a user's first run.
    warnings = [part for each in ["error", *PYTEST.get("filterwarnings", [])] for part in ("-W", each)]
    _python(session, "-m", "pytest", *warnings, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types, imports, spelling, shell scripts and workflows."""
    session.run("lint-imports", "--no-cache", external=True)
    _python(session, "-m", "pre_commit", "run", "--all-files", "--show-diff-on-failure")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that every file, command and link that the documentation names exists."""
    _python(session, "-m", "pytest", "tests/test_readme.py", "tests/test_contributing.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it, into dist/, and check what they hold."""
    shutil.rmtree("dist", ignore_errors=True)
    _python(session, "-m", "build", "--outdir", "dist")
    _python(session, ".ci/check_distributions.py", "dist")


def _python(session: nox.Session, *arguments: str) -> None:
    session.run(sys.executable, *arguments, external=True)
