"""`tscnc-deploy verify` on files, with bounded and spread work, and what it writes."""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.conftest import invoke
from tscnc_deploy.cli.verify import verify
from tscnc_deploy.models import load_model
from tscnc_deploy.robustness import PGD, ModelVictim, Threat, evaluate
from tscnc_deploy.robustness.case import MASKING_IMAGES
from tscnc_deploy.verify import evaluation_images
from tscnc_deploy.verify.images import EvaluationImages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tiny_build):
    """An engine of a build and the network that it was exported from, as if they came from elsewhere."""
    weights = tiny_build.folder / "stages" / "finetune" / "model.safetensors"
    return tiny_build.bundle / "engines" / "onnx-cpu" / "model.onnx", weights


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def document(*arguments, status=0):
    result = invoke("verify", *arguments, "--json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)


def refusal(*arguments, status=2):
    result = invoke("verify", *arguments)
    assert result.exit_code == status
    assert result.stdout == ""
    return result.stderr


def test_published_weights_and_which_of_them(files, tmp_path, caplog):
    twin = load_model(files[1])
    plain = {f"module.{name}": tensor.clone() for name, tensor in twin.network.state_dict().items()}
    averaged = {name: tensor.clone() for name, tensor in plain.items()}
    # Now always the first class.
    averaged["module.fc.bias"][0] = 1e6
    extra = {"0.mean": twin.normalize.mean, "0.std": twin.normalize.std}
    path = tmp_path / "best.pth.tar"
    torch.save({"net": plain | extra, "ema": averaged | extra, "args": argparse.Namespace(lr=0.1)}, path)
    options = (
        "--dataset",
        "digits",
        "--samples",
        "30",
        "--attack",
        "fgsm",
        "--set",
        "model.width=0.125",
        "--no-masking",
    )
    known = document(files[1], *options)
    assert document(path, *options)["clean"]["correct"] < known["clean"]["correct"]
    assert f"{path}: takes the averaged weights under 'ema.module'; for the others, set model.check" in caplog.text
    chosen = document(path, *options, "--set", "model.checkpoint_key=net")
    assert (chosen["clean"], chosen["robust"]) == (known["clean"], known["robust"])
    message = refusal(path, *options, "--set", "model.checkpoint_key=nets")
    assert "model.checkpoint_key = 'nets' does not lead to weights in this file; it has 'net.module' or " in message


def test_an_onnx_file_alone_is_its_own_twin(files):
    options = ("--dataset", "digits", "--samples", "50", "--attack", "pgd-5", "--seed", "3", "--no-masking")
    alone = document(files[0], *options)
    assert (alone["engine"], alone["gradient"], list(alone["attacks"])) == ("model", True, ["pgd-5"])
    gradients = alone["reading"]["gradients"]
    assert gradients["used"] is True
    assert (gradients["parity"]["images"], gradients["parity"]["agreement"]) == (50, 1.0)
    assert alone["robust"] == document(files[0], "--twin", files[1], *options)["robust"]
    shown = invoke("verify", files[0], *options)
    assert "gradients from the file's own graph: its logits differ by" in shown.stderr
    assert shown.stdout.endswith("no gate was set (--set gates.robust=0.5 sets one)\n")


def test_a_graph_without_gradients_here_is_attacked_as_a_black_box(files, tmp_path):
    model = onnx.load(files[0])
    # Hardmax of what is not used: the runtime has it, the reader does not.
    model.graph.node.append(onnx.helper.make_node("Hardmax", ["logits"], ["hard"], name="hard"))
    model.graph.node.append(onnx.helper.make_node("Add", ["logits", "hard"], ["sum"]))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("sum", 1, ["batch", 10]))
    onnx.save(model, tmp_path / "hard.onnx")
    found = document(tmp_path / "hard.onnx", "--dataset", "digits", "--samples", "20", "--budget", "2000q")
    assert (found["gradient"], list(found["attacks"])) == (False, ["square-1000"])
    assert "node 'hard' (Hardmax): gradients of this operator are not supported" in found["reading"]["gradients"]["why"]
    shown = invoke("verify", tmp_path / "hard.onnx", "--dataset", "digits", "--samples", "20", "--attack", "square-5")
    assert "attacked as a black box" in shown.stdout
    assert "no gradients from the file's own graph: " in shown.stderr
    assert "needs gradients" in refusal(tmp_path / "hard.onnx", "--dataset", "digits", "--attack", "pgd-5")


def test_how_a_file_is_read_by_options(files, tmp_path):
    options = ("--dataset", "digits", "--samples", "50", "--attack", "fgsm", "--no-masking")
    pixels = document(files[0], *options)
    model = onnx.load(files[0])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    scaled = onnx.helper.make_node("Mul", [model.graph.input[0].name, "per_byte"], ["scaled"])
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == scaled.input[0] else name for name in node.input]
    model.graph.node.insert(0, scaled)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1 / 255, np.float32), "per_byte"))
    onnx.save(model, tmp_path / "bytes.onnx")
    found = document(tmp_path / "bytes.onnx", *options)
    assert found["clean"] == pixels["clean"]
    assert found["reading"]["notes"] == ["it takes pixels from 0 to 255: its first nodes divide them by 255"]
    assert document(tmp_path / "bytes.onnx", *options, "--range", "255")["clean"] == pixels["clean"]
    guessed = document(tmp_path / "bytes.onnx", *options, "--range", "1")
    assert guessed["clean"]["accuracy"] < 0.4
    for wrong, message in {
        ("--input-size", "8x"): "--input-size 8x is not a size such as 224 or 224x192",
        ("--output", "y"): "--output y: is not an output",
        ("--channels", "bgr"): "--channels bgr needs 3",
        ("--layout", "nhwc"): "takes images [1, 1, 8]",
    }.items():
        assert message in refusal(tmp_path / "bytes.onnx", *options, *wrong)
    assert "--layout: " in refusal(files[1], "--dataset", "digits", "--layout", "nchw")


def test_a_classifier_that_always_says_the_same_is_called_that(tmp_path, files):
    model = onnx.load(files[0])
    bias = np.eye(10, dtype=np.float32)[:1] * 1e4
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "always zero"))
    model.graph.node.append(onnx.helper.make_node("Add", ["logits", "always zero"], ["zero"]))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("zero", 1, ["batch", 10]))
    onnx.save(model, tmp_path / "zero.onnx")
    options = ("--dataset", "digits", "--samples", "50", "--attack", "fgsm", "--no-masking")
    (warning,) = document(tmp_path / "zero.onnx", *options)["warnings"]
    assert warning["name"] == "guessing"
    assert "clean accuracy 10.0% [3.3%, 21.8%] cannot be told from guessing: 10.0% of the images" in warning["message"]
    assert "WARNING guessing: clean accuracy" in invoke("verify", tmp_path / "zero.onnx", *options).stdout


def test_its_twin_gives_the_gradient(files):
    options = ("--dataset", "digits", "--samples", "50", "--attack", "pgd-5", "--epsilon", "0.1", "--seed", "3")
    beside = document(files[0], "--twin", files[1], *options)
    assert beside["gradient"] is True
    images, labels, _ = drawn(50, 3)
    alone = evaluate(ModelVictim(load_model(files[1])), images, labels, Threat(epsilon=0.1), [PGD(5)], seed=3)
    assert beside["robust"]["correct"] == alone.robust.correct
    assert document(files[1], *options)["robust"]["correct"] == alone.robust.correct


def drawn(samples, seed) -> EvaluationImages:
    from tscnc_deploy.recipe.file import load_recipe

    return evaluation_images(load_recipe("digits"), samples, seed)


def test_a_file_has_no_gates_but_those_that_are_given(files):
    options = (files[1], "--dataset", "digits", "--samples", "30", "--attack", "fgsm", "--no-masking")
    assert [gate["limit"] for gate in document(*options)["gates"]] == [0, 0]
    assert document(*options, "--set", "gates.robust=0.99", status=1)["passed"] is False
    assert [g["limit"] for g in document(files[1], "--recipe", "digits", *options[3:], status=1)["gates"]] != [0, 0]


def test_a_bundle_is_attacked_on_test_images_if_asked(tiny_build):
    found = document(tiny_build.bundle, "--dataset", "digits", "--attack", "fgsm", "--engine", "onnx-cpu")
    assert found["clean"]["total"] == 60  # all of the build's test images, not the 40 of its evidence


def test_l2_attacks_and_ensembles(files):
    found = document(
        files[1], "--dataset", "digits", "--samples", "12", "--norm", "L2", "--epsilon", "0.5", "--attack", "fast"
    )
    assert (found["norm"], found["epsilon"], found["cascade"]) == ("L2", 0.5, True)


@pytest.mark.slow
def test_a_budget_of_queries_is_kept(files):
    options = (files[1], "--dataset", "digits", "--attack", "pgd-10", "--budget")
    found = document(*options, "800q")
    seen, spent = found["clean"]["total"], sum(found["queries"].values())
    assert found["stopped"] == {"reason": "the budget is spent", "images": seen, "of": 360}
    # Costs differ from round to round, by how many images are classified correctly and stand.
    assert 400 < spent < 880
    assert seen % 32 == 0
    assert "stopped" not in document(*options, "1h", "--samples", "64")


def test_easy_gates_end_it_early(files):
    options = (files[1], "--dataset", "digits", "--attack", "fgsm", "--set", "gates.clean=0.99")
    found = document(*options, "--until-decided", status=1)
    assert found["stopped"]["reason"] == "every gate is decided"
    assert found["gates"][0]["decided_after"] == found["clean"]["total"] == 64
    assert "no gate to decide" in refusal(files[1], "--dataset", "digits", "--until-decided")


@pytest.mark.slow
def test_two_processes_find_what_one_does(files):
    options = (files[0], "--twin", files[1], "--dataset", "digits", "--samples", "40", "--attack", "pgd-5")
    options += ("--no-masking",)
    one, two = document(*options), document(*options, "--workers", "2")
    assert {key: one[key] for key in ("clean", "robust", "queries")} == {
        key: two[key] for key in ("clean", "robust", "queries")
    }


@pytest.mark.slow
def test_torchrun_shares_the_images_and_prints_once(files, cache):
    options = ["--dataset", "digits", "--samples", "40", "--attack", "pgd-5", "--no-masking", "--json"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launcher, "-m", "tscnc_deploy", "verify", str(files[1]), *options],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["robust"] == document(files[1], *options[:-1])["robust"]


@pytest.mark.slow
def test_a_killed_verification_continues(files, cache, tmp_path):
    store = tmp_path / "store"
    command = [sys.executable, "-m", "tscnc_deploy", "verify", str(files[1]), "--dataset", "digits", "--json"]
    command += ["--samples", "160", "--attack", "pgd-40", "--set", "verify.batch_size=20"]
    command += ["--store", str(store), "--no-masking"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(store.glob("*.safetensors"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in store.glob("*.safetensors")}
    assert 3 <= len(kept) < 8
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert all((store / name).stat().st_mtime_ns == written for name, written in kept.items())
    whole = document(*command[4:-3], "--no-masking", "--store", str(tmp_path / "other"))
    again = json.loads(finished.stdout)
    assert (again["robust"], again["queries"]) == (whole["robust"], whole["queries"])


def test_the_cache_is_empty_after_a_finished_verification(files, cache):
    document(files[1], "--dataset", "digits", "--samples", "20", "--attack", "fgsm")
    assert list((cache / "tscnc-deploy" / "verify").rglob("*.safetensors")) == []


def test_a_home_that_cannot_be_written_to_is_no_obstacle(files, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert document(files[1], "--dataset", "digits", "--samples", "20", "--attack", "fgsm")["clean"]["total"] == 20


def test_every_image_is_listed(tiny_build, tmp_path):
    table = tmp_path / "images.csv"
    options = ("--engine", "twin", "--engine", "onnx-cpu", "--attack", "pgd-5", "--samples", "20")
    found = document(tiny_build.bundle, *options, "--per-image", table)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    for engine, result in found["engines"].items():
        own = [row for row in rows if row["engine"] == engine]
        assert sum(row["robust"] == "true" for row in own) == result["robust"]["correct"]
        assert sum(row["prediction"] == row["label"] for row in own) == result["clean"]["correct"]
        assert all(float(row["distance"]) <= found["epsilon"] for row in own)


@pytest.mark.slow
def test_examples_are_saved_with_a_picture(tiny_build, tmp_path):
    folder = tmp_path / "examples"
    document(tiny_build.bundle, "--attack", "pgd-5", "--samples", "20", "--save-examples", folder)
    with np.load(folder / "onnx-cpu.npz", allow_pickle=False) as saved:
        images, adversarial = saved["images"], saved["adversarial"]
    assert images.shape == (20, 1, 8, 8)
    assert 0 < np.abs(adversarial - images).max() <= np.float32(0.1) + 1e-7
    picture = Image.open(folder / "onnx-cpu.png")
    assert min(picture.size) > 200


def test_the_help_says_how_many_images_the_search_for_masking_takes():
    (option,) = (option for option in verify.params if option.name == "masking")
    assert f"on at most {MASKING_IMAGES} images" in option.help


def test_measures_are_made_on_request(files):
    found = document(
        files[1], "--dataset", "digits", "--samples", "12", "--attack", "fgsm", "--measure", "curve", "--no-masking"
    )
    assert list(found["measures"]) == ["curve"]


@pytest.mark.slow
def test_a_random_model_is_refused_unless_its_mean_is_asked_for(tmp_path, files):
    class Noisy(torch.nn.Module):
        def forward(self, images):
            return torch.randn(images.shape[0], 10) + images.flatten(1)[:, :10]

    path = tmp_path / "noisy.onnx"
    torch.onnx.export(Noisy().eval(), (torch.rand(2, 1, 8, 8),), path, dynamic_shapes=({0: torch.export.Dim("batch")},))
    options = (path, "--dataset", "digits", "--samples", "12", "--attack", "square-3")
    assert "--eot 32" in refusal(*options)
    assert document(*options, "--eot", "4")["robust"]["total"] == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no images to attack; give --dataset"),
        (["--dataset", "digit"], "did you mean digits"),
        (["--dataset", "digits", "--engine", "twin"], "is not a bundle; leave out --engine"),
        (["--dataset", "digits", "--epsilon", "8"], "write 0.0313725 for 8/255"),
        (["--dataset", "digits", "--budget", "90"], "has no unit"),
        (["--dataset", "digits", "--norm", "L2"], "give --epsilon too"),
        (["--dataset", "digits", "--measure", "corruption"], "did you mean corruptions"),
        (["--dataset", "digits", "--mean", "0.5"], "--std"),
        (["--dataset", "digits", "--attack", "replay"], "only bundles contain them"),
        (["--dataset", "digits", "--samples", "1000"], "digits has only 360 test images"),
        (["--dataset", "digits", "--labels", "a,b"], "--labels"),
        (["--dataset", "digits", "--per-image", "table.txt"], ".csv or .parquet"),
    ],
)
def test_bad_options_are_refused(files, options, message):
    assert message in refusal(files[0], *options)


def test_bundles_refuse_what_they_bring_themselves(tiny_build, files):
    assert "--twin: a bundle has its own" in refusal(tiny_build.bundle, "--twin", files[1])


@pytest.mark.parametrize("name", ["nothing.onnx", "nothing", "README.md"])
def test_what_is_neither_bundle_nor_model_is_refused(tmp_path, name):
    if name == "README.md":
        (tmp_path / name).write_text("# Read me")
    assert name in refusal(tmp_path / name, "--dataset", "digits")
