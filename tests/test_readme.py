import re
from pathlib import Path

import pytest

from tscnc_deploy.cli.common.program import COMMANDS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_placeholder_is_left(page):
    assert "@@" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_it_shows_exists(page):
    assert commands(page) <= set(COMMANDS)


def test_the_readme_shows_the_way():
    assert {"build", "verify", "serve", "check", "init", "doctor"} <= commands(README)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_it_links_to_or_names_exists(page):
    text = page.read_text(encoding="utf-8")
    links = {page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    named = {ROOT / name for name in re.findall(r"`((?:benchmarks|pipelines|docs|export|tests)/[\w./-]+)`", text)}
    assert [path for path in links | named if not path.exists()] == []


def commands(page: Path) -> set[str]:
    return set(re.findall(r"tscnc-deploy ([a-z]+)", page.read_text(encoding="utf-8")))
