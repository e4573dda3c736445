"""Fails where CHANGELOG.md has no dated section for a version: python .ci/check_changelog.py 0.1.0"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def main(version: str) -> int:
    sections = dict(re.findall(r"^## (\S+)(?: \((.*)\))?$", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE))
    if version not in sections:
        print(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'; it has {', '.join(sections)}", file=sys.stderr)
        return 1
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", sections[version]):
        print(f"CHANGELOG.md: the section of {version} says ({sections[version]}), not its date", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
