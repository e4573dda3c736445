"""What somebody can do to a bundle who wants it to pass: change files, and seal it again so that digests match."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.conftest import invoke
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import Contents, seal
from tscnc_deploy.bundle.writer import digests
from tscnc_deploy.engines import export_engine
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.structure import full_structure_of
from tscnc_deploy.engines.target import load_target, read_target
from tscnc_deploy.models import build, load_model, save_model
from tscnc_deploy.record import BuildRecord
from tscnc_deploy.report.card import render_card
from tscnc_deploy.report.html import render_report
from tscnc_deploy.tscnc.layers import prunable_weights

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


def replace_network(folder: Path, change: Callable[[torch.nn.Module], None]) -> None:
    """Exchanges twin and engine for a changed network, and seals: digests and parity hold."""
    model = load_model(folder / "twin.safetensors")
    change(model)
    save_model(model, folder / "twin.safetensors")
    export_network(folder, model)
    reseal(folder)


def export_network(folder: Path, model: torch.nn.Module) -> None:
    """Exchanges the engine alone."""
    engine = folder / "engines" / "onnx-cpu"
    export_engine(model, read_target(engine / "target.json"), engine, input_shape=model.config.input_shape)


def add_sparse_cpu(folder: Path, change: Callable[[torch.nn.Module], object] = lambda model: None) -> None:
    """Adds the engine sparse-cpu with the evidence of onnx-cpu."""
    evidence = open_bundle(folder).evidence
    model = load_model(folder / "twin.safetensors")
    change(model)
    export_engine(
        model, load_target("sparse-cpu"), folder / "engines" / "sparse-cpu", input_shape=model.config.input_shape
    )

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


def fill_zeros(model: torch.nn.Module) -> None:
    """Makes it dense by weights too small to change an answer."""
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight[weight == 0] = 1e-8


def scramble(model: torch.nn.Module) -> None:
    """Another network of the same shape and sparsity: weights change places among those that are not zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in prunable_weights(model).values():
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


def exchange_network(folder: Path, model: torch.nn.Module) -> None:
    """Puts another network in the place of twin and engine, and makes all that the bundle says of them true of it."""
    save_model(model, folder / "twin.safetensors")
    export_network(folder, model)
    counted = full_structure_of(read_onnx(folder / "engines" / "onnx-cpu" / "model.onnx"))
    facts = {
        "arch": model.config.arch,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
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
