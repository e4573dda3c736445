"""Small bundles to open and to damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tscnc_deploy.bundle import Contents, EngineEntry, seal
from tscnc_deploy.bundle.evidence import Evidence
from tscnc_deploy.engines.target import Target
from tscnc_deploy.record import BuildRecord, ModelFacts, ThreatModel

CLASSES = ("zero", "one", "two")


def contents(*engines: str) -> Contents:
    model = ModelFacts(
        arch="resnet18",
        parameters=100,
        prunable=80,
        nonzero=4,
        sparsity=0.95,
        input_shape=(1, 8, 8),
        classes=CLASSES,
    )
    entries = {
        name: EngineEntry(folder=f"engines/{name}", kind="onnxruntime", precision="fp32", attacked=True)
        for name in engines or ("onnx-cpu", "onnx-cuda")
    }
    return Contents(name="tiny", model=model, threat=ThreatModel(epsilon=0.1), engines=entries, passed=True)


def evidence() -> Evidence:
    images = np.linspace(0, 1, 4 * 64, dtype=np.float32).reshape(4, 1, 8, 8)
    return Evidence(
        images=images,
        labels=np.array([0, 1, 2, 0]),
        adversarial={"onnx-cpu": np.clip(images + np.float32(0.1), 0, 1)},
        outcomes={"onnx-cpu.pgd-20": np.array([True, False, True, True])},
        record=record(),
    )


def record() -> BuildRecord:
    whole = contents()
    return BuildRecord(
        name="tiny", model=whole.model, threat=whole.threat, seconds={"verify": 1.0, "export": 2.0}, passed=True
    )


def write_files(folder: Path) -> None:
    """Everything but the manifest; the engines and the twin are only bytes."""
    texts = {
        "recipe.toml": 'name = "tiny"\n',
        "twin.onnx": "no tensors\n",
        "report.html": "<!doctype html>\n",
        "README.md": "# tiny\n",
        "engines/onnx-cpu/model.onnx": "the CPU's\n",
        "engines/onnx-cpu/target.json": Target(name="onnx-cpu").model_dump_json(),
        "engines/onnx-cuda/model.onnx": "the GPU's\n",
    }
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    evidence().write(folder)


def write_bundle(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder)
    seal(folder, contents())
    return folder


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
