"""JUnit XML, in which CI systems show each check as a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from tscnc_deploy.errors import StorageError

if TYPE_CHECKING:
    from tscnc_deploy.check.result import CheckReport, CheckResult

# Characters that XML 1.0 cannot represent; names and messages contain text from the bundle.
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The three elements for a test that did not pass in Ant's schema, which CI systems follow.
_ELEMENTS = {
    "failed": "failure",
    "inconclusive": "failure",
    "error": "error",
    "unavailable": "error",
    "not checked": "error",
    "skipped": "skipped",
}


def write_junit(path: Path, report: CheckReport) -> None:
    """Writes one test suite with a test case for every result.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.write_bytes(render_junit(report))
    except OSError as error:
        msg = f"--junit {path}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error


def render_junit(report: CheckReport) -> bytes:
    """The document; see `write_junit`."""
    elements = [_ELEMENTS.get(result.outcome) for result in report.results]
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
        {"name": "tscnc-deploy check", "time": f"{report.seconds:.3f}"} | {k: str(v) for k, v in counts.items()},
    )
    for result in report.results:
        _case(suite, result)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _case(suite: ElementTree.Element, result: CheckResult) -> None:
    attributes = {"classname": "tscnc-deploy.check", "name": _text(result.name), "time": f"{result.seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    message = _text(result.message)
    if element := _ELEMENTS.get(result.outcome):
        first = message.splitlines()[0] if message else result.outcome
        inside = ElementTree.SubElement(case, element, {"message": first})
        if element != "skipped":
            inside.set("type", result.outcome)
            inside.text = message
    elif message:
        ElementTree.SubElement(case, "system-out").text = message


def _text(text: str) -> str:
    return _IMPOSSIBLE.sub("\N{REPLACEMENT CHARACTER}", text)
