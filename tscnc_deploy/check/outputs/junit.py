"""JUnit XML, in which CI systems show each check as a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tscnc_deploy.errors import StorageError

if TYPE_CHECKING:
    from tscnc_deploy.check.request import CheckReport
    from tscnc_deploy.check.result import CheckResult

# What XML 1.0 has no character for; names and messages hold text from the bundle.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Ant's schema, which readers follow, knows three ways not to pass.
_ELEMENTS = {
    "failed": "failure",
    "inconclusive": "failure",
    "error": "error",
    "unavailable": "error",
    "skipped": "skipped",
}


def write_junit(path: Path, checkup: CheckReport) -> None:
    """Writes one test suite with a case for every finding.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.write_bytes(render_junit(checkup))
    except OSError as error:
        msg = f"--junit {path}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error


def render_junit(checkup: CheckReport) -> bytes:
    """The document; see `write_junit`."""
    elements = [_ELEMENTS.get(finding.outcome) for finding in checkup.findings]
    counts = {
        "tests": len(elements),
        "failures": elements.count("failure"),
        "errors": elements.count("error"),
        "skipped": elements.count("skipped"),
    }
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {"name": "tscnc-deploy check", "time": f"{checkup.seconds:.3f}"} | {k: str(v) for k, v in counts.items()},
    )
    for finding in checkup.findings:
        _case(suite, finding)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _case(suite: ElementTree.Element, finding: CheckResult) -> None:
    attributes = {"classname": "tscnc-deploy.check", "name": _text(finding.name), "time": f"{finding.seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    message = _text(finding.message)
    if element := _ELEMENTS.get(finding.outcome):
        first = message.splitlines()[0] if message else finding.outcome
        inside = ElementTree.SubElement(case, element, {"message": first})
        if element != "skipped":
            inside.set("type", finding.outcome)
            inside.text = message
    elif message:
        ElementTree.SubElement(case, "system-out").text = message


def _text(text: str) -> str:
    return _IMPOSSIBLE.sub("\N{REPLACEMENT CHARACTER}", text)
