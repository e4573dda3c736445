from __future__ import annotations

import json
import shutil

import pytest

from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.engines.onnx.file import read_onnx
from tscnc_deploy.engines.onnx.structure import recount, weights_of
from tscnc_deploy.engines.tensorrt.builder import fits_2_4
from tscnc_deploy.errors import BundleError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tiny_build, tmp_path_factory):
    """The tiny build, whose second engine is completed to 2:4 and whose third regrows what that took."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(tiny_build.folder, folder / "run")
    for name, more in (("dropped", ""), ("regrown", "regrow = true\ncomplete_epochs = 1\n")):
        (folder / f"{name}.toml").write_text(f'complete = "2:4"\ncomplete_channels = 8\n{more}')
    targets = [part for name in ("dropped", "regrown") for part in ("--target", folder / f"{name}.toml")]
    options = tiny_options(gates__engine_loss='"none"')
    result = invoke("build", *options, "--target", "onnx-cpu", *targets, "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.stderr
    return folder / "run", json.loads(result.stdout)


def test_the_cost_of_every_layer_is_recorded_and_adds_up(run):
    folder, summary = run
    layers = summary["engines"]["dropped"]["completion"]
    dropped = sum(layer["dropped"] for layer in layers)
    kept = recount(folder / "bundle" / "engines" / "dropped" / "model.onnx").nonzero
    assert dropped > 0
    assert kept == summary["model"]["nonzero"] - dropped
    assert all((layer["dropped"] > 0) == (layer["saliency_lost"] > 0) for layer in layers)
    assert summary["engines"]["onnx-cpu"]["completion"] == []


def test_regrown_weights_take_places_that_comply(run):
    folder, summary = run
    layers = summary["engines"]["regrown"]["completion"]
    lost = sum(layer["dropped"] - layer["regrown"] for layer in layers)
    assert 0 <= lost < sum(layer["dropped"] for layer in layers)
    for name, weight in weights_of(read_onnx(folder / "bundle" / "engines" / "regrown" / "twin.onnx").graph).items():
        if weight.shape[1] % 4 == 0 and min(weight.shape[:2]) >= 8:
            assert fits_2_4(weight, axis=1), name


def test_the_engine_is_compared_with_the_network_that_left_and_attacked_like_the_rest(run):
    _, summary = run
    for name in ("dropped", "regrown"):
        assert summary["engines"][name]["max_abs_diff"] < 1e-3
        assert summary["engines"][name]["comparison"]["total"] == 60
        assert "replay" in summary["engines"][name]["attacks"]


def test_the_bundle_gives_the_network_that_left(run):
    bundle = open_bundle(run[0] / "bundle")
    assert bundle.twin_of("onnx-cpu") is bundle.twin
    assert bundle.twin_of("dropped") is not bundle.twin
    dropped = run[0] / "bundle" / "engines" / "dropped"
    assert recount(dropped / "twin.onnx").nonzero == recount(dropped / "model.onnx").nonzero
    with pytest.raises(BundleError, match="engine 'nowhere' not found"):
        bundle.twin_of("nowhere")


def test_a_check_takes_its_engines_for_what_they_are(run):
    options = ("--attack", "square-5", "--json")
    document = json.loads(invoke("check", run[0] / "bundle", *options).stdout)
    failed = {found["name"] for found in document["results"] if found["outcome"] in ("failed", "error")}
    assert not {name for name in failed if "the manifest" in name or "replay" in name or "from the twin" in name}, (
        failed
    )
    assert {f"{name}: largest difference of a logit from the twin" for name in ("dropped", "regrown")} <= {
        found["name"] for found in document["results"]
    }


def test_the_report_lists_what_each_layer_lost(run):
    folder, summary = run
    html = (folder / "bundle" / "report.html").read_text("utf-8")
    assert html.count("<h4>2:4 completion</h4>") == 2
    assert "unchanged" in html
    assert open_bundle(folder / "bundle").manifest.model.nonzero == summary["model"]["nonzero"]
