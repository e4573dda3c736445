"""Small bundles with an engine that opens and runs in a millisecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.bundle.folders import contents, evidence, write_files
from tscnc_deploy.bundle import seal
from tscnc_deploy.bundle.evidence import Evidence
from tscnc_deploy.engines.target import Target, write_target
from tscnc_deploy.record import SCHEMA, BuildRecord

CLASSES = ("zero", "one", "two")
SHAPE = (1, 8, 8)
# logits[k] = sum of the pixels of row k
WEIGHTS = np.zeros((64, 3), np.float32)
for _k in range(3):
    WEIGHTS[8 * _k : 8 * _k + 8, _k] = 1


def expected(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 64) @ WEIGHTS


def write_engine(folder: Path, *, name: str = "onnx-cpu", batch_max: int = 16, weights: np.ndarray = WEIGHTS) -> None:
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_target(Target(name=name, batch_max=batch_max, tolerance=1e-3), folder / "target.json")


def record(*, passed: bool = True, milliseconds: dict[str, float] | None = None) -> BuildRecord:
    share = {"correct": 3, "total": 4, "accuracy": 0.75, "low": 0.2, "high": 0.99}
    attacked = {"clean": share, "robust": share, "attacks": {"pgd-20": share}, "norm": "Linf", "epsilon": 0.1}
    document = {
        "schema": SCHEMA,
        "name": "tiny",
        "model": contents().model.model_dump(mode="json"),
        "threat": {"norm": "Linf", "epsilon": 0.1},
        "evaluations": {"engines": {"onnx-cpu": attacked}},
        "gates": [{"name": "robust accuracy, lower end", "value": 0.2, "limit": 0.1, "passed": passed}],
        "passed": passed,
        "latency": {"engines": {name: {"median_ms": median} for name, median in (milliseconds or {}).items()}},
    }
    return BuildRecord.from_json(document)


def attacked_evidence() -> Evidence:
    """Four images of which the engine of `write_engine` gets one wrong, and of the others an attack breaks two."""
    rows = np.array([[0.5, 0.45, 0], [0.1, 0.9, 0], [0, 0.3, 0.35], [0.2, 0.4, 0]], np.float32)
    moved = np.array([[0.4, 0.55, 0], [0.2, 0.8, 0], [0, 0.4, 0.25], [0.1, 0.5, 0]], np.float32)
    images, adversarial = (np.zeros((4, *SHAPE), np.float32) for _ in range(2))
    images[:, 0, :3], adversarial[:, 0, :3] = rows[..., None], moved[..., None]
    right = {
        "clean": [True, True, True, False],
        "pgd-20": [False, True, True, False],
        "replay": [True, True, False, False],
    }
    return Evidence(
        images=images,
        labels=np.array([0, 1, 2, 0]),
        adversarial={"onnx-cpu": adversarial},
        outcomes={f"onnx-cpu.{attack}": np.array(of) for attack, of in right.items()},
        record=record(),
    )


def write_served(
    folder: Path,
    *,
    passed: bool = True,
    attacked: bool = True,
    proof: Evidence | None = None,
    milliseconds: dict[str, float] | None = None,
    **engine: object,
) -> Path:
    """A bundle whose engine onnx-cpu is the one of `write_engine`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_files(folder)
    replace(proof or evidence(), record=record(passed=passed, milliseconds=milliseconds)).write(folder)
    write_engine(folder / "engines" / "onnx-cpu", **engine)
    whole = contents("onnx-cpu", "onnx-cuda")
    entry = whole.engines["onnx-cpu"].model_copy(update={"attacked": attacked})
    engines = {"onnx-cpu": entry, "onnx-cuda": whole.engines["onnx-cuda"].model_copy(update={"attacked": False})}
    seal(folder, whole.model_copy(update={"passed": passed, "engines": engines}))
    return folder
