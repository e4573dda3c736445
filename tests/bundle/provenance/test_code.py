from __future__ import annotations

import shutil
import subprocess

import pytest

import tscnc_deploy
from tscnc_deploy.bundle.provenance import code
from tscnc_deploy.bundle.provenance.code import Code, code_version


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of one commit in the place of this one."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(
            ["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    (tmp_path / "tscnc_deploy").mkdir()
    (tmp_path / "tscnc_deploy" / "code.py").write_text("one")
    (tmp_path / "notes.txt").write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(code, "_CHECKOUT", tmp_path)
    return tmp_path, git("rev-parse", "HEAD")


def test_the_commit_and_whether_the_code_was_edited(checkout):
    folder, commit = checkout
    assert code_version() == Code(tscnc_deploy.__version__, commit, False)
    (folder / "notes.txt").write_text("two")  # no build reads it
    assert code_version().modified is False
    (folder / "tscnc_deploy" / "new.py").write_text("two")
    assert code_version() == Code(tscnc_deploy.__version__, commit, True)


def test_outside_of_a_checkout_there_is_the_version(monkeypatch, tmp_path):
    monkeypatch.setattr(code, "_CHECKOUT", tmp_path)
    assert code_version() == Code(tscnc_deploy.__version__)
    (tmp_path / ".git").write_text("no repository")
    assert code_version() == Code(tscnc_deploy.__version__)
