"""Engines that do not compute the network of the twin beside them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke, tiny_options
from tests.forgery import graphs
from tscnc_deploy import open_bundle
from tscnc_deploy.digests import digest_of_bytes
from tscnc_deploy.engines.onnx.int8 import write_int8
from tscnc_deploy.engines.tensorrt.facts import Facts, write_facts

# Each runs whole checks, which attack.
pytestmark = pytest.mark.slow

NETWORK = "engines/onnx-cpu/model.onnx: the twin's network"


def messages(document):
    return {result["name"]: result["message"] for result in document["results"]}


def build(tiny_build: SimpleNamespace, folder: Path, *targets: object) -> Path:
    """The tiny build with other engines; nothing is trained again."""
    shutil.copytree(tiny_build.folder, folder / "run")
    named = [part for target in targets for part in ("--target", target)]
    result = invoke("build", *tiny_options(gates__engine_loss='"none"'), *named, "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.stderr
    return folder / "run" / "bundle"


def test_the_engine_of_a_good_bundle_computes_the_twins_network(bundle):
    passed = outcomes(check(bundle, status=0), "passed")
    assert {
        NETWORK,
        "twin: clean images have the recorded outcomes",
        "twin: replayed examples have the recorded outcomes",
        "onnx-cpu: labels agree with the twin's",
        "onnx-cpu: answers on other images agree with the twin's",
        "onnx-cpu: answers give a score",
    } <= set(passed)


def test_hard_labels_beside_another_twin_under_another_name(bundle):
    """What passed once with 90% robust images: all of this at the same time."""
    graphs.rename(bundle, "fast", tolerance=1e6)
    graphs.change_twin(bundle, graphs.negate_classifier)
    graphs.change_graph(bundle, graphs.answer_labels_only)
    graphs.show_clean_images(bundle)
    graphs.tell_outcomes(bundle, "fast")
    document = check(bundle, status=1)
    assert {
        "engines/fast/model.onnx: the twin's network",
        "twin: clean images have the recorded outcomes",
        "fast: largest difference of a logit from the twin",
        "fast: labels agree with the twin's",
        "fast: answers on other images agree with the twin's",
        "fast: answers give a score",
    } <= set(outcomes(document))
    assert {"gap-20", "hopskipjump-500"} <= set(document["engines"]["fast"]["attacks"])
    assert "OneHot 'hard' where its twin has" in messages(document)["engines/fast/model.onnx: the twin's network"]


def test_another_name_alone_is_found_in_the_record_only(bundle):
    graphs.rename(bundle, "fast", tolerance=1e6)
    # Of report and card, a development version may say that another one wrote them.
    assert [name for name in outcomes(check(bundle, status=1)) if not name.startswith("report.html")] == [
        "record: engines are those of the manifest",
        "record: gates follow from the figures",
    ]


def test_a_tolerance_of_the_bundle_does_not_count(bundle):
    graphs.rename(bundle, "fast", tolerance=1e6)

    def shift(model):
        graphs.append(
            model,
            helper.make_node("Add", ["inner", "shift"], ["logits"], name="shift"),
            constants={"shift": np.array([0.01] * 9 + [0], np.float32)},
        )

    graphs.change_graph(bundle, shift)
    document = check(bundle, status=1)
    assert "fast: largest difference of a logit from the twin" in outcomes(document)
    (found,) = [each for each in document["results"] if each["name"].startswith("fast: largest")]
    # That of onnx-cuda, the largest of the shipped targets for onnxruntime in float32.
    assert found["limit"] == 2e-3


def test_another_networks_gradients(bundle):
    graphs.change_twin(bundle, graphs.negate_classifier)
    failed = outcomes(check(bundle, status=1))
    assert {
        NETWORK,
        "twin: clean images have the recorded outcomes",
        "onnx-cpu: largest difference of a logit from the twin",
        "onnx-cpu: labels agree with the twin's",
    } <= set(failed)


def test_clean_images_as_examples(bundle):
    graphs.show_clean_images(bundle)
    failed = outcomes(check(bundle, status=1))
    assert "onnx-cpu: replayed examples have the recorded outcomes" in failed
    assert "twin: replayed examples have the recorded outcomes" in failed


def test_another_network_in_the_twins_file(bundle):
    graphs.change_twin(bundle, forging.scramble)
    failed = outcomes(check(bundle, status=1))
    assert {NETWORK, "record: layers are the twin's", "twin: clean images have the recorded outcomes"} <= set(failed)


def test_a_dense_file_is_not_in_a_bundle(bundle):
    shutil.copy(bundle / "twin.onnx", bundle / "engines" / "onnx-cpu" / "model.dense.onnx")
    forging.reseal(bundle)
    assert "files: nothing added" in outcomes(check(bundle, status=1))


def test_a_network_scaled_by_powers_of_two_is_attacked_as_it_is(bundle):
    """Its logits and gradients are too small for float32, and its classes the same."""

    def attacked():
        document = check(bundle)
        found = {each["name"]: each for each in document["results"]}
        return found, document["engines"]["onnx-cpu"]

    honest = attacked()[1]

    def scale(tensors):
        tensors["network.fc.weight"].mul_(2.0**-135)
        tensors["network.fc.bias"].mul_(2.0**-135)

    forging.edit_twin(bundle / "twin.onnx", scale)
    forging.exchange_network(bundle)
    found, scaled = attacked()
    assert scaled["robust"]["correct"] <= honest["robust"]["correct"] + 2
    assert found["onnx-cpu: largest difference of a logit from the twin"]["limit"] < 1e-38


def test_one_weight_changed_by_a_thousandth(bundle):
    def nudge(model):
        for tensor in model.graph.initializer:
            if tensor.name.endswith("bias") and len(tensor.dims) == 1:
                values = numpy_helper.to_array(tensor).copy()
                values[0] += 1e-3
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                return
        msg = "no bias"
        raise AssertionError(msg)

    graphs.change_graph(bundle, nudge)
    document = check(bundle, status=1)
    assert NETWORK in outcomes(document)
    said = messages(document)[NETWORK]
    assert "in 1 of " in said
    assert "by up to 0.001" in said


def test_a_weight_of_a_convolution_changed_by_a_thousandth(bundle):
    def nudge(model):
        tensor = next(each for each in model.graph.sparse_initializer if len(each.dims) == 4)
        tensor.values.float_data[0] += 1e-3

    graphs.change_graph(bundle, nudge)
    document = check(bundle, status=1)
    assert NETWORK in outcomes(document)
    assert "values, by up to 0.001" in messages(document)[NETWORK]


@pytest.mark.slow
def test_eight_bits(tiny_build, tmp_path):
    bundle = build(tiny_build, tmp_path, "onnx-int8")
    network, ranges = (
        f"engines/onnx-int8/model.onnx: {what}" for what in ("the twin's network", "ranges of its activations")
    )
    passed = {network, ranges, "onnx-int8: answers give a score"}
    assert passed <= set(outcomes(check(bundle, status=0), "passed"))

    graphs.lose_an_activation(bundle / "engines" / "onnx-int8" / "model.onnx")
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert ranges in outcomes(document)
    assert "so that steps are lost" in messages(document)[ranges]

    shutil.copy(bundle / "twin.onnx", tmp_path / "other.onnx")
    forging.edit_twin(tmp_path / "other.onnx", forging.scramble)
    calibration = open_bundle(bundle).evidence.images
    write_int8(
        tmp_path / "other.onnx",
        bundle / "engines" / "onnx-int8" / "model.onnx",
        calibration,
        runtime="onnxruntime",
    )
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert {network, "onnx-int8: labels agree with the twin's"} <= set(outcomes(document))
    assert "differs from its twin in " in messages(document)[network]


@pytest.mark.slow
def test_completions(tiny_build, tmp_path):
    for name, more in (("dropped", ""), ("regrown", "regrow = true\ncomplete_epochs = 1\n")):
        (tmp_path / f"{name}.toml").write_text(f'complete = "2:4"\ncomplete_channels = 8\n{more}')
    bundle = build(tiny_build, tmp_path, tmp_path / "dropped.toml", tmp_path / "regrown.toml")
    document = check(bundle, status=0)
    own = "its own twin completes the bundle's"
    assert f"dropped: {own}" in outcomes(document, "passed")
    assert f"regrown: {own}" in outcomes(document, "note")
    assert list(document["engines"]["regrown"]["attacks"])[-1] == "gap-20"
    assert "gap-20" not in document["engines"]["dropped"]["attacks"]
    files = [f"engines/{name}/model.onnx" for name in ("dropped", "regrown")]
    assert {f"{file}: the twin's network" for file in files} <= set(outcomes(document, "passed"))

    forging.edit_twin(bundle / "engines" / "dropped" / "twin.onnx", forging.scramble)
    forging.reseal(bundle)
    failed = outcomes(check(bundle, status=1))
    assert {f"dropped: {own}", "engines/dropped/model.onnx: the twin's network"} <= set(failed)

    graphs.edit(bundle / "engines" / "regrown" / "twin.onnx", graphs.add_backdoor)
    forging.reseal(bundle)
    assert f"regrown: {own}" in outcomes(check(bundle, status=1))


def test_a_completion_that_keeps_more_than_2_of_4(bundle):
    """Nor is the limit on condition numbers for the bundle's twin alone."""
    graphs.rename(bundle, "half", complete="2:4", complete_channels=8, complete_epochs=1)
    shutil.copy(bundle / "twin.onnx", bundle / "engines" / "half")
    forging.reseal(bundle)
    found = messages(check(bundle, "--set", "gates.median_kappa=1.5", status=1))
    said = found["half: its own twin completes the bundle's"]
    assert "layers keep more than 2 of 4 input channels, such as " in said
    assert "gates.median_kappa: median condition number of the twin of half's layers" in found


def test_a_target_that_the_checker_knows_completes_what_it_says(bundle):
    """The bundle's own copy of it says otherwise."""
    shutil.copy(bundle / "twin.onnx", bundle / "engines" / "onnx-cpu")
    target = bundle / "engines" / "onnx-cpu" / "target.json"
    target.write_text(json.dumps(json.loads(target.read_text()) | {"complete": "2:4", "complete_epochs": 3}))
    forging.reseal(bundle)
    found = messages(check(bundle, status=1))
    assert "its target completes nothing" in found["onnx-cpu: its own twin completes the bundle's"]


def test_a_plan_without_the_file_that_it_was_built_from(bundle):
    forging.add_sparse_cpu(bundle)
    folder = bundle / "engines" / "onnx-cpu"
    target = json.loads((folder / "target.json").read_text())
    (folder / "target.json").write_text(json.dumps(target | {"engine": "tensorrt-rtx"}))
    plan = (folder / "model.onnx").rename(folder / "model.engine").read_bytes()
    facts = Facts(
        **{"library": "tensorrt-rtx", "version": "1.4", "made_for": ["SM89"], "hardware": "this-gpu", "gpu": None},
        **{"input_shape": [1, 8, 8], "classes": 10, "batch": [1, 2, 3], "layers": [], "workspace_bytes": None},
        **{"timing_cache": None, "plan": digest_of_bytes(plan), "plan_bytes": len(plan), "graph": "00" * 32},
    )
    write_facts(facts, folder / "engine.json")

    def kind(contents):
        contents["engines"]["onnx-cpu"]["kind"] = "tensorrt-rtx"

    forging.reseal(bundle, kind)
    document = check(bundle, "--engine", "sparse-cpu", status=1)
    title = "onnx-cpu: built from the compared file"
    assert title in outcomes(document)
    assert messages(document)[title] == "engine.json names another file than twin.onnx as its origin"
    # In float32 it is built from the twin itself, which a bundle has once.
    twin = digest_of_bytes((bundle / "twin.onnx").read_bytes())
    write_facts(facts.model_copy(update={"graph": twin}), folder / "engine.json")
    forging.reseal(bundle)
    assert title in outcomes(check(bundle, "--engine", "sparse-cpu"), "passed")


def test_an_engine_without_a_file_to_compare(bundle):
    forging.add_sparse_cpu(bundle)
    (bundle / "engines" / "onnx-cpu" / "model.onnx").unlink()
    forging.reseal(bundle)
    assert "onnx-cpu: the twin's network" in outcomes(check(bundle, "--engine", "sparse-cpu", status=1))


def test_a_twin_of_an_engine_that_completes_nothing(bundle):
    """A network of its own, with its own gradients, consistent in itself."""
    own = Path(shutil.copy(bundle / "twin.onnx", bundle / "engines" / "onnx-cpu"))
    forging.edit_twin(own, forging.scramble)
    forging.write_engine(bundle, own)
    forging.reseal(bundle)
    assert "onnx-cpu: its own twin completes the bundle's" in outcomes(check(bundle, status=1))


@pytest.mark.slow
@pytest.mark.tensorrt_rtx
def test_a_plan_that_no_one_here_can_read(tiny_build, tmp_path):
    bundle = build(tiny_build, tmp_path, "onnx-cpu", "tensorrt-rtx-fp16")
    folder = bundle / "engines" / "tensorrt-rtx-fp16"
    network = f"engines/{folder.name}/model.graph.onnx: the twin's network"
    document = check(bundle, "--engine", "onnx-cpu", status=0)
    assert {network, f"{folder.name}: built from the compared file"} <= set(outcomes(document, "passed"))
    assert messages(document)[f"{folder.name}: the twin's network"].startswith("not proved: that the plan computes")

    model = onnx.load(folder / "model.graph.onnx")
    tensor = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT16)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[np.flatnonzero(values)[0]] += np.float16(0.25)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "model.graph.onnx")
    forging.reseal(bundle)
    failed = outcomes(check(bundle, "--engine", "onnx-cpu", status=1))
    assert failed == [network, f"{folder.name}: built from the compared file"]


def test_evidence_of_the_twin_is_replayed(bundle):
    forging.rewrite_evidence(
        bundle,
        lambda e: replace(e, outcomes={k: np.ones_like(v) if k[:4] == "twin" else v for k, v in e.outcomes.items()}),
    )
    assert [name for name in outcomes(check(bundle, status=1)) if name.startswith("twin: ")] == [
        "twin: replayed examples have the recorded outcomes",
        "twin: clean images have the recorded outcomes",
    ]
