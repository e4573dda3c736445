import re
from pathlib import Path

from tscnc_deploy.cli.program import COMMANDS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_no_placeholder_is_left():
    assert "@@" not in README


def test_every_command_it_shows_exists():
    shown = set(re.findall(r"tscnc-deploy ([a-z]+)", README))
    assert shown <= set(COMMANDS)
    assert {"build", "verify", "init", "doctor"} <= shown
