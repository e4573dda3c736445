"""Fingerprints: the hash of exactly what determines a stage's output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tscnc_deploy.pipeline.stages.base import Stage
from tscnc_deploy.recipe import Recipe

PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = {".py", ".cpp", ".hpp", ".h", ".inc"}


def fingerprint(stage: Stage, recipe: Recipe, device: str, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """SHA-256 over a stage's settings, the digests of its inputs, its source, its libraries and the device class.

    Args:
        stage: The stage.
        recipe: The recipe; only what `stage.settings` takes from it counts.
        device: Class of device, such as "cpu" or "cuda:NVIDIA H200".
        inputs: Digests of the files it reads, by stage and path.
    """
    content: dict[str, Any] = {
        "stage": stage.name,
        "settings": stage.settings(recipe),
        "inputs": inputs,
        "code": source_digest(stage.code),
        "libraries": {name: _version(name) for name in stage.libraries},
        "device": device,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


@cache
def source_digest(modules: tuple[str, ...]) -> str:
    """SHA-256 over the source of modules and packages under `tscnc_deploy`, in Python and in C++."""
    digest = hashlib.sha256()
    for module in modules:
        path = PACKAGE / module
        files = sorted(f for f in path.rglob("*") if f.suffix in _SOURCES) if path.is_dir() else [path]
        for file in files:
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by relative path."""
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in _files(folder)}


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def select(digests: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The entries that stand for the named files, or lie in the named folders."""
    wanted = tuple(names)
    return {
        path: value for path, value in digests.items() if any(path == n or path.startswith(n + "/") for n in wanted)
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
