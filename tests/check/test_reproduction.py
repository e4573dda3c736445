from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from tests.check.forging import (
    change_engine,
    check,
    outcomes,
    replace_network,
    reseal,
    rewrite_evidence,
    rewrite_record,
    scramble,
    weights_in,
)
from tscnc_deploy import open_bundle
from tscnc_deploy.check.reproduction import compare_rebuilt

ALL = [f"reproduced: {part}" for part in ("recipe", "masks", "weights", "evidence", "figures", "onnx-cpu")]


@pytest.fixture
def copy(tiny_build, tmp_path):
    return shutil.copytree(tiny_build.bundle, tmp_path / "bundle")


def compare(tiny_build, changed):
    results = list(compare_rebuilt(open_bundle(changed), open_bundle(tiny_build.bundle)))
    assert [result.name for result in results] == ALL
    return {f.name.removeprefix("reproduced: "): f.message for f in results if f.outcome == "failed"}


@pytest.mark.slow
def test_a_rebuilt_bundle_is_equal(tiny_build, tmp_path):
    document = check(tiny_build.bundle, "--reproduce", tmp_path / "again", status=0)
    assert [name for name in outcomes(document, "passed") if name.startswith("reproduced")] == ALL
    assert outcomes(document, "failed") == []
    weights = [folder / "bundle" / "twin.onnx" for folder in (tiny_build.folder, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    # Finished, it is taken as it is, and a change of the checked bundle shows.
    rebuilt = (tmp_path / "again" / "bundle" / "manifest.json").stat().st_mtime_ns
    changed = shutil.copytree(tiny_build.bundle, tmp_path / "changed")
    replace_network(changed, scramble)
    named = outcomes(check(changed, "--reproduce", tmp_path / "again", status=1))
    assert {"reproduced: weights", "reproduced: onnx-cpu"} <= set(named)
    assert (tmp_path / "again" / "bundle" / "manifest.json").stat().st_mtime_ns == rebuilt


def test_weights_that_changed_places_keep_the_mask(tiny_build, copy):
    replace_network(copy, scramble)
    named = compare(tiny_build, copy)
    assert set(named) == {"weights", "onnx-cpu"}
    assert "arrays differ, by up to" in named["weights"]
    assert "twin.onnx has the SHA-256" in named["weights"]
    assert "engines/onnx-cpu/model.onnx has the SHA-256" in named["onnx-cpu"]


def test_another_mask_is_named(tiny_build, copy):
    def move_one(tensors):
        # Of the layer that lost most: which layers keep all their weights is for the training to say.
        weights = [weight.view(-1) for weight in weights_in(tensors)]
        weight = max(weights, key=lambda weight: (weight == 0).float().mean().item())
        kept, pruned = weight.nonzero()[0], (weight == 0).nonzero()[0]
        weight[kept], weight[pruned] = 0.0, 1.0

    replace_network(copy, move_one)
    assert compare(tiny_build, copy)["masks"] == "2 weights are zero in only one of the two"


def test_an_exchanged_engine_is_named_alone(tiny_build, copy):
    change_engine(copy, scramble)
    reseal(copy)
    assert set(compare(tiny_build, copy)) == {"onnx-cpu"}


def test_other_evidence_is_named_by_its_array(tiny_build, copy):
    def change(evidence):
        evidence.images[0, 0, 0, 0] = np.float32(0.7)
        return evidence

    rewrite_evidence(copy, change)
    named = compare(tiny_build, copy)
    assert set(named) == {"evidence"}
    assert "1 of " in named["evidence"]
    assert ": images; " in named["evidence"]


def test_other_figures_are_named_and_times_are_not(tiny_build, copy):
    rewrite_record(copy, lambda record: record["history"][0].update(seconds=1e6))
    rewrite_record(copy, lambda record: record["latency"]["engines"]["onnx-cpu"].update(median_ms=1e6))
    assert compare(tiny_build, copy) == {}
    rewrite_record(copy, lambda record: record["evaluations"]["twin"]["clean"].update(correct=1))
    named = compare(tiny_build, copy)
    assert named == {"figures": "1 entries of the record differ: evaluations.twin.clean.correct"}


def test_another_recipe_is_named_with_the_versions_that_differ(tiny_build, copy):
    (copy / "recipe.toml").write_text((copy / "recipe.toml").read_text() + "\n# edited\n")
    reseal(copy)
    rewrite_record(copy, lambda record: record["environment"].update(torch="1.0"))
    named = compare(tiny_build, copy)
    assert set(named) == {"recipe"}
    assert f"(rebuilt with torch 1.0 -> {torch.__version__.partition('+')[0]}" in named["recipe"]


def test_a_recipe_that_cannot_be_built_here_is_bad_input(copy, tmp_path):
    text = (copy / "recipe.toml").read_text().replace('checkpoint = "none"', 'checkpoint = "weights.pt"')
    (copy / "recipe.toml").write_text(text)
    reseal(copy)
    document = check(copy, "--reproduce", tmp_path / "again", status=2)
    assert outcomes(document, "error") == ["reproduced"]
    assert "model.checkpoint = 'weights.pt': cannot be read" in document["results"][-1]["message"]
