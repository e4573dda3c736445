"""What needs a GPU: parity, attacks with the engine in the loop, CUDA graphs, batches, rebuilding.

On a machine with an NVIDIA GPU: pytest -m gpu. Which of the two libraries is tested depends on what is installed.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from tests.engines.architectures import SHAPE, network
from tests.engines.nets import random_images
from tscnc_deploy.engines import can_export, can_run, export_engine, load_target, open_engine
from tscnc_deploy.engines.tensorrt import library
from tscnc_deploy.engines.torch_twin import TwinEngine
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.robustness import EngineVictim, Square, Threat, TwinAPGD, compare_logits, evaluate

pytestmark = pytest.mark.gpu

KINDS = ("tensorrt", "tensorrt-rtx")


@pytest.fixture(scope="module", params=[f"{kind}-{precision}" for kind in KINDS for precision in ("fp32", "fp16")])
def exported(request, tmp_path_factory):
    """Folder and target of an engine for this machine's GPU."""
    target = load_target(request.param).model_copy(update={"capabilities": (), "batch_max": 64})
    if problem := can_export(target) or can_run(target):
        pytest.skip(problem)
    folder = tmp_path_factory.mktemp("gpu")
    export_engine(network(), target, folder, input_shape=SHAPE)
    return folder, target


@pytest.fixture(scope="module")
def engine(exported):
    return open_engine(exported[0])


@pytest.fixture(scope="module")
def twin():
    return network()


def test_it_says_what_runs_it(engine, exported):
    _, target = exported
    assert (engine.spec.kind, engine.spec.precision) == (target.engine, target.precision)
    assert str(library.gpu_capability()) in engine.spec.provider


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 17, 64, 130])
def test_logits_are_the_twins_at_every_batch(engine, exported, twin, batch):
    images = random_images(batch, SHAPE)
    expected = TwinEngine(twin, SHAPE, 10).logits(images)
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=exported[1].tolerance)


def test_a_batch_that_comes_back_is_replayed_from_a_graph_to_the_same_logits(engine):
    images = random_images(8, SHAPE)
    first, second, third = (engine.logits(images).tobytes() for _ in range(3))
    assert first == second == third
    assert 8 in engine._graphs
    other = random_images(8, SHAPE, seed=1)
    assert engine.logits(other).tobytes() != first


def test_no_more_graphs_are_kept_than_fit(exported):
    engine = open_engine(exported[0])
    images = random_images(12, SHAPE)
    for batch in range(1, 13):
        for _ in range(2):
            engine.logits(images[:batch])
    assert len(engine._graphs) == 4
    expected = open_engine(exported[0]).logits(images)
    np.testing.assert_allclose(engine.logits(images), expected, rtol=0, atol=1e-3)


def test_parity_holds_on_clean_and_adversarial_images_and_an_attack_with_its_logits_runs(engine, exported, twin):
    twin = twin.cuda()
    images = torch.from_numpy(random_images(16, SHAPE)).cuda()
    with torch.no_grad():
        labels = twin(images).argmax(1)
    victim = EngineVictim(engine, twin)
    attacks = [TwinAPGD(steps=10), Square(queries=50)]
    found = evaluate(victim, images, labels, Threat(norm="Linf", epsilon=8 / 255), attacks, seed=0, batch_size=16)
    adversarial = found.adversarial.cuda()
    with torch.no_grad():
        parity = compare_logits(
            victim.logits(images), twin(images), victim.logits(adversarial), twin(adversarial), exported[1].tolerance
        )
    assert parity.passed
    assert found.robust.correct <= found.clean.correct
    twin.cpu()


def test_an_engine_of_another_gpu_or_version_is_3_and_is_rebuilt_on_demand(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = shutil.copytree(exported[0], tmp_path / "engine")
    facts = json.loads((folder / "engine.json").read_text())
    for changes, message in (
        (
            {"version": "1.0.0.0"},
            r"with \S+ 1\.0\.0\.0, but .* is installed: another version does not open it; to rebuild it",
        ),
        ({"made_for": ["SM61"]}, r"built for SM61 with .*, but this machine has .* \(SM\d+\); to rebuild it"),
    ):
        (folder / "engine.json").write_text(json.dumps(facts | changes))
        with pytest.raises(UnavailableError, match=message):
            open_engine(folder)
        rebuilt = open_engine(folder, rebuild=True)
        images = random_images(4, SHAPE)
        expected = open_engine(exported[0]).logits(images)
        np.testing.assert_allclose(rebuilt.logits(images), expected, rtol=0, atol=exported[1].tolerance)
    assert len(list((tmp_path / "cache" / "tscnc-deploy" / "engines").iterdir())) == 1


@pytest.mark.parametrize("hardware", ["same-capability", "ampere-and-newer"])
def test_a_hardware_level_of_tensorrt_is_kept(tmp_path, hardware):
    target = load_target("tensorrt-fp16").model_copy(update={"hardware": hardware})
    if problem := can_export(target):
        pytest.skip(problem)
    export_engine(network(), target, tmp_path, input_shape=SHAPE)
    assert open_engine(tmp_path).spec.precision == "fp16"
