"""Stage 7: writes the bundle with its evidence: gates, report, model card, manifest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.digests import digest_of_bytes
from tscnc_deploy.names import DENSE, TWIN
from tscnc_deploy.pipeline.gates import build_gates, holds_the_twins_weights
from tscnc_deploy.pipeline.stages.base import Context, Stage, read_json
from tscnc_deploy.pipeline.stages.provenance import versions, write_origin
from tscnc_deploy.recipe import Data, Recipe
from tscnc_deploy.recipe.file import to_toml
from tscnc_deploy.resources import folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tscnc_deploy.bundle.evidence import Evidence
    from tscnc_deploy.record import BuildRecord

_COUNTED = ("prunable", "nonzero", "sparsity", "multiply_adds", "multiply_adds_left", "multiply_add_sparsity")


class Package(Stage):
    """Writes the bundle, whether or not the gates passed; it records which, and only passed bundles are served."""

    name = "package"
    reads = {  # noqa: RUF012
        "train": ("history.json", "classes.json"),
        "prune": ("history.json",),
        "finetune": ("layers.json", "history.json"),
        "verify": ("evaluation.json", "examples.safetensors", "outcomes.safetensors"),
        "export": (TWIN, "engines", "structure.json", "sizes.json"),
        "reverify": ("evaluation.json", "examples.safetensors", "outcomes.safetensors", "latency.json"),
    }

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        templates = b"".join(path.read_bytes() for path in sorted(folder("export").glob("*.j2")))
        # Where the code of its network is does not matter; what it is, the fingerprint says.
        written = _for_shipping(recipe).model_dump(mode="json", exclude={"data": {"root", "download"}})
        return {"recipe": written, "templates": digest_of_bytes(templates), "environment": versions()}

    def run(self, context: Context) -> None:
        from tscnc_deploy import bundle
        from tscnc_deploy.bundle.withheld import WithheldEvidence
        from tscnc_deploy.engines.onnx.file import read_onnx
        from tscnc_deploy.engines.onnx.signature import signature_of
        from tscnc_deploy.engines.onnx.structure import count_parameters, full_structure_of
        from tscnc_deploy.record import SCHEMA, BuildRecord
        from tscnc_deploy.report.card import render_card
        from tscnc_deploy.report.html import render_report

        recipe, inputs, out = context.recipe, context.inputs, context.out
        shipped, environment = _for_shipping(recipe), _environment(context.device)
        twin = read_onnx(inputs["export"] / TWIN)
        counted = full_structure_of(twin).to_json()
        structure = read_json(inputs["export"] / "structure.json")
        engines = read_json(inputs["reverify"] / "evaluation.json")
        verified = read_json(inputs["verify"] / "evaluation.json")
        layers = read_json(inputs["finetune"] / "layers.json")
        latency = inputs["reverify"] / "latency.json"
        model = {
            "arch": parse_arch(recipe.model.arch).public,
            "parameters": count_parameters(twin.graph),
            **{key: counted[key] for key in _COUNTED},
            "input_shape": list(signature_of(twin, inputs["export"] / TWIN).input_shape),
            "classes": read_json(inputs["train"] / "classes.json"),
        }
        gates = [gate.to_json() for gate in build_gates(recipe, structure, verified, engines, layers)]
        record = BuildRecord.from_json(
            {
                "schema": SCHEMA,
                "name": recipe.name,
                "recipe": shipped.model_dump(mode="json", by_alias=True),
                "model": model,
                "threat": recipe.threat.model_dump(),
                "evaluations": {
                    "dense": verified["dense"],
                    "twin": verified["twin"],
                    "engines": {name: engine | _layers(name, engine, structure) for name, engine in engines.items()},
                },
                "pruning": verified["comparison"],
                "gates": gates,
                "layers": _with_multiply_adds(layers, counted),
                "latency": read_json(latency) if latency.exists() else None,
                "history": [
                    row for name in ("train", "prune", "finetune") for row in read_json(inputs[name] / "history.json")
                ],
                "sizes": [
                    {"name": name, **size}
                    for name, size in read_json(inputs["export"] / "sizes.json")[_sized(structure)].items()
                ],
                "environment": environment,
                "seconds": {name: round(times.seconds, 3) for name, times in context.earlier.items()},
                "passed": all(gate["passed"] for gate in gates),
            }
        )
        (out / "recipe.toml").write_text(to_toml(shipped), encoding="utf-8")
        shutil.copyfile(inputs["export"] / TWIN, out / TWIN)
        # The dense file of every engine is its twin's.
        shutil.copytree(inputs["export"] / "engines", out / "engines", ignore=shutil.ignore_patterns(DENSE))
        evidence, index = _evidence(context, record)
        (evidence if recipe.verify.ship_images else WithheldEvidence.of(evidence, index)).write(out)
        (out / "report.html").write_text(render_report(record), encoding="utf-8")
        (out / "README.md").write_text(render_card(record), encoding="utf-8")
        write_origin(context, shipped, environment)
        entries = {
            name: {
                "folder": f"engines/{name}",
                "kind": engine["kind"],
                "precision": engine["precision"],
                "attacked": "unavailable" not in engine,
                "unavailable": engine.get("unavailable"),
                "build": _build_entry(engine["build"]) if "build" in engine else None,
            }
            for name, engine in engines.items()
        }
        bundle.seal(
            out,
            bundle.Contents.model_validate(
                {
                    "name": recipe.name,
                    "model": model,
                    "threat": recipe.threat.model_dump(),
                    "engines": entries,
                    "passed": record.passed,
                }
            ),
        )


def _sized(structure: dict[str, Any]) -> str:
    """The target whose file's size is shown: the first that contains the twin's weights, or the first of all."""
    return next(
        (name for name, counted in structure.items() if holds_the_twins_weights(counted)), next(iter(structure))
    )


def _with_multiply_adds(layers: list[dict[str, Any]], counted: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers of the twin, with the MACs of their weights."""
    found = {layer["name"]: layer for layer in counted["layers"]}
    keys = ("multiply_adds", "multiply_adds_left")
    return [layer | {key: found.get(layer["name"], {}).get(key) for key in keys} for layer in layers]


def _layers(name: str, engine: dict[str, Any], structure: dict[str, Any]) -> dict[str, Any]:
    """The report's entries for the layers of an engine: how TensorRT computes them, and what 2:4 cost them."""
    return {
        "layers": engine.get("build", {}).get("layers", []),
        "completion": structure[name].get("completion", []),
    }


def _build_entry(build: dict[str, Any]) -> dict[str, Any]:
    """The manifest's entry on how an engine was built, from `engines.tensorrt.facts.Facts`."""
    told = {key: build[key] for key in ("library", "version", "made_for", "hardware", "gpu", "workspace_bytes")}
    layers = build["layers"]
    return told | {
        "timing_cache": build["timing_cache"],
        "precisions": {layer["name"]: layer["precision"] for layer in layers},
        "fits_2_4": [layer["name"] for layer in layers if layer["fits_2_4"]],
        "sparse_kernels": [layer["name"] for layer in layers if layer["sparse_kernel"]],
    }


def _evidence(context: Context, record: BuildRecord) -> tuple[Evidence, NDArray[np.int64]]:
    """A class-balanced subset of the evaluated images with all adversarial examples and outcomes, and its indices."""
    import torch
    from safetensors.torch import load_file

    from tscnc_deploy.bundle.evidence import Evidence
    from tscnc_deploy.data.sampling import stratified
    from tscnc_deploy.seeds import derive_generator

    examples = load_file(context.inputs["verify"] / "examples.safetensors")
    adversarial = {"twin": examples["twin"]} | load_file(context.inputs["reverify"] / "examples.safetensors")
    outcomes = load_file(context.inputs["verify"] / "outcomes.safetensors")
    outcomes |= load_file(context.inputs["reverify"] / "outcomes.safetensors")
    labels = examples["labels"]
    index = torch.arange(len(labels))
    if context.recipe.verify.evidence_images < len(labels):
        generator = derive_generator(context.recipe.seed, "evidence")
        index = stratified(labels, context.recipe.verify.evidence_images, generator).sort().values
    evidence = Evidence(
        images=examples["images"][index].numpy(),
        labels=labels[index].numpy(),
        adversarial={name: images[index].numpy() for name, images in adversarial.items()},
        outcomes={name: mask[index].bool().numpy() for name, mask in outcomes.items()},
        record=record,
    )
    return evidence, examples["index"][index].numpy()


def _for_shipping(recipe: Recipe) -> Recipe:
    """The recipe without file paths of this machine."""
    data = recipe.data.model_copy(update={"root": Data().root, "download": Data().download})
    checkpoint = recipe.model.checkpoint and Path(recipe.model.checkpoint).name
    arch = parse_arch(recipe.model.arch).public
    model = recipe.model.model_copy(update={"arch": arch, "checkpoint": checkpoint})
    return recipe.model_copy(update={"data": data, "model": model})


def _environment(device: str) -> dict[str, str]:
    from tscnc_deploy.devices import choose_device, describe_device

    return versions() | {"device": describe_device(choose_device(device))}
