"""A file exchanged between the moment of its digest and the moment of its use is not what is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.hostile.bundles import ENGINES, SHAPE
from tscnc_deploy import open_bundle
from tscnc_deploy.engines import open_engine
from tscnc_deploy.models import load_model
from tscnc_deploy.reading import read_file

IMAGES = np.random.default_rng(0).random((4, *SHAPE), np.float32)


@pytest.fixture
def swapping(folder: Path) -> Iterator[list[Path]]:
    """`read_file`, after which another file stands under the same name at once."""
    swapped: list[Path] = []

    def read(path: Path, limit: int) -> bytes:
        data = read_file(path, limit)
        path.unlink()
        path.write_bytes(b"other")
        swapped.append(path)
        return data

    read.swapped = swapped  # type: ignore[attr-defined]
    yield read  # type: ignore[misc]
    assert swapped


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_what_was_read(folder, swapping, name):
    expected = open_bundle(folder).engine(name).logits(IMAGES)
    engine = open_engine(folder / "engines" / name, read=swapping)
    assert np.array_equal(engine.logits(IMAGES), expected)
    assert [path.name for path in swapping.swapped] == ["target.json", "model.onnx"]


def test_a_twin_is_what_was_read(folder, swapping):
    expected = open_bundle(folder).twin(torch.from_numpy(IMAGES))
    model = load_model(folder / "twin.safetensors", swapping)
    assert torch.equal(model(torch.from_numpy(IMAGES)), expected)


def test_a_bundle_opened_before_gives_what_was_listed_or_nothing(folder):
    bundle = open_bundle(folder)
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("clean = 0.0", "clean = 0.9", 1))
    target = folder / "engines/onnx-cpu/target.json"
    target.write_text(target.read_text().replace("0.001", "1000.0"))
    for use in (bundle.load_recipe, lambda: bundle.target("onnx-cpu")):
        with pytest.raises(Exception, match="has changed: its SHA-256 is"):
            use()
