"""An engine whose answer to an image depends on the other images of the batch is refused wherever it is opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke
from tests.engines.onnx.graphs import classifier
from tscnc_deploy import open_bundle
from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
from tscnc_deploy.errors import BundleError, InputError
from tscnc_deploy.serving.loading import open_model

ENGINE = "engines/onnx-cpu/model.onnx"
DEPENDS = "depends on the other images of the batch"
WEIGHT = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=f"the {op}", **attributes)


def stored(name, values, dtype=np.int64):
    return numpy_helper.from_array(np.array(values, dtype), name)


# From "x" to "y", per image a vector.
ALONE_IS_DIFFERENT = [
    node("Shape", "x", "sizes"),
    node("Gather", "sizes zero", "size"),
    node("Equal", "size one", "alone"),
    node("Neg", "x", "negative"),
    node("Where", "alone negative x", "y"),
]
ALONE_IS_DIFFERENT_STORED = [stored("zero", 0), stored("one", 1)]
WITHOUT_THE_MEAN = [node("ReduceMean", "x axes", "mean", keepdims=1), node("Sub", "x mean", "y")]
BY_THE_BATCH = [node("BatchNormalization", "x gain shift shift gain", "y m v", training_mode=1)]
DROPPED = [node("Dropout", "x ratio mode", "y")]
# Behind a transposition, in a file with a fixed batch, the structure does not show which axis the images are on.
HIDDEN_MEAN = [
    helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0]),
    helper.make_node("ReduceMean", ["turned", "last"], ["middle"], keepdims=1),
    helper.make_node("Sub", ["turned", "middle"], ["less"]),
    helper.make_node("Transpose", ["less"], ["y"], perm=[1, 0]),
]
DYNAMIC = [
    node("DynamicQuantizeLinear", "x", "q scale zero_point"),
    node("DequantizeLinear", "q scale zero_point", "y"),
]


def written(path: Path, nodes, *constants, **options) -> Path:
    onnx.save(classifier(nodes, constants, side=8, weight=WEIGHT, **options), path)
    return path


def verified(path, *options):
    return invoke("verify", path, "--dataset", "digits", "--samples", "20", "--attack", "square-5", *options)


def at_the_end(path: Path, nodes, constants) -> None:
    """Puts nodes between the logits of a file and its output."""
    model = onnx.load(path)
    for made in model.graph.node:
        made.output[:] = ["x" if name == "logits" else name for name in made.output]
    for added in nodes:
        model.graph.node.append(added)
        model.graph.node[-1].output[:] = ["logits" if name == "y" else name for name in added.output]
    model.graph.initializer.extend(constants)
    onnx.save(model, path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_bundle_whose_engine_answers_a_batch_of_one_differently(bundle):
    at_the_end(bundle / ENGINE, ALONE_IS_DIFFERENT, ALONE_IS_DIFFERENT_STORED)
    forging.reseal(bundle)
    document = check(bundle, status=2)
    last = document["results"][-1]
    assert (last["name"], last["outcome"]) == ("engines", "error")
    named = "(Where) computes with 'alone', a number made of the batch's size, so the answer to an image "
    assert named + DEPENDS in last["message"]
    result = invoke("verify", bundle, "--engine", "onnx-cpu", "--attack", "replay")
    assert result.exit_code == 2
    assert named + DEPENDS in result.stderr
    with pytest.raises(BundleError, match=r"the Where.* depends on the other images of the batch"):
        open_model(open_bundle(bundle), allow_failed=True)


def test_a_bundle_whose_engine_hides_it_from_the_structure_fails(bundle):
    """Also from evaluations, which ask about the same images together each time."""
    model = onnx.load(bundle / "twin.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 20
    onnx.save(model, bundle / ENGINE)
    at_the_end(bundle / ENGINE, HIDDEN_MEAN, [stored("last", [1])])
    forging.reseal(bundle)
    document = check(bundle, status=1)
    title = "onnx-cpu: answers do not depend on the batch"
    found = next(result for result in document["results"] if result["name"] == title)
    assert found["outcome"] == "failed"
    assert found["message"].startswith(f"it {DEPENDS}: its answer to an image among 2 differs from that to the image ")
    # It is not attacked: the figures would be those of one choice of batches.
    assert document["engines"] == {}
    assert not [name for name in outcomes(document, "passed") if name.startswith("onnx-cpu: clean")]
    result = invoke("verify", bundle, "--engine", "onnx-cpu", "--attack", "replay")
    assert result.exit_code == 2
    assert f"the engine onnx-cpu {DEPENDS}: its answer to an image among 2 " in result.stderr
    with pytest.raises(InputError, match=f"the engine onnx-cpu {DEPENDS}"):
        open_model(open_bundle(bundle), allow_failed=True)


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (ALONE_IS_DIFFERENT, ALONE_IS_DIFFERENT_STORED, DEPENDS),
        (HIDDEN_MEAN, [stored("last", [1])], DEPENDS),
        (DYNAMIC, [], "is not for any number of images at a time"),
    ],
)
def test_a_twin_that_depends_on_the_batch_is_refused(bundle, nodes, constants, message):
    at_the_end(bundle / "twin.onnx", nodes, constants)
    forging.reseal(bundle)
    with pytest.raises(BundleError, match=message):
        _ = open_bundle(bundle).twin
    document = check(bundle, status=2)
    assert message in document["results"][-1]["message"]


def test_a_twin_for_a_fixed_number_of_images_is_refused(bundle):
    model = onnx.load(bundle / "twin.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 20
    onnx.save(model, bundle / "twin.onnx")
    forging.reseal(bundle)
    with pytest.raises(BundleError, match=r"twin.onnx: is not for any number of images at a time"):
        _ = open_bundle(bundle).twin


def test_an_honest_bundle_passes_and_is_served(bundle):
    assert "onnx-cpu: answers do not depend on the batch" in outcomes(check(bundle, status=0), "passed")
    assert open_model(open_bundle(bundle), threads=1).spec.single_images is False


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (ALONE_IS_DIFFERENT, ALONE_IS_DIFFERENT_STORED, "'the Where' (Where) computes with 'alone'"),
        (WITHOUT_THE_MEAN, [stored("axes", [0])], "'the ReduceMean' (ReduceMean) works along axis 0 of 'x'"),
        (
            BY_THE_BATCH,
            [stored("gain", np.ones(64), np.float32), stored("shift", np.zeros(64), np.float32)],
            "'the BatchNormalization' (BatchNormalization) is in training mode and normalises by the statistics of the "
            "batch",
        ),
        (
            DROPPED,
            [stored("ratio", 0.5, np.float32), stored("mode", True, np.bool_)],
            "'the Dropout' (Dropout) is in training mode and drops values at random; export the model in eval mode",
        ),
    ],
)
def test_a_file_that_depends_on_the_batch_is_refused_by_name(tmp_path, nodes, constants, message):
    result = verified(written(tmp_path / "third.onnx", nodes, *constants))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "randomised" not in result.stderr


def test_a_file_that_hides_it_from_the_structure_is_refused(tmp_path):
    result = verified(written(tmp_path / "third.onnx", HIDDEN_MEAN, stored("last", [1]), batch=6))
    assert result.exit_code == 2
    assert f"the engine third {DEPENDS}: its answer to an image among 2 differs from that to the image alone by " in (
        result.stderr
    )


def test_a_file_that_uses_the_batch_size_in_shapes_alone_is_attacked(tmp_path):
    nodes = [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "size"),
        node("Unsqueeze", "size zeros", "first"),
        node("Concat", "first wide", "shape", axis=0),
        node("Expand", "token shape", "tokens"),
        node("Add", "x tokens", "more"),
        node("Reshape", "more shape", "y"),
    ]
    constants = [stored("zero", 0), stored("zeros", [0]), stored("wide", [64]), stored("token", np.ones((1, 64)), "f4")]
    result = verified(written(tmp_path / "third.onnx", nodes, *constants), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["robust"]["total"] == 20
    assert "single_images" not in json.loads(result.stdout)


def test_dynamic_quantisation_is_evaluated_image_by_image_and_says_so(tmp_path):
    path = written(tmp_path / "third.onnx", DYNAMIC)
    engine = OnnxRuntimeEngine(path)
    assert (engine.spec.batch_min, engine.spec.batch_max, engine.spec.single_images) == (1, 1, True)
    images = (
        np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
        * np.linspace(0.2, 1, 5, dtype=np.float32)[:, None, None, None]
    )
    alone = np.concatenate([engine.logits(image[None]) for image in images])
    np.testing.assert_array_equal(engine.logits(images), alone)
    document = json.loads(verified(path, "--json").stdout)
    assert document["single_images"] is True
    note = "given one image at a time: its dynamic quantisation takes its scales from the whole batch"
    assert note in verified(path).stdout


def test_dynamic_quantisation_in_a_bundle_is_a_note(bundle):
    at_the_end(bundle / ENGINE, DYNAMIC, [])
    forging.reseal(bundle)
    results = {result["name"]: result for result in check(bundle)["results"]}
    found = results["onnx-cpu: answers do not depend on the batch"]
    assert found["outcome"] == "note"
    assert found["message"].startswith("it is given one image at a time: its dynamic quantisation takes")
    assert open_model(open_bundle(bundle), threads=1).spec.single_images is True
