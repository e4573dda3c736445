"""The file of results, one section for each program."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from tscnc_deploy.cli.common.machine import installed_version, system

_FOLDER = Path(__file__).parents[1] / "results"
_VERSIONS = ("uvloop", "httptools", "starlette", "grpcio", "orjson", "onnxruntime-gpu", "onnxruntime")


def write(section: str, name: str, figures: dict[str, Any]) -> None:
    """Puts the figures of one run, and what they were measured on, in the place of those of the run before."""
    path = _FOLDER / f"serving-{name}.json"
    document = json.loads(path.read_text("utf-8")) if path.exists() else {}
    document[section] = {"machine": _machine()} | figures
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(f"{section}: written to {path}")


def load_average() -> list[float]:
    """Of the last 1, 5 and 15 minutes: how busy the machine is, also with the work of others."""
    return [round(load, 2) for load in os.getloadavg()]


def _machine() -> dict[str, Any]:
    found = {name: installed_version(name) for name in _VERSIONS}
    return {
        "cpu": system()["cpu"],
        "python": platform.python_version(),
        "versions": {name: version for name, version in found.items() if version},
    }
