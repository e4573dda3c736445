"""Makes six bundles that must not pass from one that does: python -m tests.container.damage BUNDLE FOLDER."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from tests.check import forging
from tscnc_deploy import open_bundle
from tscnc_deploy.data import load
from tscnc_deploy.models import build
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.tscnc.layers import prunable_weights


def flipped_byte(folder: Path) -> None:
    path = folder / "engines" / "onnx-cpu" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swapped_engine(folder: Path) -> None:
    forging.change_engine(folder, forging.scramble)
    forging.reseal(folder)


def removed_evidence(folder: Path) -> None:
    (folder / "evidence" / "evidence.safetensors").unlink()


def edited_gate(folder: Path) -> None:
    path = folder / "recipe.toml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join("robust = 0.1\n" if line.startswith("robust = ") else line for line in lines))
    forging.reseal(folder)


def dense_model(folder: Path) -> None:
    forging.replace_network(folder, forging.fill_zeros)


def not_robust(folder: Path) -> None:
    """As accurate on clean images, and with evidence that shows no attack."""
    recipe = open_bundle(folder).load_recipe()
    forging.replace_network(folder, lambda tensors: _forget_robustness(recipe, tensors))

    def whitewash(evidence: Any) -> Any:
        right = open_bundle(folder).engine("onnx-cpu").logits(evidence.images).argmax(1) == evidence.labels
        return replace(
            evidence,
            adversarial=dict.fromkeys(evidence.adversarial, evidence.images),
            outcomes=dict.fromkeys(evidence.outcomes, right),
        )

    forging.rewrite_evidence(folder, whitewash)


def _forget_robustness(recipe: Recipe, tensors: forging.Tensors) -> None:
    """Trains on clean images only, the zeros kept."""
    data = load(recipe.data)
    mean, std = (tensors[f"normalize.{name}"].flatten().tolist() for name in ("mean", "std"))
    shape, width = data.input_shape, recipe.model.width
    model = build(recipe.model.arch, classes=len(data.classes), input_shape=shape, mean=mean, std=std, width=width)
    model.load_state_dict(tensors, strict=False)
    weights = list(prunable_weights(model).values())
    masks = [weight != 0 for weight in weights]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        images, labels = data.train.batch(torch.randint(len(data.train), (64,), generator=generator))
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight *= mask
    trained = model.state_dict()
    tensors.update({name: trained[name] for name in tensors if name in trained})


DAMAGES = (flipped_byte, swapped_engine, removed_evidence, edited_gate, dense_model, not_robust)


def main() -> None:
    bundle, out = Path(sys.argv[1]), Path(sys.argv[2])
    for damage in DAMAGES:
        folder = Path(shutil.copytree(bundle, out / damage.__name__))
        damage(folder)


if __name__ == "__main__":
    main()
