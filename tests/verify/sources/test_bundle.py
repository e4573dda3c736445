from __future__ import annotations

import pickle
import shutil

import pytest
import torch

from tests.bundle.folders import contents
from tests.check.forging import edit_twin
from tests.verify.models import random_images
from tscnc_deploy.bundle import seal
from tscnc_deploy.engines.onnx.differentiable import open_twin
from tscnc_deploy.errors import BundleError
from tscnc_deploy.robustness import EngineVictim, ModelVictim
from tscnc_deploy.verify import BundleSource, IOSpec


def test_the_twin(bundle):
    source = BundleSource(bundle)
    assert (source.name, source.form()) == ("twin", IOSpec((1, 8, 8), 3))
    victim = source.open("cpu")
    assert isinstance(victim, ModelVictim)
    expected = open_twin(bundle / "twin.onnx")
    assert victim.logits(random_images()).equal(expected(random_images()))


def test_an_engine_beside_its_twin(bundle):
    source = BundleSource(bundle, "onnx-cpu", threads=1)
    assert source.name == "onnx-cpu"
    victim = source.open("cpu")
    assert isinstance(victim, EngineVictim)
    engine, twin = victim.both(random_images())
    torch.testing.assert_close(engine, twin, atol=1e-4, rtol=1e-4)


def test_other_processes_open_the_same(bundle):
    for source in (BundleSource(bundle), BundleSource(bundle, "onnx-cpu", 1)):
        copy = pickle.loads(pickle.dumps(source))
        assert (copy, hash(copy)) == (source, hash(source))
        assert copy.open("cpu").logits(random_images()).equal(source.open("cpu").logits(random_images()))


def test_the_digest_covers_engine_and_twin_and_nothing_else(bundle, tmp_path):
    names = ("twin", "onnx-cpu", "onnx-cuda")
    digests = [BundleSource(bundle, name).digest() for name in names]
    assert len(set(digests)) == 3

    other = shutil.copytree(bundle, tmp_path / "other")
    (other / "report.html").write_text("another report")
    (other / "engines" / "onnx-cuda" / "model.onnx").write_text("another engine")
    (other / "manifest.json").unlink()
    seal(other, contents())
    changed = [BundleSource(other, name).digest() for name in names]
    assert [a == b for a, b in zip(digests, changed, strict=True)] == [True, True, False]

    edit_twin(other / "twin.onnx", lambda tensors: tensors["network.fc.bias"].add_(1))
    (other / "manifest.json").unlink()
    seal(other, contents())
    assert not {BundleSource(other, name).digest() for name in names} & {*digests, *changed}


def test_what_is_no_bundle_is_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="engine 'onnx-gpu' not found"):
        BundleSource(bundle, "onnx-gpu").open("cpu")
    for call in (
        BundleSource(tmp_path).form,
        BundleSource(tmp_path).digest,
        lambda: BundleSource(tmp_path).open("cpu"),
    ):
        with pytest.raises(BundleError, match=r"contains no manifest\.json"):
            call()
