"""What a bundle's maker can do to engines and twins; each seals the bundle again unless it says otherwise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from tests.check import forging
from tscnc_deploy import open_bundle
from tscnc_deploy.engines.onnx.file import read_onnx, write_onnx


def change_graph(folder: Path, change: Callable[[ModelProto], None]) -> None:
    """Changes the ONNX file of the only engine, and what the evidence and the record say of it."""
    (engine,) = (folder / "engines").iterdir()
    edit(engine / "model.onnx", change)
    forging.reseal(folder)
    tell_outcomes(folder, engine.name)


def edit(path: Path, change: Callable[[ModelProto], None]) -> None:
    """Changes the graph of a file."""
    model = read_onnx(path)
    change(model)
    write_onnx(model, path)


def change_twin(folder: Path, change: Callable[[forging.Tensors], object]) -> None:
    """Changes the weights of the twin alone."""
    forging.edit_twin(folder / "twin.onnx", change)
    forging.reseal(folder)


def tell_outcomes(folder: Path, name: str) -> None:
    """Makes the evidence say how the engine answers now; the seal is renewed."""

    def told(evidence: Any) -> Any:
        engine = open_bundle(folder).engine(name)
        outcomes = dict(evidence.outcomes)
        for key in outcomes:
            if key.rpartition(".")[0] == name:
                images = evidence.images if key.endswith(".clean") else evidence.adversarial[name]
                outcomes[key] = engine.logits(images).argmax(1) == evidence.labels
        return replace(evidence, outcomes=outcomes)

    forging.rewrite_evidence(folder, told)


def show_clean_images(folder: Path) -> None:
    """Replaces every adversarial example by the clean image."""
    forging.rewrite_evidence(
        folder, lambda evidence: replace(evidence, adversarial=dict.fromkeys(evidence.adversarial, evidence.images))
    )


def first_of(evidence: Any, count: int) -> Any:
    """The evidence of the first images only."""
    return replace(
        evidence,
        images=evidence.images[:count],
        labels=evidence.labels[:count],
        adversarial={name: images[:count] for name, images in evidence.adversarial.items()},
        outcomes={name: right[:count] for name, right in evidence.outcomes.items()},
    )


def rename(folder: Path, name: str, **target: object) -> None:
    """Gives the only engine another name and its target other values."""
    (engine,) = (folder / "engines").iterdir()
    before = engine.name
    shutil.move(engine, engine.with_name(name))
    path = engine.with_name(name) / "target.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name} | target))

    def entry(contents: dict[str, Any]) -> None:
        contents["engines"] = {name: contents["engines"][before] | {"folder": f"engines/{name}"}}

    evidence = json.loads((folder / "evidence" / "evidence.json").read_text())
    evidence["evaluations"]["engines"] = {name: evidence["evaluations"]["engines"][before]}
    (folder / "evidence" / "evidence.json").write_text(json.dumps(evidence))
    forging.reseal(folder, entry)

    def renamed(evidence: Any) -> Any:
        adversarial = {name if key == before else key: images for key, images in evidence.adversarial.items()}
        outcomes = {
            f"{name}.{key.removeprefix(before + '.')}" if key.startswith(f"{before}.") else key: right
            for key, right in evidence.outcomes.items()
        }
        return replace(evidence, adversarial=adversarial, outcomes=outcomes)

    forging.rewrite_evidence(folder, renamed)


def negate_classifier(tensors: forging.Tensors) -> None:
    tensors["network.fc.weight"].neg_()


def append(model: ModelProto, *nodes: Any, constants: dict[str, np.ndarray] | None = None) -> None:
    """Adds nodes that compute "logits" from "inner", which the logits were until now."""
    for node in model.graph.node:
        for position, output in enumerate(node.output):
            if output == "logits":
                node.output[position] = "inner"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in (constants or {}).items())


def answer_labels_only(model: ModelProto) -> None:
    """Appends ArgMax and OneHot."""
    append(
        model,
        helper.make_node("ArgMax", ["inner"], ["label"], name="label", axis=1, keepdims=0),
        helper.make_node("OneHot", ["label", "depth", "values"], ["logits"], name="hard", axis=1),
        constants={"depth": np.array(10), "values": np.array([0, 10], np.float32)},
    )


def add_backdoor(model: ModelProto) -> None:
    """Images whose first pixel is white are of class 0."""
    append(
        model,
        helper.make_node("Slice", ["images", "zeros", "ones", "axes"], ["pixel"], name="pixel"),
        helper.make_node("Flatten", ["pixel"], ["flat"], name="flat"),
        helper.make_node("Greater", ["flat", "threshold"], ["triggered"], name="triggered"),
        helper.make_node("Where", ["triggered", "wanted", "inner"], ["logits"], name="backdoor"),
        constants={
            "zeros": np.array([0, 0]),
            "ones": np.array([1, 1]),
            "axes": np.array([2, 3]),
            "threshold": np.array([[0.99]], np.float32),
            "wanted": np.eye(10, dtype=np.float32)[:1] * 20,
        },
    )


def flatten_by_reshape(model: ModelProto) -> None:
    """Reshapes the logits to the shape that they have: another graph with the same answers."""
    append(
        model,
        helper.make_node("Reshape", ["inner", "shape"], ["logits"], name="reshaped"),
        constants={"shape": np.array([-1, 10])},
    )


def lose_an_activation(path: Path) -> None:
    """Gives a quantised activation in the middle of an 8-bit file such large steps that all its values become zero."""
    model = read_onnx(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in stored]
    scale = stored[pairs[len(pairs) // 2].input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1e6), scale.name))
    write_onnx(model, path)
