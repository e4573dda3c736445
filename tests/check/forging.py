"""What somebody can do to a bundle who wants it to pass: change files, and seal it again so that digests match."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from onnx import TensorProto, numpy_helper

from tests.conftest import invoke
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import Contents, seal
from tscnc_deploy.bundle.writer import digests
from tscnc_deploy.engines import ExportAids, export_engine
from tscnc_deploy.engines.onnx.differentiable import open_twin
from tscnc_deploy.engines.onnx.file import read_onnx, write_onnx
from tscnc_deploy.engines.onnx.structure import count_parameters, full_structure_of
from tscnc_deploy.engines.target import load_target, read_target
from tscnc_deploy.models import build
from tscnc_deploy.names import DENSE, TWIN
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report.card import render_card
from tscnc_deploy.report.html import render_report
from tscnc_deploy.tscnc.layers import prunable_weights

Tensors = dict[str, torch.Tensor]
FAST = ("--attack", "twin-apgd-2", "--attack", "square-5", "--budget", "none", "--device", "cpu")


def check(*arguments: object, status: int | None = None) -> dict[str, Any]:
    result = invoke("check", *arguments, *FAST, "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == document["status"], result.stderr
    if status is not None:
        assert document["status"] == status, [f for f in document["results"] if f["outcome"] != "passed"]
    return document


def outcomes(document: dict[str, Any], *kinds: str) -> list[str]:
    return [result["name"] for result in document["results"] if result["outcome"] in (kinds or ("failed",))]


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda contents: None) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    contents = {key: value for key, value in manifest.items() if key not in ("files", "schema", "tscnc_deploy")}
    change(contents)
    rewrite_provenance(folder)
    seal(folder, Contents.model_validate(contents))


def rewrite_provenance(folder: Path) -> None:
    """Lets it be of the files as they are now; it is only as good as the signature."""
    path = folder / "provenance.json"
    if not path.exists():
        return
    statement = json.loads(path.read_text())
    found = {name: entry.sha256 for name, entry in digests(folder).items() if name not in ("manifest.json", path.name)}
    statement["subject"] = [{"name": name, "digest": {"sha256": digest}} for name, digest in found.items()]
    path.write_text(json.dumps(statement))


def edit_twin(path: Path, change: Callable[[Tensors], object]) -> None:
    """Lets somebody change the tensors of a twin's file in place, by the names that they have in the network."""
    model = read_onnx(path)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    tensors = {tensor.name: torch.tensor(numpy_helper.to_array(tensor)) for tensor in floats}
    change(tensors)
    for tensor in floats:
        tensor.CopyFrom(numpy_helper.from_array(tensors[tensor.name].numpy(), tensor.name))
    write_onnx(model, path)


def weights_in(tensors: Tensors) -> list[torch.Tensor]:
    """The weights of convolutions and linear layers, of a network or of a twin's file."""
    return [tensor for name, tensor in tensors.items() if name.endswith("weight") and tensor.ndim > 1]


def replace_network(folder: Path, change: Callable[[Tensors], object]) -> None:
    """Changes twin and engine alike, and seals: digests and parity hold."""
    edit_twin(folder / TWIN, change)
    write_engine(folder, folder / TWIN)
    reseal(folder)


def change_engine(folder: Path, change: Callable[[Tensors], object], name: str = "onnx-cpu") -> None:
    """Exchanges the engine alone: it is made of a changed twin that nobody gets to see."""
    with tempfile.TemporaryDirectory() as other:
        dense = Path(shutil.copy(folder / TWIN, other))
        edit_twin(dense, change)
        write_engine(folder, dense, name)


def write_engine(folder: Path, dense: Path, name: str = "onnx-cpu") -> None:
    """Makes an engine of another twin's file."""
    engine = folder / "engines" / name
    target = read_target(engine / "target.json") if engine.exists() else load_target(name)
    twin = open_twin(dense)
    export_engine(twin, target, engine, input_shape=twin.input_shape, aids=ExportAids(dense=dense))
    (engine / DENSE).unlink()


def add_sparse_cpu(folder: Path, change: Callable[[Tensors], object] = lambda tensors: None) -> None:
    """Adds the engine sparse-cpu with the evidence of onnx-cpu."""
    evidence = open_bundle(folder).evidence
    change_engine(folder, change, "sparse-cpu")

    def doubled(evidence: Any) -> Any:
        outcomes = {key.replace("onnx-cpu.", "sparse-cpu."): value for key, value in evidence.outcomes.items()}
        adversarial = evidence.adversarial | {"sparse-cpu": evidence.adversarial["onnx-cpu"]}
        return replace(evidence, adversarial=adversarial, outcomes=evidence.outcomes | outcomes)

    def listed(contents: dict[str, Any]) -> None:
        entry = contents["engines"]["onnx-cpu"]
        contents["engines"]["sparse-cpu"] = entry | {"folder": "engines/sparse-cpu", "kind": "sparse-cpu"}

    def told(record: dict[str, Any]) -> None:
        engines = record["evaluations"]["engines"]
        length = (folder / "engines" / "sparse-cpu" / "model.onnx").stat().st_size
        engines["sparse-cpu"] = engines["onnx-cpu"] | {"kind": "sparse-cpu", "bytes": length}
        gates = [gate for gate in record["gates"] if gate["name"].startswith("onnx-cpu")]
        record["gates"] += [gate | {"name": gate["name"].replace("onnx-cpu", "sparse-cpu")} for gate in gates]

    doubled(evidence).write(folder)
    reseal(folder, listed)
    rewrite_record(folder, told)


def fill_zeros(tensors: Tensors) -> None:
    """Makes it dense by weights too small to change an answer."""
    for weight in weights_in(tensors):
        weight[weight == 0] = 1e-8


def scramble(tensors: Tensors) -> None:
    """Another network of the same shape and sparsity: weights change places among those that are not zero."""
    generator = torch.Generator().manual_seed(0)
    for weight in weights_in(tensors):
        kept = weight != 0
        values = weight[kept]
        weight[kept] = values[torch.randperm(len(values), generator=generator)]


def rewrite_evidence(folder: Path, change: Callable[[Any], Any]) -> None:
    change(open_bundle(folder).evidence).write(folder)
    reseal(folder)


def rewrite_record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the record, and renders report and model card from it again."""

    def changed(evidence: Any) -> Any:
        record = evidence.record.to_json()
        change(record)
        return replace(evidence, record=BuildRecord.from_json(record))

    evidence = changed(open_bundle(folder).evidence)
    (folder / "report.html").write_text(render_report(evidence.record, drawings=False))
    (folder / "README.md").write_text(render_card(evidence.record))
    evidence.write(folder)
    reseal(folder)


def masking_network(images: torch.Tensor, labels: torch.Tensor, zeros: float) -> torch.nn.Module:
    """A network that only sees which of a few values each pixel exceeds, so that its gradient is zero everywhere.

    Its first layer compares pixels with thresholds, steeply enough for ReLU6 to be flat on both sides; the others are
    trained on what comes out, a share of their weights being zero. An attack without gradients finds the thresholds.
    """
    config = {"classes": 10, "input_shape": (1, 8, 8), "mean": (0.0,), "std": (1.0,), "width": 0.125}
    model = build("mobilenetv2", **config)
    convolution, norm, _ = model.network.features[0]
    # Pixels are multiples of 1/16. A move of 0.05 crosses the first two from the levels on both sides, black included,
    # which makes the network fragile; the others it crosses only from above.
    thresholds = torch.tensor([0.56, 1.56, 4.84, 6.84, 8.84, 10.84, 12.84, 14.84]) / 16
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[:, 0, 1, 1] = 1
        norm.weight.fill_(1e4)
        norm.running_mean.copy_(thresholds)
    fixed = {*convolution.parameters(), *norm.parameters()}
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each not in fixed], lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    weights = [weight for weight in prunable_weights(model).values() if weight not in fixed]
    masks = [torch.rand(weight.shape, generator=generator) > zeros for weight in weights]
    for _ in range(8):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            model.train()
            model.network.features[0].eval()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, mask in zip(weights, masks, strict=True):
                    weight.mul_(mask)
    return model.eval()


def exchange_network(folder: Path) -> None:
    """Makes an engine of a twin that was exchanged, and makes all that the bundle says of both true."""
    write_engine(folder, folder / TWIN)
    twin = read_onnx(folder / TWIN)
    counted = full_structure_of(twin)
    facts = {
        "parameters": count_parameters(twin.graph),
        **{key: counted.to_json()[key] for key in ("prunable", "nonzero", "sparsity")},
        **{key: counted.to_json()[key] for key in ("multiply_adds", "multiply_adds_left", "multiply_add_sparsity")},
    }
    reseal(folder, lambda contents: contents["model"].update(facts))

    def shown(evidence: Any) -> Any:
        right = open_bundle(folder).engine("onnx-cpu").logits(evidence.images).argmax(1) == evidence.labels
        return replace(
            evidence,
            adversarial=dict.fromkeys(evidence.adversarial, evidence.images),
            outcomes=dict.fromkeys(evidence.outcomes, right),
        )

    rewrite_evidence(folder, shown)
