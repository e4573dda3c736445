"""The pages for contributors and the files of the repository say what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md", "docs/style.md")]
CHECK_CHANGELOG = ROOT / ".ci" / "check_changelog.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_or_linked_exists(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tscnc_deploy|tests|export|pipelines|benchmarks|docs)/[\w./-]*)`", text))
    links = {page.parent / link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text)}
    assert [path for path in links | {ROOT / name for name in named} if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_that_is_said_to_be_in_a_file_is_there(page):
    """Of sentences such as: add it to `NAME` in `tscnc_deploy/file.py`."""
    said = re.findall(r"`(\w+)` in\s+`(tscnc_deploy/[\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert [(name, file) for name, file in said if name not in (ROOT / file).read_text(encoding="utf-8")] == []


def test_the_plan_names_every_folder_of_the_package():
    folders = {path.parent.name for path in (ROOT / "tscnc_deploy").glob("*/__init__.py")}
    rows = re.findall(r"^\| ([^|]*) \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert folders - {name for row in rows for name in re.findall(r"`(\w+)/`", row)} == set()


def test_every_session_that_is_named_exists():
    sessions = set(re.findall(r"^def ([a-z]\w*)\(session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    assert sessions == {"test", "lint", "docs", "build"}
    pages = [ROOT / "CONTRIBUTING.md", *(ROOT / ".github" / "workflows").glob("*.yml")]
    named = {
        name
        for page in pages
        for line in re.findall(r"nox -s ((?:[a-z]+ ?)+)", page.read_text(encoding="utf-8"))
        for name in line.split()
    }
    assert {"test", "build"} <= named <= sessions


def test_every_action_of_a_release_is_pinned_to_a_version():
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        used = re.findall(r"uses: (\S+)", workflow.read_text(encoding="utf-8"))
        assert [name for name in used if not re.search(r"@(v\d|release/v\d)", name)] == []


@pytest.mark.parametrize(
    ("version", "heading", "message"),
    [
        ("1.2.3", "## 1.2.3 (2026-01-31)", None),
        ("1.2.3", "## 1.2.3 (unreleased)", "says (unreleased), not its date"),
        ("1.2.3", "## 1.2.4 (2026-01-31)", "no section '## 1.2.3 (YYYY-MM-DD)'; it has 1.2.4"),
    ],
)
def test_a_release_needs_a_dated_section_of_the_changelog(tmp_path, version, heading, message):
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / CHECK_CHANGELOG.name
    script.write_text(CHECK_CHANGELOG.read_text())
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n- Something\n")
    done = subprocess.run([sys.executable, script, version], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if message is None else 1)
    assert (message or "") in done.stderr
