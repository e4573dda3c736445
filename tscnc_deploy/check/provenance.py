"""Whose a bundle is, and whether its provenance is about these files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tscnc_deploy import strict_json
from tscnc_deploy.bundle.manifest import MANIFEST, PROVENANCE
from tscnc_deploy.bundle.tree import SIGNATURE
from tscnc_deploy.check.result import CheckResult, holds
from tscnc_deploy.strict_json import quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.request import Request


def check_signature(bundle: Bundle, request: Request) -> CheckResult:
    """Whether it is signed by whom the user says; without a say, whether it is signed at all.

    Raises:
        BundleError: It is not.
        UnavailableError: A package is missing, or Sigstore cannot be reached.
    """
    from tscnc_deploy.bundle.signing.keyless import verify_signer

    if (signer := request.identity or request.key) is not None:
        verify_signer(bundle, signer)
        return CheckResult("signature", "passed", f"of {signer}")
    signed = (bundle.path / SIGNATURE).exists()
    whose = "signed, but by whom was not checked: give --key PUBLIC.pem, or --identity NAME and --issuer URL"
    return CheckResult("signature", "skipped", whose if signed else "not signed")


def check_provenance(bundle: Bundle) -> Iterator[CheckResult]:
    """Whether the provenance names every file with the digest that the manifest has; who vouches is the signature's."""
    from tscnc_deploy.bundle.provenance.slsa import PREDICATE, STATEMENT

    name = "provenance: of these files"
    if PROVENANCE not in bundle.manifest.files:
        yield CheckResult(name, "skipped", f"the bundle holds no {PROVENANCE}")
        return
    try:
        statement = strict_json.loads(bundle.read(PROVENANCE))
        kinds = (statement["_type"], statement["predicateType"])
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    except (ValueError, KeyError, TypeError) as error:
        yield CheckResult(name, "failed", f"{PROVENANCE} is no in-toto statement: {quoted(str(error))}")
        return
    if kinds != (STATEMENT, PREDICATE):
        yield CheckResult(name, "failed", f"{PROVENANCE} is no SLSA provenance of version 1 in an in-toto statement")
        return
    files = {path: entry.sha256 for path, entry in bundle.manifest.files.items() if path != PROVENANCE}
    wrong = sorted(path for path in {*files, *map(str, subjects)} if files.get(path) != subjects.get(path))
    said = f"{PROVENANCE} and {MANIFEST} differ on {_few(wrong)}: it is of another build"
    yield holds(name, not wrong, said)


def _few(paths: list[Any]) -> str:
    shown = ", ".join(quoted(path)[1:-1] for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
