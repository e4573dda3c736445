"""Engines that are not the export of the twin beside them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from tests.check import forging
from tests.check.forging import check, outcomes
from tests.conftest import invoke, tiny_options
from tests.forgery import graphs
from tscnc_deploy import open_bundle
from tscnc_deploy.check.exporting import export_again
from tscnc_deploy.engines.onnx.int8 import write_int8
from tscnc_deploy.models import load_model, save_model

# Each runs whole checks, which attack.
pytestmark = pytest.mark.slow

BOTH = [f"engines/onnx-cpu/{file}: the twin's export" for file in ("model.dense.onnx", "model.onnx")]


def messages(document):
    return {result["name"]: result["message"] for result in document["results"]}


def build(tiny_build: SimpleNamespace, folder: Path, *targets: object) -> Path:
    """The tiny build with other engines; nothing is trained again."""
    shutil.copytree(tiny_build.folder, folder / "run")
    named = [part for target in targets for part in ("--target", target)]
    result = invoke("build", *tiny_options(gates__engine_loss='"none"'), *named, "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.stderr
    return folder / "run" / "bundle"


def test_every_file_of_a_good_bundle_is_the_twins_export(bundle):
    passed = outcomes(check(bundle, status=0), "passed")
    assert {
        *BOTH,
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
    graphs.change_graphs(bundle, graphs.answer_labels_only)
    graphs.show_clean_images(bundle)
    graphs.tell_outcomes(bundle, "fast")
    document = check(bundle, status=1)
    assert {
        "engines/fast/model.dense.onnx: the twin's export",
        "engines/fast/model.onnx: the twin's export",
        "twin: clean images have the recorded outcomes",
        "fast: largest difference of a logit from the twin",
        "fast: labels agree with the twin's",
        "fast: answers on other images agree with the twin's",
        "fast: answers give a score",
    } <= set(outcomes(document))
    assert {"gap-20", "hopskipjump-500"} <= set(document["engines"]["fast"]["attacks"])
    assert "OneHot 'hard' where the export has" in messages(document)["engines/fast/model.onnx: the twin's export"]


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

    graphs.change_graphs(bundle, shift)
    document = check(bundle, status=1)
    assert "fast: largest difference of a logit from the twin" in outcomes(document)
    (found,) = [each for each in document["results"] if each["name"].startswith("fast: largest")]
    # That of onnx-cuda, the largest of the shipped targets for onnxruntime in float32.
    assert found["limit"] == 2e-3


def test_another_networks_gradients(bundle):
    graphs.change_twin(bundle, graphs.negate_classifier)
    failed = outcomes(check(bundle, status=1))
    assert {
        *BOTH,
        "twin: clean images have the recorded outcomes",
        "onnx-cpu: largest difference of a logit from the twin",
        "onnx-cpu: labels agree with the twin's",
    } <= set(failed)


def test_clean_images_as_examples(bundle):
    graphs.show_clean_images(bundle)
    failed = outcomes(check(bundle, status=1))
    assert "onnx-cpu: replayed examples have the recorded outcomes" in failed
    assert "twin: replayed examples have the recorded outcomes" in failed


def test_another_network_in_the_dense_file(bundle):
    graphs.export_other(bundle / "engines" / "onnx-cpu" / "model.dense.onnx", bundle)
    forging.reseal(bundle)
    assert outcomes(check(bundle, status=1)) == BOTH[:1]


def test_what_was_only_compared_in_parts_does_not_meet_a_policy_of_ones_own(bundle):
    graphs.change_graphs(bundle, graphs.flatten_by_reshape)
    graphs.say_built_with(bundle, torch="2.11.0")
    document = check(bundle, "--recipe", bundle / "recipe.toml")
    assert outcomes(document, "not checked") == BOTH


def test_a_network_scaled_by_powers_of_two_is_attacked_as_it_is(bundle):
    """Its logits and gradients are too small for float32, and its classes the same."""

    def attacked():
        document = check(bundle)
        found = {each["name"]: each for each in document["results"]}
        return found, document["engines"]["onnx-cpu"]

    honest = attacked()[1]
    model = load_model(bundle / "twin.safetensors")
    with torch.no_grad():
        *_, last = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
        last.weight *= 2.0**-135
        last.bias *= 2.0**-135
    forging.exchange_network(bundle, model)
    found, scaled = attacked()
    assert scaled["robust"]["correct"] <= honest["robust"]["correct"] + 2
    assert found["onnx-cpu: largest difference of a logit from the twin"]["limit"] < 1e-38


@pytest.mark.parametrize("other", [{}, {"torch": "2.11.0"}])
def test_one_weight_changed_by_a_thousandth(bundle, other):
    """Whatever the maker says about the versions of the build."""

    def nudge(model):
        for tensor in model.graph.initializer:
            if tensor.name.endswith("bias") and len(tensor.dims) == 1:
                values = numpy_helper.to_array(tensor).copy()
                values[0] += 1e-3
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                return
        msg = "no bias"
        raise AssertionError(msg)

    graphs.change_graphs(bundle, nudge)
    graphs.say_built_with(bundle, **other)
    document = check(bundle, status=1)
    assert set(BOTH) <= set(outcomes(document))
    said = messages(document)[BOTH[1]]
    assert ("in 1 of " in said and "by up to 0.001" in said) or "does not occur in the export" in said


def test_a_weight_of_a_convolution_changed_by_a_thousandth(bundle):
    def nudge(model):
        tensor = next(each for each in model.graph.sparse_initializer if len(each.dims) == 4)
        tensor.values.float_data[0] += 1e-3

    graphs.change_graphs(bundle, nudge, files=("model.onnx",))
    document = check(bundle, status=1)
    assert BOTH[1] in outcomes(document)
    assert BOTH[0] in outcomes(document, "passed")
    assert "values, by up to 0.001" in messages(document)[BOTH[1]]


def test_a_graph_that_another_version_may_have_written_is_not_proved(bundle):
    graphs.change_graphs(bundle, graphs.flatten_by_reshape)
    assert set(BOTH) <= set(outcomes(check(bundle, status=1)))
    graphs.say_built_with(bundle, torch="2.11.0")
    document = check(bundle)
    # The other findings are of the record, which says what the honest files were.
    assert all(name.startswith("record: ") for name in outcomes(document))
    assert outcomes(document, "note")[-2:] == BOTH
    assert messages(document)[BOTH[0]].startswith(
        "not proved: according to its maker it was exported with torch 2.11.0"
    )
    assert list(document["engines"]["onnx-cpu"]["attacks"])[-1] == "gap-20"


@pytest.mark.slow
def test_eight_bits(tiny_build, tmp_path):
    bundle = build(tiny_build, tmp_path, "onnx-int8")
    names = [f"engines/onnx-int8/{file}: the twin's export" for file in ("model.dense.onnx", "model.onnx")]
    ranges = f"{names[1].partition(':')[0]}: ranges of its activations"
    passed = {*names, ranges, "onnx-int8: answers give a score"}
    assert passed <= set(outcomes(check(bundle, status=0), "passed"))

    graphs.lose_an_activation(bundle / "engines" / "onnx-int8" / "model.onnx")
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert ranges in outcomes(document)
    assert "so that steps are lost" in messages(document)[ranges]

    graphs.export_other(tmp_path / "other.onnx", bundle)
    calibration = open_bundle(bundle).evidence.images
    write_int8(
        tmp_path / "other.onnx",
        bundle / "engines" / "onnx-int8" / "model.onnx",
        calibration,
        runtime="onnxruntime",
    )
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert {names[1], "onnx-int8: labels agree with the twin's"} <= set(outcomes(document))
    assert "differs from the export in " in messages(document)[names[1]]
    assert names[0] in outcomes(document, "passed")


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
    files = [f"engines/{name}/{file}" for name in ("dropped", "regrown") for file in ("model.onnx", "model.dense.onnx")]
    assert {f"{file}: the twin's export" for file in files} <= set(outcomes(document, "passed"))

    model = load_model(bundle / "engines" / "dropped" / "twin.safetensors")
    forging.scramble(model)
    save_model(model, bundle / "engines" / "dropped" / "twin.safetensors")
    forging.reseal(bundle)
    failed = outcomes(check(bundle, status=1))
    assert {f"dropped: {own}", "engines/dropped/model.onnx: the twin's export"} <= set(failed)


def test_a_completion_that_keeps_more_than_2_of_4(bundle):
    """Nor is the limit on condition numbers for the bundle's twin alone."""
    graphs.rename(bundle, "half", complete="2:4", complete_channels=8, complete_epochs=1)
    (bundle / "engines" / "half" / "twin.safetensors").write_bytes((bundle / "twin.safetensors").read_bytes())
    forging.reseal(bundle)
    found = messages(check(bundle, "--set", "gates.median_kappa=1.5", status=1))
    said = found["half: its own twin completes the bundle's"]
    assert "layers keep more than 2 of 4 input channels, such as " in said
    assert "gates.median_kappa: median condition number of the twin of half's layers" in found


def test_a_target_that_the_checker_knows_completes_what_it_says(bundle):
    """The bundle's own copy of it says otherwise."""
    model = load_model(bundle / "twin.safetensors")
    save_model(model, bundle / "engines" / "onnx-cpu" / "twin.safetensors")
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
    (folder / "model.onnx").rename(folder / "model.trt")
    (folder / "model.dense.onnx").unlink()

    def kind(contents):
        contents["engines"]["onnx-cpu"]["kind"] = "tensorrt-rtx"

    forging.reseal(bundle, kind)
    found = outcomes(check(bundle, "--engine", "sparse-cpu", status=1))
    assert "onnx-cpu: the twin's export" in found


def test_a_twin_of_an_engine_that_completes_nothing(bundle):
    """A network of its own, with its own gradients, consistent in itself."""
    model = load_model(bundle / "twin.safetensors")
    forging.scramble(model)
    save_model(model, bundle / "engines" / "onnx-cpu" / "twin.safetensors")
    forging.export_network(bundle, model)
    forging.reseal(bundle)
    assert "onnx-cpu: its own twin completes the bundle's" in outcomes(check(bundle, status=1))


@pytest.mark.slow
@pytest.mark.tensorrt_rtx
def test_a_plan_that_no_one_here_can_read(tiny_build, tmp_path):
    bundle = build(tiny_build, tmp_path, "onnx-cpu", "tensorrt-rtx-fp16")
    folder = bundle / "engines" / "tensorrt-rtx-fp16"
    names = [f"engines/{folder.name}/{file}: the twin's export" for file in ("model.dense.onnx", "model.graph.onnx")]
    document = check(bundle, "--engine", "onnx-cpu", status=0)
    assert {*names, f"{folder.name}: built from the compared file"} <= set(outcomes(document, "passed"))
    assert messages(document)[f"{folder.name}: the twin's export"].startswith("not proved: that the plan computes")

    model = onnx.load(folder / "model.graph.onnx")
    tensor = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT16)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[np.flatnonzero(values)[0]] += np.float16(0.25)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "model.graph.onnx")
    forging.reseal(bundle)
    failed = outcomes(check(bundle, "--engine", "onnx-cpu", status=1))
    assert failed == [names[1], f"{folder.name}: built from the compared file"]


def test_evidence_of_the_twin_is_replayed(bundle):
    forging.rewrite_evidence(
        bundle,
        lambda e: replace(e, outcomes={k: np.ones_like(v) if k[:4] == "twin" else v for k, v in e.outcomes.items()}),
    )
    assert [name for name in outcomes(check(bundle, status=1)) if name.startswith("twin: ")] == [
        "twin: replayed examples have the recorded outcomes",
        "twin: clean images have the recorded outcomes",
    ]


class Choosing(torch.nn.Module):
    """Whether it clips depends on the values of the images, which no graph can express."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.linear = torch.nn.Linear(64, 10)

    def forward(self, images):
        if images.sum() > 0:
            images = images.relu()
        return self.linear(images.flatten(1))


def test_a_twin_that_cannot_be_exported_is_no_crash(bundle):
    config = load_model(bundle / "twin.safetensors").config
    said = export_again(Choosing(config).eval(), "twin.safetensors")
    assert said.startswith("twin.safetensors cannot be exported again: Choosing cannot be exported to ONNX")
    large = replace(config, input_shape=(1024, 4096, 4096), mean=(0.0,) * 1024, std=(1.0,) * 1024)
    said = export_again(Choosing(large).eval(), "twin.safetensors")
    assert said == "twin.safetensors is for images [1024, 4096, 4096], which no engine takes"
