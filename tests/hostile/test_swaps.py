"""A file exchanged between the moment of its digest and the moment of its use is not what is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.hostile.bundles import ENGINES, SHAPE
from tscnc_deploy import open_bundle
from tscnc_deploy.engines import can_run, open_engine
from tscnc_deploy.engines.onnx.differentiable import open_twin
from tscnc_deploy.errors import BundleError
from tscnc_deploy.files import read_file

IMAGES = np.random.default_rng(0).random((4, *SHAPE), np.float32)


class Swapping:
    """`read_file`, after which another file stands under the same name at once."""

    def __init__(self) -> None:
        self.swapped: list[str] = []

    def __call__(self, path: Path, limit: int) -> bytes:
        data = read_file(path, limit)
        path.unlink()
        path.write_bytes(b"other")
        self.swapped.append(path.name)
        return data


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_what_was_read(folder, name):
    if reason := can_run(open_bundle(folder).target(name)):
        pytest.skip(reason)
    expected = open_bundle(folder).engine(name).logits(IMAGES)
    swapping = Swapping()
    engine = open_engine(folder / "engines" / name, read=swapping)
    assert np.array_equal(engine.logits(IMAGES), expected)
    assert swapping.swapped == ["target.json", "model.onnx"]


def test_a_twin_is_what_was_read(folder):
    expected = open_bundle(folder).twin(torch.from_numpy(IMAGES))
    model = open_twin(folder / "twin.onnx", Swapping())
    assert torch.equal(model(torch.from_numpy(IMAGES)), expected)


def test_a_bundle_opened_before_gives_what_was_listed_or_nothing(folder):
    bundle = open_bundle(folder)
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("clean = 0.0", "clean = 0.9", 1))
    target = folder / "engines/onnx-cpu/target.json"
    target.write_text(target.read_text().replace("0.001", "9.001"))
    for use in (bundle.load_recipe, lambda: bundle.target("onnx-cpu")):
        with pytest.raises(BundleError, match="has changed: its SHA-256 is"):
            use()
