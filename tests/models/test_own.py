from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tscnc_deploy import models
from tscnc_deploy.arch import parse_arch
from tscnc_deploy.errors import InputError
from tscnc_deploy.models.own import code_digest

NET = """
import torch
from torch import nn

def make(classes, input_shape, hidden=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], hidden), nn.ReLU(),
                         nn.Linear(hidden, classes))

def fails(classes, input_shape):
    raise ZeroDivisionError("no\\nreason")

def text(classes, input_shape):
    return "net"

def features(classes, input_shape):
    return nn.Flatten()

def pair(classes, input_shape):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x
    return Pair()

def clumsy(classes, input_shape):
    return nn.Conv2d(7, 3, 1)

number = 3
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def build(arch: str, **options):
    return models.build(arch, classes=3, input_shape=(1, 4, 4), mean=(0.5,), std=(0.25,), **options)


def test_a_file_makes_the_network(net):
    model = build(f"{net}:make", args={"hidden": 6})
    assert isinstance(model.network, nn.Sequential)
    assert [list(parameter.shape) for parameter in model.parameters()] == [[6, 16], [6], [3, 6], [3]]
    assert model.training


def test_the_seed_determines_the_weights_and_the_global_state_is_left_alone(net):
    before = torch.random.get_rng_state()
    first, again, other = (build(f"{net}:make", seed=seed) for seed in (1, 1, 2))
    assert torch.random.get_rng_state().equal(before)
    weights = [model.network[1].weight for model in (first, again, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mak", "has no mak; did you mean make?"),
        ("number", "number is int, not a callable"),
        ("fails", r"fails\(3, \(1, 4, 4\)\) raised ZeroDivisionError: no$"),
        ("text", "returned str; it must return a torch.nn.Module"),
        ("features", r"returns torch.float32 \[2, 16\] for 2 images instead of float32 \[2, 3\]"),
        ("pair", r"returns tuple, not a tensor of logits \[N, 3\]"),
        ("clumsy", "fails on images of 1x4x4: RuntimeError: "),
    ],
)
def test_callables_that_make_no_classifier(net, function, message):
    with pytest.raises(InputError, match=message):
        build(f"{net}:{function}")


def test_files_that_cannot_be_imported(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        build(f"{tmp_path}/none.py:make")
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(InputError, match="cannot be imported: ModuleNotFoundError: No module named 'nothing_of"):
        build(f"{tmp_path}/bad.py:make")
    (tmp_path / "worse.py").write_text("def (:\n")
    with pytest.raises(InputError, match="cannot be imported: SyntaxError"):
        build(f"{tmp_path}/worse.py:make")


def test_modules(tmp_path, monkeypatch):
    (tmp_path / "own_nets").mkdir()
    (tmp_path / "own_nets" / "__init__.py").write_text("")
    (tmp_path / "own_nets" / "small.py").write_text(NET)
    with pytest.raises(InputError, match="there is no installed package own_nets; for code that"):
        build("own_nets.small:make")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(list(build("own_nets.small:make").parameters())) == 4
    with pytest.raises(InputError, match=r"own_nets.large cannot be imported: ModuleNotFoundError"):
        build("own_nets.large:make")
    before = code_digest(parse_arch("own_nets.small:make"))
    assert (before["distribution"], before["version"]) == (None, None)
    (tmp_path / "own_nets" / "__init__.py").write_text("# another\n")
    assert code_digest(parse_arch("own_nets.small:make"))["sha256"] != before["sha256"]
    for name in [name for name in sys.modules if name.startswith("own_nets")]:
        del sys.modules[name]


def test_the_digest_is_that_of_the_file_and_what_it_imports_beside_it(tmp_path):
    net, blocks, other = (tmp_path / f"{name}.py" for name in ("net", "digested_blocks", "other"))
    net.write_text("from digested_blocks import make\n")
    blocks.write_text(NET)
    other.write_text("")

    def digest() -> str:
        return code_digest(parse_arch(f"{net}:make"))["sha256"]

    before = digest()
    assert len(list(build(f"{net}:make").parameters())) == 4
    other.write_text("# not imported\n")
    assert digest() == before
    blocks.write_text(NET + "\n")
    assert digest() != before
    blocks.write_text(NET)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (net, blocks):
        path.rename(moved / path.name)
    assert code_digest(parse_arch(f"{moved}/net.py:make"))["sha256"] == before


def test_a_file_of_weights_names_no_code(net, tmp_path):
    saved = tmp_path / "model.safetensors"
    model = build(f"{net}:make", args={"hidden": 6})
    models.save_model(model, saved)
    assert str(tmp_path).encode() not in saved.read_bytes()
    with pytest.raises(InputError, match=r"holds the weights of net.py:make; its code is not in the file, and none is"):
        models.load_model(saved)
    with pytest.raises(InputError, match=r"holds the weights of net.py:make, not of net.py:fails"):
        models.load_model(saved, arch=f"{net}:fails")
    loaded = models.load_model(saved, arch=f"{net}:make")
    assert all(loaded.state_dict()[name].equal(value) for name, value in model.state_dict().items())


def test_a_neighbour_is_the_one_beside_the_file_and_what_it_hides_comes_back(tmp_path):
    import packaging

    for folder, hidden in (("one", 5), ("two", 7)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.py").write_text(
            "import sized_blocks, packaging\n\n"
            "def make(*given):\n    assert packaging.own\n    return sized_blocks.make(*given)\n"
        )
        (tmp_path / folder / "sized_blocks.py").write_text(NET.replace("hidden=4", f"hidden={hidden}"))
        (tmp_path / folder / "packaging.py").write_text("own = True\n")
    shapes = [
        list(next(iter(build(f"{tmp_path}/{folder}/net.py:make").parameters())).shape) for folder in ("one", "two")
    ]
    assert shapes == [[5, 16], [7, 16]]
    assert sys.modules["packaging"] is packaging
    assert not hasattr(packaging, "own")


def test_the_digest_covers_a_folder_without_an_init_file(tmp_path):
    (tmp_path / "net.py").write_text("from plain_blocks.conv import make\n")
    (tmp_path / "plain_blocks").mkdir()
    (tmp_path / "plain_blocks" / "conv.py").write_text(NET)
    before = code_digest(parse_arch(f"{tmp_path}/net.py:make"))
    (tmp_path / "plain_blocks" / "conv.py").write_text(NET + "# changed\n")
    assert code_digest(parse_arch(f"{tmp_path}/net.py:make")) != before


DRAWN = """
import random
import numpy as np
import torch
from torch import nn

class Drawn(nn.Module):
    def __init__(self, classes, draw):
        super().__init__()
        self.order = draw(16)
        self.head = nn.Linear(16, classes)
        self.register_buffer("mask", torch.tensor([True] * 16))

    def forward(self, x):
        self.kept = self.head(x.flatten(1)[:, self.order] * self.mask)
        return self.kept

def make(classes, input_shape, by="torch"):
    draws = {"torch": torch.randperm, "numpy": lambda n: torch.from_numpy(np.random.permutation(n)),
             "random": lambda n: torch.tensor(random.sample(range(n), n))}
    return Drawn(classes, draws[by])
"""


@pytest.mark.parametrize("by", ["torch", "numpy", "random"])
def test_what_is_drawn_beside_the_weights_is_drawn_again_with_the_seed(tmp_path, by):
    (tmp_path / "drawn.py").write_text(DRAWN)
    arch, saved = f"{tmp_path}/drawn.py:make", tmp_path / "model.safetensors"
    model = copy.deepcopy(build(arch, args={"by": by}, seed=5)).eval()
    models.save_model(model, saved)
    again, other = (models.load_model(saved, arch=arch, seed=seed) for seed in (5, 6))
    images = torch.rand(3, 1, 4, 4)
    assert again(images).equal(model(images))
    assert not other(images).equal(model(images))
