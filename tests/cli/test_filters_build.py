import json

import pytest
import torch

from tests.check.forging import check, outcomes
from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.structure import recount, weights_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("build") / "run"
    options = tiny_options(
        prune__pattern="filters", prune__regrow="false", export__targets='["onnx-cpu", "sparse-cpu"]'
    )
    result = invoke("build", *options, "--out", folder, "--json")
    assert result.exit_code == 0, result.stderr
    return folder, json.loads(result.stdout)


def test_convolutions_lose_whole_filters_and_every_class_keeps_weights(run):
    folder, _ = run
    bundle = open_bundle(folder / "bundle")
    weights = weights_of(read_onnx(bundle.path / "twin.onnx").graph)
    removed = 0
    for name, values in weights.items():
        weight = torch.tensor(values)
        rows = (weight != 0).flatten(1)
        assert rows.any()
        if weight.ndim == 4:
            assert (rows.all(dim=1) == rows.any(dim=1)).all(), name
            removed += int((~rows.any(dim=1)).sum())
        else:
            assert rows.any(dim=1).all()
    assert removed == sum(layer.dead_filters for layer in bundle.record.layers)
    assert removed > 100
    assert all(layer.kappa is not None for layer in bundle.record.layers)


def test_the_zeros_are_at_least_those_asked_for_in_every_file(run):
    folder, summary = run
    gates = {gate["name"]: gate for gate in summary["gates"]}
    for engine in ("onnx-cpu", "sparse-cpu"):
        structure = recount(folder / "bundle" / "engines" / engine / "model.onnx")
        zeros, wanted = structure.prunable - structure.nonzero, round(0.8 * structure.prunable)
        # The largest filters have 576 weights.
        assert wanted <= zeros < wanted + 576
        gate = gates[f"{engine}: zeros counted in the file"]
        assert (gate["value"], gate["limit"], gate["passed"]) == (zeros, wanted, True)


def test_the_bundle_passes_its_check_and_not_one_that_asks_for_another_filter(run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, summary = run
    document = check(folder / "bundle", status=0)
    sparse = [name for name in outcomes(document, "passed") if name.endswith(": as sparse as required")]
    assert "engines/sparse-cpu/model.onnx: as sparse as required" in sparse
    recipe = (folder / "bundle" / "recipe.toml").read_text(encoding="utf-8")
    more = summary["model"]["sparsity"] + 0.001
    (tmp_path / "more.toml").write_text(recipe.replace("\nsparsity = 0.8", f"\nsparsity = {more}"), encoding="utf-8")
    assert outcomes(check(folder / "bundle", "--recipe", tmp_path / "more.toml", status=1)) == sparse
