"""The record: everything that a build or a check measured, in the one schema for writing and reading bundles.

`robustness` creates instances of these classes, the stages of a build write them, a bundle contains them as a
`BuildRecord` (evidence/evidence.json), and reports, servers and checks read them. Importing this package loads
pydantic, but neither numpy nor torch.
"""

from tscnc_deploy.record.build import BuildRecord, CallTime, Epoch, Gate, Latency, Layer, Size
from tscnc_deploy.record.evaluations import (
    GUESSING,
    Comparison,
    Completion,
    EngineEvaluation,
    EngineLayer,
    Evaluation,
    Evaluations,
    MaskingWarning,
    Parity,
)
from tscnc_deploy.record.facts import ModelFacts, ThreatModel
from tscnc_deploy.record.measures import (
    Certified,
    Corruptions,
    Curve,
    CurvePoint,
    Lipschitz,
    Mean,
    Measure,
    Measures,
    Quantile,
    Severity,
    SmallestEpsilons,
    Smoothing,
)
from tscnc_deploy.record.migrate import SCHEMA, SCHEMAS
from tscnc_deploy.record.parts import Accuracy

__all__ = [
    "GUESSING",
    "SCHEMA",
    "SCHEMAS",
    "Accuracy",
    "BuildRecord",
    "CallTime",
    "Certified",
    "Comparison",
    "Completion",
    "Corruptions",
    "Curve",
    "CurvePoint",
    "EngineEvaluation",
    "EngineLayer",
    "Epoch",
    "Evaluation",
    "Evaluations",
    "Gate",
    "Latency",
    "Layer",
    "Lipschitz",
    "MaskingWarning",
    "Mean",
    "Measure",
    "Measures",
    "ModelFacts",
    "Parity",
    "Quantile",
    "Severity",
    "Size",
    "SmallestEpsilons",
    "Smoothing",
    "ThreatModel",
]
