"""What GitHub Actions shows: annotations, which are lines of a command's output, and the summary of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tscnc_deploy.check.request import CheckReport

_LEVELS = {
    "failed": "error",
    "error": "error",
    "unavailable": "error",
    "inconclusive": "warning",
    "note": "notice",
}


def workflow_commands(checkup: CheckReport) -> list[str]:
    """A workflow command for every finding that a reviewer should see."""
    return [
        f"::{_LEVELS[finding.outcome]} title={_property('tscnc-deploy: ' + finding.name)}::{_data(finding.message)}"
        for finding in checkup.findings
        if finding.outcome in _LEVELS
    ]


def step_summary(checkup: CheckReport) -> str:
    """The findings as a Markdown table."""
    lines = [
        f"### tscnc-deploy check: {checkup.verdict}",
        "",
        f"Bounds of {checkup.policy or 'nobody'}; {checkup.seconds:.0f} s.",
        "",
        "| check | | measured | limit | |",
        "|---|---|---:|---:|---|",
    ]
    for finding in checkup.findings:
        figures = ["" if number is None else f"{number:.6g}" for number in (finding.value, finding.limit)]
        cells = [_cell(finding.name), finding.outcome, *figures, _cell(finding.message)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n"


def _data(text: str) -> str:
    # The runner undoes these three; unescaped, a line break would end the command and could begin another.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Text from a bundle as text: no table, link, image or HTML of its own."""
    plain = "".join(f"\\{c}" if c in "\\`*_[]|#~!" else c for c in " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
