"""`tscnc-deploy verify URL`: attacks on a live server, held against its bundle."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from tests.check.forging import edit_twin
from tests.conftest import invoke
from tests.serving.servers import serving
from tscnc_deploy.bundle import Contents, open_bundle, seal

pytest.importorskip("starlette", reason="needs the extra: pip install 'tscnc-deploy[serve]'")


@pytest.fixture(scope="module")
def server(tiny_build):
    with serving(tiny_build.bundle) as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def url(server, scheme="http"):
    return f"{server.document[scheme]}/v2/models/{server.document['model']}"


def test_an_empty_token_is_an_error(tiny_build, server, monkeypatch):
    """As after a failed `$(cat FILE)`; the server refuses it too."""
    monkeypatch.setenv("TSCNC_SERVE_TOKEN", "")
    done = invoke("verify", url(server), "--bundle", tiny_build.bundle)
    assert done.exit_code == 2
    assert "TSCNC_SERVE_TOKEN is set, but empty; " in done.stderr


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_the_live_server_stands_what_the_engine_stood(tiny_build, server, scheme):
    done = invoke("verify", url(server, scheme), "--bundle", tiny_build.bundle, "--json")
    assert done.exit_code == 0, done.stderr
    live = json.loads(done.stdout)
    local = json.loads(invoke("verify", tiny_build.bundle, "--engine", "onnx-cpu", "--json").stdout)
    assert live["clean"] == local["clean"]
    assert live["robust"]["correct"] == local["robust"]["correct"]
    assert list(live["attacks"]) == ["replay", "pgd-5", "square-20"]
    assert live["deployed"]["parity"]["passed"]
    assert live["deployed"]["parity"]["flips_clean"] == []
    assert live["deployed"]["same_bundle"] is (True if scheme == "http" else None)
    assert live["deployed"]["evidence"]["robust"]["total"] > 0


def test_it_is_shown(tiny_build, server):
    shown = invoke("verify", url(server), "--bundle", tiny_build.bundle, "--samples", "10", "--attack", "square-5")
    assert "the server reports this bundle; its logits differ from the twin's by at most" in shown.stdout


def with_other_twin(tiny_build, folder):
    """The bundle with a twin that gives other logits."""
    shutil.copytree(tiny_build.bundle, folder)
    edit_twin(folder / "twin.onnx", lambda tensors: tensors["network.fc.bias"].add_(torch.arange(10.0)))
    return folder


def sealed(folder, tiny_build):
    manifest = open_bundle(tiny_build.bundle).manifest
    seal(folder, Contents(**{key: getattr(manifest, key) for key in Contents.model_fields}))
    return folder


def test_an_engine_with_a_twin_of_its_own_is_held_against_that(tiny_build, server, tmp_path):
    folder = with_other_twin(tiny_build, tmp_path / "bundle")
    shutil.copy(tiny_build.bundle / "twin.onnx", folder / "engines" / "onnx-cpu" / "twin.onnx")
    options = ("--samples", "10", "--attack", "pgd-2", "--json")
    done = invoke("verify", url(server), "--bundle", sealed(folder, tiny_build), *options)
    assert json.loads(done.stdout)["deployed"]["parity"]["passed"], done.stderr


def test_a_server_of_another_bundle_fails(tiny_build, server, tmp_path):
    folder = sealed(with_other_twin(tiny_build, tmp_path / "bundle"), tiny_build)
    done = invoke("verify", url(server), "--bundle", folder, "--samples", "10", "--attack", "square-5", "--json")
    assert done.exit_code == 1
    assert "does not serve this bundle: its logits differ from the twin's by 9" in done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is False
    assert document["deployed"]["same_bundle"] is False


def test_without_a_bundle_it_is_a_black_box(server):
    done = invoke("verify", url(server), "--dataset", "digits", "--samples", "10", "--attack", "square-5", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["gradient"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "twin"], "--engine: a live server"),
        (["--mean", "0.5"], "--mean: a live server"),
        ([], "no images to attack"),
        (["--dataset", "digits", "--max-queries", "20", "--samples", "10", "--attack", "square-50"], "of 20 queries"),
    ],
)
def test_bad_input(server, arguments, words):
    done = invoke("verify", url(server), *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_bundle_with_images_takes_no_data_set(server, tiny_build):
    done = invoke("verify", url(server), "--bundle", tiny_build.bundle, "--dataset", "digits")
    assert done.exit_code == 2
    assert "--dataset: the bundle has its own" in done.stderr


def test_options_of_a_server_go_with_an_address(tiny_build):
    done = invoke("verify", tiny_build.bundle, "--rate", "5")
    assert done.exit_code == 2
    assert "--rate: " in done.stderr
    assert "is not the URL of a live server" in done.stderr
