"""A network from the user's own file, from build to check, and nothing of it in the bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle

pytestmark = pytest.mark.slow

NET = """
from torch import nn


def make(classes, input_shape, width=4):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1), nn.BatchNorm2d(width), nn.SiLU(), nn.Dropout(0.1),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, groups=2), nn.GELU(), nn.Flatten(),
        nn.Linear(32 * width, classes),
    )
"""
# Attention, a class token, positions that a layer computes, two layers that share a weight, a weight under a norm.
TOKENS = """
import torch
from torch import nn


class Tokens(nn.Module):
    def __init__(self, classes, input_shape, dim):
        super().__init__()
        self.patches = nn.Conv2d(input_shape[0], dim, 2, 2)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        tokens = input_shape[1] // 2 * (input_shape[2] // 2) + 1
        self.index = nn.Parameter(torch.randn(tokens, 4))
        self.positions = nn.Linear(4, dim)
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.again = nn.Linear(dim, dim, bias=False)
        self.more = nn.Linear(dim, dim, bias=False)
        self.more.weight = self.again.weight
        self.head = torch.nn.utils.parametrizations.weight_norm(nn.Linear(dim, classes))

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.positions(self.index)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(x)
        x = x + self.more(self.again(x).relu())
        return self.head(x[:, 0])


def make(classes, input_shape, dim=16):
    return Tokens(classes, input_shape, dim)
"""
FAST = ("--attack", "twin-apgd-2", "--attack", "square-5", "--budget", "none")


def options(net: Path, out: Path, **changes: object) -> list[str]:
    given = tiny_options(model__width=1.0, finetune__epochs=1, **changes)
    return [*given, "--arch", f"{net}:make", "--set", "model.args.width=8", "--out", str(out)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    net = folder / "secret_place" / "net.py"
    net.parent.mkdir()
    net.write_text(NET)
    result = invoke("build", *options(net, folder / "run"), "--json")
    assert result.exit_code == 0, result.stderr
    return folder / "run" / "bundle", net


def test_nothing_in_the_bundle_says_where_the_code_was_or_what_it_is(built):
    bundle, _ = built
    texts = [path.read_bytes() for path in bundle.rglob("*") if path.is_file()]
    assert not any(b"secret_place" in text or b"nn.Sequential" in text for text in texts)
    assert open_bundle(bundle).manifest.model.arch == "net.py:make"


def test_it_is_checked_and_verified_where_the_code_is_not(built, tmp_path):
    bundle, _ = built
    program = (
        "import sys; from tscnc_deploy.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'timm', 'torchvision', 'net'} & set(sys.modules)), file=sys.stderr)"
    )
    for command in (("check", *FAST), ("verify", "--attack", "pgd-2")):
        name, *rest = command
        done = subprocess.run(
            [sys.executable, "-c", program, name, str(bundle), *rest, "--json"],
            cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip().splitlines()[-1] == "[]"


def test_a_changed_file_trains_anew_and_a_moved_one_does_not(built, tmp_path):
    bundle, _ = built
    moved = tmp_path / "net.py"
    moved.write_text(NET)

    def planned() -> list[bool]:
        plan = invoke("build", *options(moved, bundle.parent), "--plan", "--json")
        return [stage["cached"] for stage in json.loads(plan.stdout)["stages"]]

    assert planned() == [True] * 8
    moved.write_text(NET.replace("GELU", "SiLU"))
    assert planned() == [False] * 8


def test_it_is_built_again_only_with_the_code(built, tmp_path):
    bundle, net = built
    again = ("check", bundle, *FAST, "--reproduce", tmp_path / "again", "--json")
    refused = invoke(*again)
    assert refused.exit_code == 2
    assert "its network is net.py:make, its maker's own code, which no bundle carries; give your copy" in refused.stderr
    other = tmp_path / "net.py"
    other.write_text(NET.replace("GELU", "SiLU"))
    refused = invoke(*again, "--code", other)
    assert refused.exit_code == 2
    assert "it is another version of the code" in refused.stderr
    assert "not os.path:make" in invoke(*again, "--code", "os.path").stderr
    document = json.loads(invoke(*again, "--code", net).stdout)
    results = {result["name"]: result["outcome"] for result in document["results"]}
    assert {
        name: outcome for name, outcome in results.items() if name.startswith("reproduced") and outcome != "passed"
    } == {}
    assert "reproduced: weights" in results


def test_code_alone_is_a_mistake(built):
    bundle, net = built
    result = invoke("check", bundle, "--code", net)
    assert result.exit_code == 2
    assert "--code requires --reproduce" in result.stderr


def test_a_bundle_of_a_built_in_network_needs_no_code(tiny_build, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_build.bundle, bundle)
    result = invoke("check", bundle, *FAST, "--reproduce", tmp_path / "again", "--code", "net.py")
    assert result.exit_code == 2
    assert "the network resnet18 needs no code of yours; leave --code out" in result.stderr


def test_attention_shared_weights_and_weight_norm_are_pruned_counted_and_compared(tmp_path):
    net, run = tmp_path / "tok.py", tmp_path / "run"
    net.write_text(TOKENS)
    given = tiny_options(model__width=1.0, export__targets='["onnx-cpu", "onnx-int8", "sparse-cpu"]')
    result = invoke("build", *given, "--arch", f"{net}:make", "--out", str(run), "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    # The convolution, attention, the perceptron, the shared weight once, the head.
    assert summary["model"]["prunable"] == 64 + 1024 + 1024 + 256 + 160
    assert summary["model"]["nonzero"] == 2528 - round(0.8 * 2528)
    assert summary["not_pruned"]["Linear.weight"] == 64
    document = json.loads(invoke("check", run / "bundle", *FAST, "--json").stdout)
    found = {result["name"]: result["outcome"] for result in document["results"]}
    compared = [f"engines/{name}/model.onnx: the twin's network" for name in ("onnx-cpu", "onnx-int8", "sparse-cpu")]
    named = ["record: layers are the twin's", "twin.onnx: parameters match the manifest", *compared]
    assert [found[name] for name in named] == ["passed"] * len(named)
    assert found["engines/onnx-int8/model.onnx: ranges of its activations"] == "passed"
