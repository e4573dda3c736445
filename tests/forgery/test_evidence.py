"""Evidence that is none, and files and names that no build writes: each is refused or fails by its name."""

from __future__ import annotations

import json
import shutil
import unicodedata
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke
from tests.forgery.examining import failed
from tscnc_deploy import open_bundle

ARRAYS = "evidence/evidence.safetensors"
SUCCESSES = "onnx-cpu: successes have adversarial examples"


def rewrite_arrays(folder, change):
    """Any arrays, also those that no `Evidence` holds."""
    arrays = safetensors.numpy.load_file(folder / ARRAYS)
    change(arrays)
    safetensors.numpy.save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, folder / ARRAYS)
    forging.reseal(folder)


def error(document):
    (result,) = [each for each in document["results"] if each["outcome"] == "error"]
    return result["message"]


def test_examples_that_are_the_images_show_no_success(bundle):
    forging.rewrite_evidence(bundle, lambda e: replace(e, adversarial=dict.fromkeys(e.adversarial, e.images)))
    found = failed(bundle)
    assert set(found) == {SUCCESSES, "twin: successes have adversarial examples"}
    assert "images are recorded as misclassified under attack, but their examples are the images" in found[SUCCESSES]


def test_one_example_that_is_its_image_is_enough_to_fail(bundle):
    def change(evidence):
        masks = {key.rpartition(".")[2]: mask for key, mask in evidence.outcomes.items() if key.startswith("onnx-cpu.")}
        row = np.flatnonzero(masks["clean"] & ~np.logical_and.reduce(list(masks.values())))[0]
        examples = evidence.adversarial["onnx-cpu"].copy()
        examples[row] = evidence.images[row]
        return replace(evidence, adversarial={**evidence.adversarial, "onnx-cpu": examples})

    forging.rewrite_evidence(bundle, change)
    assert failed(bundle)[SUCCESSES].startswith("1 images are recorded as misclassified under attack")


@pytest.mark.parametrize(
    "change",
    [
        lambda images, examples: np.roll(examples, 1, axis=0),
        lambda images, examples: np.clip(images + np.float32(0.06), 0, 1),
    ],
    ids=["of other images", "outside of the ball"],
)
def test_examples_of_other_images_or_outside_of_the_ball_fail(bundle, change):
    forging.rewrite_evidence(
        bundle,
        lambda e: replace(e, adversarial={key: change(e.images, found) for key, found in e.adversarial.items()}),
    )
    found = failed(bundle)
    for name in ("onnx-cpu", "twin"):
        assert found[f"{name}: examples within epsilon"].startswith("an adversarial example is ")
        assert found[f"{name}: examples within epsilon"].endswith(" outside Linf 0.05")


def put(name, value):
    def change(arrays):
        array = arrays[name].copy()
        array[0] = value
        arrays[name] = array

    return change


def cut(name):
    return lambda arrays: arrays.update({name: arrays[name][:9]})


def cast(name, dtype):
    return lambda arrays: arrays.update({name: arrays[name].astype(dtype)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("images", np.nan), "the array 'images' has values outside [0, 1]"),
        (put("adversarial.onnx-cpu", np.nan), "the array 'adversarial.onnx-cpu' has values outside [0, 1]"),
        (put("adversarial.twin", 1.5), "the array 'adversarial.twin' has values outside [0, 1]"),
        (put("labels", 10), "the array 'labels' names a class outside 0 to 9"),
        (put("labels", -1), "the array 'labels' names a class outside 0 to 9"),
        (put("outcome.onnx-cpu.clean", 2), "the array 'outcome.onnx-cpu.clean' must hold 0 and 1 as uint8"),
        (cast("images", np.float64), "the array 'images' must be float32 [N, C, H, W], not float64"),
        (cast("adversarial.twin", np.float16), "the array 'adversarial.twin' must be float32 [N, C, H, W]"),
        (cast("labels", np.int32), "the array 'labels' must be int64 [80], not int32 [80]"),
        (cast("outcome.twin.clean", np.int64), "the array 'outcome.twin.clean' must hold 0 and 1 as uint8, not int64"),
        (lambda arrays: arrays.update(more=np.zeros(3)), "the array 'more' is not expected here"),
        (
            lambda arrays: arrays.update({"adversarial.twin": arrays["adversarial.twin"][:9]}),
            "has the shape [9, 1, 8, 8]",
        ),
        (lambda arrays: arrays.pop("labels"), "has no array labels"),
    ],
)
def test_arrays_that_cannot_be_evidence_are_refused(bundle, change, message):
    rewrite_arrays(bundle, change)
    assert message in error(check(bundle, status=2))


@pytest.mark.parametrize("array", ["adversarial", "outcome"])
def test_evidence_of_an_engine_by_nearly_the_same_name_fails(bundle, array):
    source, other = ("adversarial.onnx-cpu", "adversarial.Onnx-cpu") if array == "adversarial" else (
        "outcome.onnx-cpu.clean", "outcome.ONNX-cpu.clean",
    )  # fmt: skip
    rewrite_arrays(bundle, lambda arrays: arrays.update({other: arrays[source]}))
    name = "Onnx-cpu" if array == "adversarial" else "ONNX-cpu"
    assert failed(bundle) == {"evidence: of this bundle's engines": f"it is also of '{name}'"}


def test_an_image_that_only_an_attack_makes_correct_cannot_be(bundle):
    def change(evidence):
        outcomes = {**evidence.outcomes, "twin.clean": evidence.outcomes["twin.clean"] & False}
        return replace(evidence, outcomes=outcomes)

    forging.rewrite_evidence(bundle, change)
    assert failed(bundle)["evidence: outcomes that can be"].startswith(
        "misclassified without an attack, but correct under one: twin, "
    )


@pytest.mark.parametrize("path", ["notes.txt", "engines/onnx-cpu/weights.bin", "evidence/more.safetensors"])
def test_a_file_that_no_build_writes_fails_even_if_the_manifest_lists_it(bundle, path):
    (bundle / path).write_bytes(b"added")
    assert f"the file '{path}' is not in manifest.json" in error(check(bundle, status=2))
    forging.reseal(bundle)
    assert failed(bundle) == {"files: nothing added": f"no build writes {path}"}


def rename(folder, path, name):
    """The manifest lists a file by another name too."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"][path]
    shutil.copy(folder / path, folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("readme.md", "files lists 'README.md' and 'readme.md', which are the same file on systems that ignore case"),
        (unicodedata.normalize("NFD", "résumé.md"), "is not a path inside the bundle"),
        ("README．md", "is not a path inside the bundle"),
    ],
    ids=["case", "decomposed", "full width"],
)
def test_names_that_differ_by_case_or_form_are_refused(bundle, name, message):
    rename(bundle, "README.md", name)
    assert message in error(check(bundle, status=2))


def test_engines_whose_names_differ_by_case_are_refused(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["engines"]["Onnx-cpu"] = manifest["engines"]["onnx-cpu"] | {"folder": "engines/Onnx-cpu"}
    shutil.copytree(bundle / "engines" / "onnx-cpu", bundle / "engines" / "Onnx-cpu")
    for path in ("model.onnx", "target.json"):
        manifest["files"][f"engines/Onnx-cpu/{path}"] = manifest["files"][f"engines/onnx-cpu/{path}"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert "which are the same file on systems that ignore case" in error(check(bundle, status=2))


def test_classes_in_two_forms_of_one_text_fail(bundle):
    classes = ["é", unicodedata.normalize("NFD", "é"), *"23456789"]
    forging.rewrite_record(bundle, lambda record: record["model"].update(classes=classes))
    forging.reseal(bundle, lambda contents: contents["model"].update(classes=classes))
    assert failed(bundle) == {"classes: can be told apart": "'e\\u0301' looks like another class"}
    letters = ["a", "A", *"23456789"]
    forging.rewrite_record(bundle, lambda record: record["model"].update(classes=letters))
    forging.reseal(bundle, lambda contents: contents["model"].update(classes=letters))
    assert failed(bundle) == {}


def test_the_record_of_an_engine_by_nearly_the_same_name_fails(bundle):
    def change(record):
        engines = record["evaluations"]["engines"]
        engines["Onnx-cpu"] = engines.pop("onnx-cpu")

    forging.rewrite_record(bundle, change)
    found = failed(bundle)
    assert found["record: engines are those of the manifest"] == "manifest.json lists onnx-cpu, the record Onnx-cpu"


def test_the_signature_of_another_bundle_is_refused(bundle, tmp_path):
    pytest.importorskip("model_signing", reason="pip install 'tscnc-deploy[sign]'")
    from tests.bundle.signing.test_key import make_keys

    private, public = make_keys(tmp_path, "mine")
    other = shutil.copytree(bundle, tmp_path / "other")
    forging.rewrite_record(other, lambda record: record["environment"].update(torch="1.0"))
    assert invoke("sign", other, "--key", private).exit_code == 0
    shutil.copy(other / "model.sig", bundle / "model.sig")
    document = check(bundle, "--key", public, status=2)
    assert outcomes(document, "error") == ["signature"]
    assert "no valid signature by" in error(document)
    # Nobody is asked without a key: the signature is said not to be verified.
    (result,) = [each for each in check(bundle, status=0)["results"] if each["name"] == "signature"]
    assert (result["outcome"], result["message"].startswith("signed, but not verified")) == ("skipped", True)


def test_an_honest_bundle_has_nothing_of_this(bundle):
    assert failed(bundle) == {}
    assert open_bundle(bundle).manifest.passed
