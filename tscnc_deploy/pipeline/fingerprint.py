"""Fingerprints: a hash of exactly the inputs that determine a stage's output."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tscnc_deploy.digests import digest_of_bytes, digest_of_chunks, digest_of_file, digest_of_parts
from tscnc_deploy.pipeline.closure import PACKAGE, closure
from tscnc_deploy.pipeline.stages.base import Stage, network_code
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.versions import installed_version

# Distributions of imports with another name, or whose results also depend on another distribution.
_DISTRIBUTIONS = {
    "PIL": ("pillow",),
    "cyclonedx": ("cyclonedx-python-lib",),
    # The exporter's optimiser.
    "onnxscript": ("onnxscript", "onnx-ir"),
    # They install the same module.
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "packageurl": ("packageurl-python",),
    "sklearn": ("scikit-learn",),
    "tensorrt_rtx": ("tensorrt-rtx",),
}
# Imports that do not affect outputs: they schedule work, validate values or store what others computed. All other
# imports count, so a new one is never forgotten.
_INERT = frozenset({"filelock", "google", "joblib", "packaging", "platformdirs", "pydantic", "ray", "safetensors"})


def fingerprint(stage: Stage, recipe: Recipe, device: str, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """SHA-256 of a stage's settings, inputs, source and libraries, the network's own code, and the device class.

    Args:
        stage: The stage.
        recipe: The recipe; only the part returned by `stage.settings` counts.
        device: Device class, such as "cpu" or "cuda:NVIDIA H200".
        inputs: Digests of the files it reads, by stage and path.
    """
    module = Path(inspect.getfile(type(stage))).resolve()
    content: dict[str, Any] = {
        "stage": stage.name,
        "settings": stage.settings(recipe),
        "network": network_code(recipe),
        "inputs": inputs,
        "code": source_digest(module),
        "libraries": libraries(module),
        "device": device,
    }
    return digest_of_parts(**content)


@cache
def source_digest(module: Path) -> str:
    """SHA-256 of the source of a module and of everything that it imports from this package."""
    parts = []
    for file in closure(module).files:
        name = file.relative_to(PACKAGE).as_posix() if file.is_relative_to(PACKAGE) else file.name
        parts += [name.encode() + b"\0", bytes.fromhex(digest_of_bytes(file.read_bytes()))]
    return digest_of_chunks(parts)


def libraries(module: Path) -> dict[str, str | None]:
    """Versions of the libraries that a module imports, directly or indirectly, and that determine its output.

    Returns:
        Version by the name of the distribution; None for one that is not installed.
    """
    reached = closure(module).packages - sys.stdlib_module_names - _INERT
    names = {name for package in reached for name in _DISTRIBUTIONS.get(package, (package,))}
    return {name: installed_version(name) for name in sorted(names)}


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): digest_of_file(path) for path in _files(folder)}


def select(digests: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The entries of the named files and of all files in the named folders."""
    wanted = tuple(names)
    return {
        path: value for path, value in digests.items() if any(path == n or path.startswith(n + "/") for n in wanted)
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
