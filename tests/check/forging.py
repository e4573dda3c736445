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
from tscnc_deploy.engines.target import read_target
from tscnc_deploy.models import load_model, save_model
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
    def changed(evidence: Any) -> Any:
        record = json.loads(json.dumps(evidence.record))
        change(record)
        return replace(evidence, record=record)

    rewrite_evidence(folder, changed)
