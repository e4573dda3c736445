"""What a bundle says and nothing in it can prove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import PROVENANCE, REPORT, SBOM, SCRIPT
from tscnc_deploy.check.result import CheckResult

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle

# In words -> where it is: patterns of `fnmatch` on the file and the keys of record or manifest, joined by dots.
CLAIMS: dict[str, tuple[str, ...]] = {
    "training curves": ("record.history.*",),
    "durations": ("record.seconds.*",),
    "versions and hardware": (
        "record.environment.*",
        "record.evaluations.engines.*.provider",
        "manifest.engines.*.build.*",
        "manifest.tscnc_deploy",
    ),
    "latency": ("record.latency", "record.latency.*"),
    "sizes of archives": ("record.sizes.*",),
    "settings and queries of attacks": ("record.evaluations.*.settings.*", "record.evaluations.*.queries.*"),
    "signs of gradient masking in the build": ("record.evaluations.*.warnings", "record.evaluations.*.warnings.*"),
    "measures beyond the threat model": ("record.evaluations.*.measures", "record.evaluations.*.measures.*"),
    "how engines compute their layers, and what 2:4 cost": (
        "record.evaluations.engines.*.layers.*",
        "record.evaluations.engines.*.completion.*",
    ),
    "which labels an engine flips": ("record.evaluations.engines.*.parity.flips_*",),
    # Never used: a bundle must not choose the folder that is read on this machine.
    "the folder of the data": ("recipe.data.root",),
    # A change of recipe, record or manifest alone shows; only a change of all does not.
    "how the network was trained": (),
    "that the network has the architecture of its name": (),
}


def claims_of(bundle: Bundle) -> str:
    """What is only as the maker of the bundle says, in one line."""
    said = list(CLAIMS)
    twin, withheld = bundle.record.evaluations.twin, bundle.withheld
    total = twin.clean.total if twin and twin.clean else 0
    if (rest := total - len(withheld.index if withheld else bundle.evidence.labels)) > 0:
        said.insert(0, f"outcomes of the {rest} of {total} evaluated images that are not in the evidence")
    files = [path for path in (PROVENANCE, SBOM, SCRIPT) if path in bundle.manifest.files]
    return ", ".join([*said, f"the drawings in {REPORT}", *files])


def check_claims(bundle: Bundle) -> CheckResult:
    """The note on what was not proved; only a rebuild (`--reproduce`) or trust in a signer covers it."""
    return CheckResult("not proved: as its maker says", "note", claims_of(bundle))
