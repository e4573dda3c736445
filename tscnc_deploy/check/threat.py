"""Whether manifest, recipe and record speak of one threat model, which is the one that was attacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import MANIFEST, RECIPE
from tscnc_deploy.bundle.threat import threat_disagreements
from tscnc_deploy.check.result import CheckResult, pass_or_fail

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle


def check_threat(bundle: Bundle) -> CheckResult:
    """Whether the recipe, the record and every evaluation in it have the norm and the epsilon of the manifest.

    Servers and `inspect` tell the manifest's to clients, who would otherwise trust in a larger epsilon than any attack
    had.
    """
    found = list(_of_recipe(bundle)) + list(threat_disagreements(bundle.manifest.threat, bundle.record))
    return pass_or_fail("threat model: the same in manifest, recipe and record", not found, "; ".join(found))


def _of_recipe(bundle: Bundle) -> Iterator[str]:
    stated, own = bundle.manifest.threat, bundle.load_recipe().threat
    if (own.norm, own.epsilon) != (stated.norm, stated.epsilon):
        yield (
            f"{MANIFEST} says {stated.norm} {stated.epsilon:.6g}, the threat section of {RECIPE} {own.norm} "
            f"{own.epsilon:.6g}"
        )
