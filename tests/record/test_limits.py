"""What would not fit into a bundle is said before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bundle.folders import contents, evidence, write_files
from tests.conftest import invoke, tiny_options
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import seal
from tscnc_deploy.bundle.evidence_files import parse_record
from tscnc_deploy.errors import InputError
from tscnc_deploy.record import BuildRecord, Epoch
from tscnc_deploy.record.limits import MAX_RECORD_BYTES, check_classes, check_size

LAYERS = [f"network.layer{place}.conv1.weight" for place in range(54)]


def check(layers, epochs, *, engines=2, attacks=4):
    whole = contents()
    check_size(
        name="tiny", recipe={}, threat=whole.threat, model=whole.model, layers=layers, epochs=epochs,
        engines=engines, attacks=attacks,
    )  # fmt: skip


def refused_build(tmp_path, *options):
    result = invoke("build", *options, "--out", tmp_path / "run")
    assert result.exit_code == 2, result.stderr
    assert not list(tmp_path.glob("run/stages/train*"))
    return result.stderr


def test_thousands_of_epochs_of_a_resnet_50_fit():
    check(LAYERS, 3500)
    with pytest.raises(InputError) as caught:
        check(LAYERS, 20_000)
    assert "add up to 20000; a bundle's record can hold at most 3687 " in str(caught.value)
    assert " epochs of a network with 54 prunable layers: lower them" in str(caught.value)


@pytest.mark.slow
def test_a_record_of_as_many_epochs_as_are_allowed_is_read_again():
    whole = contents()
    # Figures of 17 digits, the most that a float of ordinary size is written with.
    kappa = dict.fromkeys(LAYERS, 12.345678901234567)
    history = tuple(
        Epoch(stage="train", epoch=place + 1, loss=0.1234567890123456, kappa=kappa) for place in range(3500)
    )
    record = BuildRecord(name="tiny", model=whole.model, threat=whole.threat, history=history, passed=True)
    data = record.to_bytes()
    assert 4 << 20 < len(data) < MAX_RECORD_BYTES
    assert parse_record(data) == record


def test_layers_are_bounded():
    with pytest.raises(InputError, match="the network has 2001 prunable layers; at most 2000 are allowed"):
        check([str(place) for place in range(2001)], 1)
    with pytest.raises(InputError, match="has a name of 300 characters; at most 256 are allowed"):
        check(["x" * 300], 1)


def test_targets_and_attacks_are_bounded():
    check(LAYERS, 100, engines=100, attacks=100)
    with pytest.raises(InputError, match=r"export.targets: there are 101; at most 100 are allowed"):
        check(LAYERS, 100, engines=101)
    with pytest.raises(InputError, match="attacks: there are 101; at most 100 are allowed"):
        check(LAYERS, 100, attacks=101)


def test_classes_are_bounded():
    check_classes([f"class {place}" for place in range(21_841)])
    with pytest.raises(InputError, match="the data set has 100001 classes; a bundle can have at most 100000"):
        check_classes([str(place) for place in range(100_001)])
    with pytest.raises(InputError, match=r"class 'xxx.*' has a name of 257 characters; at most 256 are allowed"):
        check_classes(["x" * 257])
    with pytest.raises(
        InputError, match=r"names of the data set's 90000 classes take .* bytes; at most 4194304 are allowed"
    ):
        check_classes([f"{place:0250}" for place in range(90_000)])


def test_a_bundle_of_as_many_classes_as_imagenet_21k_opens(tmp_path):
    whole = contents()
    model = whole.model.model_copy(update={"classes": tuple(f"n{place:08}" for place in range(21_841))})
    write_files(tmp_path)
    record = evidence().record.model_copy(update={"model": model})
    (tmp_path / "evidence" / "evidence.json").write_bytes(record.to_bytes())
    seal(tmp_path, whole.model_copy(update={"model": model}))
    bundle = open_bundle(tmp_path)
    assert bundle.manifest.model.classes[-1] == bundle.record.model.classes[-1] == "n00021840"


def test_a_build_of_too_many_epochs_is_refused_before_it_trains(tmp_path):
    said = refused_build(tmp_path, *tiny_options(train__epochs=100_000))
    # Beside the 100,000, prune has 1 and finetune 2.
    assert "train.epochs, prune.epochs and finetune.epochs add up to 100003" in said


def test_a_build_of_a_class_with_a_long_name_is_refused_before_it_trains(tmp_path):
    images, labels = np.random.default_rng(0).random((40, 8, 8, 1), np.float32), np.arange(40) % 2
    names = np.array(["short", "l" + "o" * 300 + "ng"])
    np.savez(
        tmp_path / "data.npz",
        train_images=images, train_labels=labels, test_images=images, test_labels=labels, class_names=names,
    )  # fmt: skip
    options = (
        *tiny_options(data__train_limit=30, data__test_limit=30),
        "--dataset",
        "npz",
        "--data-root",
        tmp_path / "data.npz",
    )
    assert "has a name of 303 characters; at most 256 are allowed" in refused_build(tmp_path, *options)
