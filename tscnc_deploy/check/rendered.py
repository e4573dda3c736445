"""Whether report and model card say what the record says: they are rendered from it again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import CARD, REPORT
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.text import escaped
from tscnc_deploy.versions import own_version

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle

_RELEASE = re.compile(r"\d+(\.\d+)*")
# Not compared: drawing takes seconds, and another font gives other drawings of the same figures.
_DRAWING = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


def check_rendered(bundle: Bundle) -> CheckResult:
    """Renders report and model card from the record, if this version rendered those of the bundle, and compares.

    Raises:
        UnavailableError: The templates are missing from the installation.
    """
    from tscnc_deploy.record import SCHEMA
    from tscnc_deploy.report.card import render_card
    from tscnc_deploy.report.html import render_report

    name = f"{REPORT} and {CARD}: say what the record says"
    written_by, own = bundle.manifest.tscnc_deploy, own_version()
    if written_by != own or bundle.record.schema_name != SCHEMA:
        message = (
            f"as their maker says: version {escaped(written_by)} wrote them, and this is {own}; `tscnc-deploy report` "
            "renders the report from the record"
        )
        return CheckResult(name, "note", message)
    report, card = (bundle.read(path).decode("utf-8", "replace") for path in (REPORT, CARD))
    rendered = {REPORT: render_report(bundle.record, drawings=False), CARD: render_card(bundle.record)}
    stored = {REPORT: _DRAWING.sub("<svg></svg>", report), CARD: card}
    changed = [path for path, text in stored.items() if text != rendered[path]]
    message = f"the same version renders another {' and another '.join(changed)} from the record"
    if changed and not _RELEASE.fullmatch(own):
        message = f"as their maker says: {message}, but it is under development, and its templates may have changed"
        return CheckResult(name, "note", message)
    return pass_or_fail(name, not changed, message)
