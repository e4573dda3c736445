"""A bundle for data that must not be shipped: no image in it, and no verdict without the images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from tests.check.forging import FAST, check, outcomes
from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.data import load
from tscnc_deploy.recipe.file import load_recipe

NOT_RUN = "replay and fresh attack"


@pytest.fixture(scope="module")
def withheld(tiny_build, tmp_path_factory):
    """The tiny build packed again without its images; nothing but that is repeated."""
    run = tmp_path_factory.mktemp("withheld") / "run"
    shutil.copytree(tiny_build.folder, run)
    result = invoke("build", *tiny_options(), "--no-evidence-images", "--out", run, "--json")
    assert result.exit_code == 0, result.stderr
    stages = {stage["name"]: stage["cached"] for stage in json.loads(result.stdout)["stages"]}
    assert [name for name, cached in stages.items() if not cached] == ["package"]
    return run / "bundle"


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """Images of the same form that are not the digits."""
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "other.npz"
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = generator.integers(0, 256, (400, 8, 8, 1), np.uint8)
        arrays[f"{part}_labels"] = np.arange(400) % 10
    np.savez(path, **arrays)
    return path


def test_no_image_and_no_adversarial_example_ships(tiny_build, withheld):
    shipped = open_bundle(tiny_build.bundle).evidence
    content = b"".join(path.read_bytes() for path in sorted(withheld.rglob("*")) if path.is_file())
    for images in (shipped.images, *shipped.adversarial.values()):
        for image in images:
            # Half of an image as it lies in memory, in either of the forms that this package writes.
            assert image[:, :4].tobytes() not in content
            assert (image * 255).round().astype(np.uint8).tobytes() not in content
    assert shipped.images[0][:, :4].tobytes() in (tiny_build.bundle / "evidence/evidence.safetensors").read_bytes()


def test_the_places_are_those_in_the_data_set(tiny_build, withheld):
    index = open_bundle(withheld).withheld.index
    images, labels = load(load_recipe(withheld / "recipe.toml").data).test.batch(torch.from_numpy(index))
    shipped = open_bundle(tiny_build.bundle).evidence
    assert np.array_equal(images.numpy(), shipped.images)
    assert np.array_equal(labels.numpy(), shipped.labels)


def test_check_without_the_data_is_not_passed(withheld):
    document = check(withheld, status=2)
    assert outcomes(document, "error") == [NOT_RUN]
    assert outcomes(document, "failed") == []
    message = document["results"][-1]["message"]
    assert "NOT RUN and robustness is unknown; give the data set with --data-root DIR" in message
    # What needs no image is checked nevertheless.
    passed = outcomes(document, "passed")
    assert {
        "files: match the manifest",
        "evidence: all images present",
        "twin.onnx: weights match the manifest",
    } <= set(passed)


def test_check_with_the_data_attacks_images_that_it_draws(withheld):
    document = check(withheld, "--dataset", "digits", "--samples", 60, status=0)
    passed = outcomes(document, "passed")
    assert {"onnx-cpu: clean images have the recorded outcomes", "onnx-cpu: robust accuracy, lower end"} <= set(passed)
    assert outcomes(document, "skipped") == ["signature", "twin: replay", "onnx-cpu: replay"]
    assert document["engines"]["onnx-cpu"]["clean"]["total"] == 60


def test_check_with_other_data_is_refused(withheld, other_data):
    document = check(withheld, "--dataset", "npz", "--data-root", other_data, status=2)
    assert (
        "40 of 40 images of the given data set are not those that were evaluated" in document["results"][-1]["message"]
    )


def test_a_baseline_may_withhold_its_images_too(tiny_build, withheld):
    document = check(tiny_build.bundle, "--baseline", withheld, "--margin", "0.5", status=2)
    assert outcomes(document, "error") == [NOT_RUN]
    assert str(withheld) in document["results"][-1]["message"]
    options = ("--margin", "0.5", "--dataset", "digits", "--samples", 50)
    document = check(tiny_build.bundle, "--baseline", withheld, *options, status=0)
    assert document["baseline"]["onnx-cpu"]["clean"]["total"] == 50


def test_verify_takes_the_images_from_the_data_set(tiny_build, withheld, other_data):
    fast = ("--attack", "fgsm", "--no-masking", "--json")
    without = invoke("verify", withheld, *fast)
    assert (without.exit_code, "give the data set with --data-root" in without.stderr) == (2, True)
    told = json.loads(invoke("verify", withheld, *fast, "--dataset", "digits").stdout)
    shipped = json.loads(invoke("verify", tiny_build.bundle, *fast).stdout)
    assert (told["clean"], told["robust"]) == (shipped["clean"], shipped["robust"])
    wrong = invoke("verify", withheld, *fast, "--dataset", "npz", "--data-root", other_data)
    assert (wrong.exit_code, "are not those that were evaluated" in wrong.stderr) == (2, True)


def test_inspect_report_and_serving_need_no_images(withheld, tmp_path):
    from tscnc_deploy.serving.loading import open_model

    assert invoke("inspect", withheld).exit_code == 0
    assert invoke("report", withheld, "--out", tmp_path / "report.html").exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert "data:image" not in page
    assert open_model(open_bundle(withheld)).passed


def test_check_says_it_to_people_too(withheld):
    result = invoke("check", withheld, *FAST)
    assert result.exit_code == 2
    assert "bad input; " in result.stdout
    assert "NOT RUN" in result.stderr
