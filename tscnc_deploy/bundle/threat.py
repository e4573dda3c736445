"""The threat model that a bundle states in several places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import MANIFEST
from tscnc_deploy.text import escaped

if TYPE_CHECKING:
    from tscnc_deploy.record import BuildRecord, ThreatModel


def threat_disagreements(stated: ThreatModel, record: BuildRecord) -> Iterator[str]:
    """Where the record says something else than the manifest.

    Args:
        stated: The manifest's threat model, which clients are told.
        record: The record, which says what each evaluation was attacked with.
    """
    if record.threat != stated:
        yield f"{MANIFEST} says {_of(stated)}, the record {_of(record.threat)}"
    for name, evaluation in record.evaluations.named.items():
        if (evaluation.norm, evaluation.epsilon) != (stated.norm, stated.epsilon):
            attacked = _shown(evaluation.norm, evaluation.epsilon)
            yield f"{MANIFEST} says {_of(stated)}, but {escaped(name)} was attacked with {attacked}"


def _of(threat: ThreatModel) -> str:
    return _shown(threat.norm, threat.epsilon)


def _shown(norm: str | None, epsilon: float | None) -> str:
    return "no norm or epsilon" if norm is None or epsilon is None else f"{escaped(norm)} {epsilon:.6g}"
