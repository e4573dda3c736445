"""A bundle whose parts disagree about the threat model: clients would be told an epsilon that nobody attacked with."""

from __future__ import annotations

import pytest

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke
from tests.forgery.examining import failed
from tscnc_deploy import open_bundle
from tscnc_deploy.errors import BundleError
from tscnc_deploy.serving.loading import open_model

SAME = "threat model: the same in manifest, recipe and record"


def raise_manifest(folder):
    forging.reseal(folder, lambda contents: contents["threat"].update(epsilon=0.5))


def raise_record(folder):
    forging.rewrite_record(folder, lambda record: record["threat"].update(epsilon=0.5))


def raise_recipe(folder):
    path = folder / "recipe.toml"
    path.write_text(path.read_text().replace("epsilon = 0.05", "epsilon = 0.5"))
    forging.reseal(folder)


def raise_evaluation(folder):
    forging.rewrite_record(folder, lambda record: record["evaluations"]["engines"]["onnx-cpu"].update(epsilon=0.5))


def change_norm(folder):
    forging.rewrite_record(folder, lambda record: record["evaluations"]["twin"].update(norm="L2"))


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (raise_manifest, "manifest.json says Linf 0.5, the threat section of recipe.toml Linf 0.05; "),
        (raise_record, "manifest.json says Linf 0.05, the record Linf 0.5"),
        (raise_recipe, "manifest.json says Linf 0.05, the threat section of recipe.toml Linf 0.5"),
        (raise_evaluation, "manifest.json says Linf 0.05, but onnx-cpu was attacked with Linf 0.5"),
        (change_norm, "manifest.json says Linf 0.05, but twin was attacked with L2 0.05"),
    ],
)
def test_one_part_that_says_another_threat_model_fails(bundle, forge, message):
    forge(bundle)
    assert failed(bundle)[SAME].startswith(message)


def test_a_larger_epsilon_in_the_manifest_alone_ends_a_whole_check_with_status_1(bundle):
    raise_manifest(bundle)
    assert SAME in outcomes(check(bundle, status=1))


@pytest.mark.parametrize("forge", [raise_manifest, raise_record, raise_evaluation])
def test_no_command_tells_clients_an_epsilon_that_was_not_attacked(bundle, tmp_path, forge):
    forge(bundle)
    for command in (
        ["inspect", bundle],
        ["inspect", bundle, "--json"],
        ["report", bundle, "--out", tmp_path / "r.html"],
    ):
        refused = invoke(*command)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "its parts disagree about the threat model" in refused.stderr
    with pytest.raises(BundleError, match=r"its parts disagree about the threat model: .*0\.5"):
        open_model(open_bundle(bundle))


def test_an_honest_bundle_agrees(bundle):
    assert failed(bundle) == {}
    assert open_bundle(bundle).threat.epsilon == 0.05
