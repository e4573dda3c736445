"""The provenance of a bundle: an in-toto statement (version 1) with SLSA's predicate (https://slsa.dev/provenance/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tscnc_deploy.bundle.manifest import RECIPE, SBOM
from tscnc_deploy.bundle.provenance.code import Code
from tscnc_deploy.bundle.provenance.distributions import ROOT

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
# Defines the meaning of the parameters; a package URL, because the URL of a website can change.
BUILD_TYPE = f"pkg:pypi/{ROOT}#build/1"
BUILDER = f"pkg:pypi/{ROOT}"


@dataclass(frozen=True)
class Build:
    """Facts about a build, known when its bundle is written.

    Attributes:
        seed: Seed of the build.
        dataset: Name of the data set.
        data_sha256: Digest of the data set's files, see `data.digest`.
        checkpoint_sha256: SHA-256 of the initial weights; None if training started from scratch.
        code: Version of this package.
        environment: Versions by name, as in the record.
        hardware: What results may depend on besides versions, such as the number of threads.
        started: When the first stage started, ISO 8601 in UTC; None if unknown.
        finished: When the bundle was written, ISO 8601 in UTC.
        network: What identifies the code of a network that is not built in, see `stages.base.network_code`.
    """

    seed: int
    dataset: str
    data_sha256: str
    checkpoint_sha256: str | None
    code: Code
    environment: Mapping[str, str]
    hardware: Mapping[str, Any]
    started: str | None
    finished: str
    network: Mapping[str, Any] | None = None


def provenance(build: Build, files: Mapping[str, str]) -> dict[str, Any]:
    """The statement, as JSON.

    Args:
        build: Facts about the build.
        files: SHA-256 of every file written so far, by path; these are the subjects.
    """
    times = {"startedOn": build.started, "finishedOn": build.finished}
    return {
        "_type": STATEMENT,
        "subject": [_resource(path, digest) for path, digest in sorted(files.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"recipe": _resource(RECIPE, files[RECIPE]), "seed": build.seed},
                "internalParameters": {"hardware": dict(build.hardware)},
                "resolvedDependencies": list(_dependencies(build, files)),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {ROOT: build.code.version, **build.environment}},
                "metadata": {key: time for key, time in times.items() if time is not None},
            },
        },
    }


def _dependencies(build: Build, files: Mapping[str, str]) -> list[dict[str, Any]]:
    # A package URL spells the "+" of a development version in percent-encoding.
    code: dict[str, Any] = {"name": "code", "uri": f"pkg:pypi/{ROOT}@{quote(build.code.version, safe='')}"}
    if build.code.commit is not None:
        code |= {"digest": {"gitCommit": build.code.commit}, "annotations": {"modified": build.code.modified}}
    data = _resource("data", build.data_sha256) | {"annotations": {"dataset": build.dataset}}
    checkpoint = [] if build.checkpoint_sha256 is None else [_resource("checkpoint", build.checkpoint_sha256)]
    packages = _resource(SBOM, files[SBOM]) | {"mediaType": "application/vnd.cyclonedx+json; version=1.6"}
    return [code, data, *checkpoint, *_network(build.network), packages]


def _network(network: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if network is None:
        return []
    distribution = network.get("distribution")
    found: dict[str, Any] = {"name": "network"}
    if distribution is not None:
        found["uri"] = f"pkg:pypi/{distribution}@{quote(network['version'] or '', safe='')}"
    if "sha256" in network:
        found["digest"] = {"sha256": network["sha256"]}
    return [found]


def _resource(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}
