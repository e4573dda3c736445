"""Who signed a bundle, and whether its provenance describes the files in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tscnc_deploy import strict_json
from tscnc_deploy.bundle.manifest import MANIFEST, PROVENANCE
from tscnc_deploy.bundle.tree import SIGNATURE
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.text import escaped, quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.request import CheckRequest


def check_signature(bundle: Bundle, request: CheckRequest) -> CheckResult:
    """Verifies the signature if the request names a signer; otherwise reports whether there is one.

    Raises:
        BundleError: The bundle is not signed by that signer.
        UnavailableError: A package is missing, or Sigstore cannot be reached.
    """
    from tscnc_deploy.bundle.signing.keyless import verify_signer

    if (signer := request.identity or request.key) is not None:
        verify_signer(bundle, signer)
        return CheckResult("signature", "passed", f"by {signer}")
    if (bundle.path / SIGNATURE).exists():
        message = "signed, but not verified; give --key PUBLIC.pem, or --identity NAME and --issuer URL"
    else:
        message = "not signed"
    return CheckResult("signature", "skipped", message)


def check_provenance(bundle: Bundle) -> Iterator[CheckResult]:
    """Whether the provenance lists every file with the digest in the manifest; only a signature says who vouches."""
    from tscnc_deploy.bundle.provenance.slsa import PREDICATE, STATEMENT

    name = "provenance: matches the files"
    if PROVENANCE not in bundle.manifest.files:
        yield CheckResult(name, "skipped", f"the bundle does not contain {PROVENANCE}")
        return
    try:
        statement = strict_json.loads(bundle.read(PROVENANCE))
        kinds = (statement["_type"], statement["predicateType"])
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    except (ValueError, KeyError, TypeError) as error:
        yield CheckResult(name, "failed", f"{PROVENANCE} is not an in-toto statement: {quoted(str(error))}")
        return
    if kinds != (STATEMENT, PREDICATE):
        yield CheckResult(name, "failed", f"{PROVENANCE} is not SLSA provenance version 1 in an in-toto statement")
        return
    files = {path: entry.sha256 for path, entry in bundle.manifest.files.items() if path != PROVENANCE}
    wrong = sorted(path for path in {*files, *map(str, subjects)} if files.get(path) != subjects.get(path))
    message = f"{PROVENANCE} and {MANIFEST} differ on {_few(wrong)}: the provenance is that of another build"
    yield pass_or_fail(name, not wrong, message)


def _few(paths: list[Any]) -> str:
    shown = ", ".join(escaped(path) for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
