from __future__ import annotations

import json

from click.testing import CliRunner

from tscnc_deploy.cli import main


def test_recipes_are_listed_for_people_and_for_programs():
    lines = CliRunner().invoke(main, ["recipes"]).stdout.splitlines()
    assert lines[0].split() == ["recipe", "description"]
    assert any(
        line.split(maxsplit=1) == ["cifar10", "CIFAR-10, ResNet-18, 95% zeros, Linf 8/255 (GPU)"] for line in lines
    )
    document = json.loads(CliRunner().invoke(main, ["recipes", "--json"]).stdout)
    listed = {recipe["name"]: recipe for recipe in document["recipes"]}
    assert listed["cifar10"]["file"].endswith("cifar10.toml")
    assert len(listed) == len(lines) - 1


def test_targets_are_listed_for_people_and_for_programs():
    lines = CliRunner().invoke(main, ["targets"]).stdout.splitlines()
    assert lines[0].split() == ["target", "engine", "precision", "batch", "tolerance", "description"]
    assert any(line.startswith("onnx-cpu") for line in lines)
    document = json.loads(CliRunner().invoke(main, ["targets", "--json"]).stdout)
    listed = {target["name"]: target for target in document["targets"]}
    assert listed["onnx-cpu"]["provider"] == "CPUExecutionProvider"
    assert len(listed) == len(lines) - 1
