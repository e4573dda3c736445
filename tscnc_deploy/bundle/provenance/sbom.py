"""The software bill of materials of a build, as CycloneDX 1.6 in JSON (https://cyclonedx.org)."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tscnc_deploy import strict_json
from tscnc_deploy.bundle.provenance.distributions import ROOT, Distribution
from tscnc_deploy.digests import digest_of_bytes


def render_sbom(name: str, weights_sha256: str, distributions: Mapping[str, Distribution]) -> bytes:
    """What a bundle was built with: Python, this package and its installed requirements, with their dependencies.

    Equal builds give equal bytes: the serial number is derived from the content, and the optional timestamp is left
    out; the times of the build are in its provenance.

    Args:
        name: Name of the bundle.
        weights_sha256: SHA-256 of its twin, in hexadecimal.
        distributions: See `build_distributions`.
    """
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
    from cyclonedx.output.json import JsonV1Dot6

    model = Component(
        name=name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="bundle",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=weights_sha256)],
    )
    python = Component(name="python", version=platform.python_version(), type=ComponentType.PLATFORM, bom_ref="python")
    components = {each.name: _component(each) for each in distributions.values()}
    bom = Bom(
        metadata=BomMetaData(component=model, lifecycles=[PredefinedLifecycle(LifecyclePhase.BUILD)]),
        components=[python, *components.values()],
    )
    bom.register_dependency(model, [components[ROOT], python])
    for each in distributions.values():
        bom.register_dependency(components[each.name], [components[other] for other in each.requires])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]
    content = digest_of_bytes(strict_json.dumps(document))
    return strict_json.dumps(document | {"serialNumber": uuid5(NAMESPACE_URL, f"sha256:{content}").urn})


def _component(distribution: Distribution) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseAcknowledgement
    from packageurl import PackageURL

    license_ = distribution.license
    declared = LicenseAcknowledgement.DECLARED
    purl = PackageURL("pypi", None, distribution.name, distribution.version)
    return Component(
        name=distribution.name,
        version=distribution.version,
        type=ComponentType.APPLICATION if distribution.name == ROOT else ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=[LicenseFactory().make_from_string(license_, license_acknowledgement=declared)] if license_ else [],
    )
