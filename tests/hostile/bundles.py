"""A small bundle that passes `check`, and how somebody seals it again who has changed files in it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tscnc_deploy.bundle import Contents, EngineEntry, seal
from tscnc_deploy.bundle.evidence import Evidence
from tscnc_deploy.engines import export_engine, load_target, open_engine
from tscnc_deploy.engines.onnx.structure import recount
from tscnc_deploy.engines.target import write_target
from tscnc_deploy.models import build
from tscnc_deploy.pipeline.gates import build_gates
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.file import load_recipe, to_toml
from tscnc_deploy.record import SCHEMA, BuildRecord, ModelFacts, ThreatModel
from tscnc_deploy.report.card import render_card
from tscnc_deploy.report.html import render_report
from tscnc_deploy.robustness import accuracy, compare
from tscnc_deploy.tscnc import conditions
from tscnc_deploy.tscnc.layers import prunable_weights

# The fewest images of which a check tells that answers give a score.
SHAPE, COUNT = (1, 8, 8), 48
CLASSES = tuple("0123456789")
ENGINES = ("onnx-cpu", "sparse-cpu")
SETTINGS = (
    *("name=hostile", "model.width=0.125", "threat.epsilon=0.05", "verify.evidence_images=48"),
    *('verify.attacks=["fgsm"]', 'verify.engine_attacks=["fgsm"]'),
    *("gates.clean=0", "gates.robust=0", "gates.pruning_loss=none", "gates.engine_loss=0.5"),
)


def write_bundle(folder: Path) -> Path:
    """Untrained: the evidence says of each image what the network says, and its examples are the images."""
    folder.mkdir(parents=True)
    model = _model()
    weights = torch.cat([weight.detach().view(-1) for weight in prunable_weights(model).values()])
    # The share that a recipe asks for is met exactly.
    sparsity = float((weights == 0).sum()) / len(weights)
    recipe = load_recipe("digits", (*SETTINGS, f"prune.sparsity={sparsity!r}"))
    (folder / "recipe.toml").write_text(to_toml(recipe))
    first, second = (folder / "engines" / name for name in ENGINES)
    export_engine(model, load_target("onnx-cpu"), first, input_shape=SHAPE)
    (first / "model.dense.onnx").rename(folder / "twin.onnx")
    shutil.copytree(first, second)
    write_target(load_target("sparse-cpu"), second / "target.json")
    images = torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(1)).numpy()
    labels = open_engine(first).logits(images).argmax(1)
    contents = _contents(model)
    record = _record(contents, recipe, folder, model)
    (folder / "report.html").write_text(render_report(record, drawings=False))
    (folder / "README.md").write_text(render_card(record))
    Evidence(
        images=images,
        labels=labels,
        adversarial=dict.fromkeys(("twin", *ENGINES), images),
        outcomes={f"{name}.{attack}": labels >= 0 for name in ("twin", *ENGINES) for attack in _attacks(name)},
        record=record,
    ).write(folder)
    seal(folder, contents)
    return folder


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda manifest: None) -> None:
    """Lists what is there now, whatever it is, so that digests agree and the readers behind them are reached."""
    manifest = json.loads((folder / "manifest.json").read_text())
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    manifest["files"] = {path.relative_to(folder).as_posix(): _entry(path) for path in paths}
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _model() -> Any:
    model = build("resnet18", classes=10, input_shape=SHAPE, mean=(0.3,), std=(0.4,), width=0.125).eval()
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight[weight.abs() < weight.abs().median()] = 0
            weight.view(-1)[::2] = 0
    return model


def _contents(model: Any) -> Contents:
    weights = prunable_weights(model).values()
    total, nonzero = sum(w.numel() for w in weights), sum(int(w.count_nonzero()) for w in weights)
    return Contents(
        name="hostile",
        model=ModelFacts(
            arch="resnet18",
            parameters=sum(p.numel() for p in model.parameters()),
            prunable=total,
            nonzero=nonzero,
            sparsity=1 - nonzero / total,
            input_shape=SHAPE,
            classes=CLASSES,
        ),
        threat=ThreatModel(epsilon=0.05),
        engines={
            "onnx-cpu": EngineEntry(folder="engines/onnx-cpu", kind="onnxruntime", precision="fp32", attacked=True),
            "sparse-cpu": EngineEntry(folder="engines/sparse-cpu", kind="sparse-cpu", precision="fp32", attacked=True),
        },
        passed=True,
    )


def _attacks(name: str) -> tuple[str, ...]:
    return ("clean", "fgsm") if name == "twin" else ("clean", "replay", "fgsm")


def _record(contents: Contents, recipe: Recipe, folder: Path, model: Any) -> BuildRecord:
    """Every figure follows from the files and from outcomes that are all right."""
    share = accuracy(COUNT, COUNT).to_json()
    every = torch.ones(COUNT, dtype=torch.bool)
    parity = {"max_abs_diff": 0.0, "flips_clean": [], "flips_adversarial": []}
    evaluations = {
        name: {
            **{"clean": share, "robust": share, "norm": "Linf", "epsilon": 0.05},
            "attacks": dict.fromkeys(_attacks(name)[1:], share),
        }
        for name in ("twin", *ENGINES)
    }
    for name in ENGINES:
        evaluations[name] |= {
            **{"kind": contents.engines[name].kind, "precision": "fp32", "flips": 0, "max_abs_diff": 0.0},
            "bytes": (folder / "engines" / name / "model.onnx").stat().st_size,
            "parity": parity | {"tolerance": 1e-3, "smallest_tolerance": 0.0, "passed": True},
            "comparison": compare(every, every).to_json(),
        }
    twin, engines = evaluations["twin"], {name: evaluations[name] for name in ENGINES}
    layers = [layer.to_json() for layer in conditions(model)]
    structure = recount(folder / "engines" / ENGINES[0] / "model.onnx").to_json()
    gates = build_gates(recipe, dict.fromkeys(ENGINES, structure), {"twin": twin}, engines, layers)
    document = {
        "schema": SCHEMA,
        "name": contents.name,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "model": contents.model.model_dump(mode="json"),
        "threat": contents.threat.model_dump(mode="json"),
        "evaluations": {"twin": twin, "engines": engines},
        "layers": layers,
        "gates": [gate.to_json() for gate in gates],
        "passed": all(gate.passed for gate in gates),
    }
    return BuildRecord.from_json(document)
