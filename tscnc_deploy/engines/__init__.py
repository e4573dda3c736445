"""Engines: exported artefacts together with the code that opens them and computes logits.

Importing this package imports no runtime; `registry` imports the one that a target names.
"""

from tscnc_deploy.engines.base import Engine, EngineSpec
from tscnc_deploy.engines.kind import EngineFiles, ExportAids
from tscnc_deploy.engines.registry import (
    can_export,
    can_run,
    engine_facts,
    export_engine,
    open_engine,
)
from tscnc_deploy.engines.target import Target, list_targets, load_target

__all__ = [
    "Engine",
    "EngineFiles",
    "EngineSpec",
    "ExportAids",
    "Target",
    "can_export",
    "can_run",
    "engine_facts",
    "export_engine",
    "list_targets",
    "load_target",
    "open_engine",
]
