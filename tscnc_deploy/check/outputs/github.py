"""Output for GitHub Actions: annotations, which are lines on standard output, and the summary of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tscnc_deploy.text import number

if TYPE_CHECKING:
    from tscnc_deploy.check.result import CheckReport

_LEVELS = {
    "failed": "error",
    "error": "error",
    "unavailable": "error",
    "not checked": "error",
    "inconclusive": "warning",
    "note": "notice",
}


def workflow_commands(report: CheckReport) -> list[str]:
    """A workflow command for every result that a reviewer should see."""
    return [
        f"::{_LEVELS[result.outcome]} title={_property('tscnc-deploy: ' + result.name)}::{_data(result.message)}"
        for result in report.results
        if result.outcome in _LEVELS
    ]


def step_summary(report: CheckReport) -> str:
    """The results as a Markdown table."""
    lines = [
        f"### tscnc-deploy check: {report.verdict}",
        "",
        f"Limits from {report.policy or 'nowhere'}; {report.seconds:.0f} s.",
        "",
        "| check | | measured | limit | |",
        "|---|---|---:|---:|---|",
    ]
    for result in report.results:
        figures = ["" if value is None else number(value) for value in (result.value, result.limit)]
        cells = [_cell(result.name), result.outcome, *figures, _cell(result.message)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n"


def _data(text: str) -> str:
    # The runner decodes these three; an unescaped line break would end the command and could start another.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _cell(text: str) -> str:
    """Escapes text from a bundle, so that it cannot add a table, link, image or HTML."""
    plain = "".join(f"\\{c}" if c in "\\`*_[]|#~!" else c for c in " ".join(text.split()))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
