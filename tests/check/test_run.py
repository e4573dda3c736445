"""`tscnc-deploy check` on a good bundle, and on those that somebody has changed and sealed again."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.check import forging
from tests.check.forging import FAST, check, outcomes
from tests.conftest import invoke


def test_a_good_bundle_passes(bundle):
    document = check(bundle, status=0)
    assert document["passed"] is True
    assert outcomes(document, "skipped") == ["signature"]
    assert document["policy"] == "the bundle itself"
    assert list(document["engines"]["onnx-cpu"]["attacks"]) == ["replay", "twin-apgd-2", "square-5"]
    names = [finding["name"] for finding in document["findings"]]
    assert names[0] == "files: as listed"
    assert names[-2:] == ["onnx-cpu: clean accuracy, lower end", "onnx-cpu: robust accuracy, lower end"]


def test_the_folder_of_a_run_is_taken_too(bundle):
    check(bundle.parent, status=0)


def test_the_same_seed_gives_the_same_figures(bundle):
    first, second = (check(bundle)["engines"]["onnx-cpu"] for _ in range(2))
    assert first["robust"] == second["robust"]


def test_a_flipped_byte_is_bad_input(bundle):
    path = bundle / "engines" / "onnx-cpu" / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    document = check(bundle, status=2)
    assert [finding["name"] for finding in document["findings"]] == ["files"]
    assert "engines/onnx-cpu/model.onnx has changed" in document["findings"][0]["message"]


def test_a_swapped_engine_is_not_its_twins(bundle):
    model = forging.load_model(bundle / "twin.safetensors")
    forging.scramble(model)
    forging.export_network(bundle, model)
    forging.reseal(bundle)
    failed = outcomes(check(bundle, status=1))
    assert "onnx-cpu: largest difference of a logit from the twin" in failed
    assert "onnx-cpu: clean images end as recorded" in failed


def test_removed_evidence_is_missed(bundle):
    (bundle / "evidence" / "evidence.safetensors").unlink()
    assert "evidence.safetensors is missing" in check(bundle, status=2)["findings"][0]["message"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda e: replace(e, adversarial={"twin": e.adversarial["twin"]}), "onnx-cpu: evidence is there"),
        (lambda e: replace(e, outcomes={}), "onnx-cpu: evidence is there"),
        (
            lambda e: replace(
                e,
                images=e.images[:9],
                labels=e.labels[:9],
                adversarial={k: v[:9] for k, v in e.adversarial.items()},
                outcomes={k: v[:9] for k, v in e.outcomes.items()},
            ),
            "evidence: all images are there",
        ),
        (
            lambda e: replace(e, outcomes={k: np.ones_like(v) for k, v in e.outcomes.items()}),
            "onnx-cpu: replayed examples end as recorded",
        ),
        (
            lambda e: replace(e, adversarial={k: 1 - v for k, v in e.adversarial.items()}),
            "onnx-cpu: examples are within epsilon",
        ),
    ],
    ids=["no examples", "no outcomes", "few images", "better outcomes", "other examples"],
)
def test_changed_evidence_is_noticed(bundle, change, name):
    forging.rewrite_evidence(bundle, change)
    assert name in outcomes(check(bundle, status=1))


def test_an_edited_gate_is_noticed(bundle):
    path = bundle / "recipe.toml"
    path.write_text(path.read_text().replace("engine_loss = 0.2", "engine_loss = 0.95"))
    assert "recipe.toml has " in check(bundle, status=2)["findings"][0]["message"]
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert outcomes(document) == ["recipe: the one of the record"]
    assert "gates.engine_loss is 0.9" in next(f["message"] for f in document["findings"] if f["outcome"] == "failed")


def test_a_gate_edited_everywhere_is_not_the_users(bundle):
    """Recipe and record agree on low bounds, so only the user's own recipe tells."""
    document = check(bundle, "--recipe", "digits", status=1)
    assert document["policy"] == "--recipe"
    assert "gates: as strict as asked for" in outcomes(document)
    assert "onnx-cpu: robust accuracy, lower end" in outcomes(document, "failed", "inconclusive")


def test_a_weaker_threat_model_is_noticed(bundle):
    document = check(bundle, "--recipe", "digits", status=1)
    assert "threat model: as strong as asked for" in outcomes(document)


def test_a_dense_model_is_not_sparse(bundle):
    forging.replace_network(bundle, forging.fill_zeros)
    failed = outcomes(check(bundle, status=1))
    assert "engines/onnx-cpu/model.onnx: weights as listed" in failed
    assert "engines/onnx-cpu/model.onnx: as sparse as asked for" in failed
    assert "twin: weights as listed" in failed


def test_a_dense_model_whose_manifest_says_so_is_not_as_sparse_as_asked_for(bundle):
    forging.replace_network(bundle, forging.fill_zeros)

    def admit(contents):
        contents["model"] |= {"nonzero": contents["model"]["prunable"], "sparsity": 0.0}

    forging.reseal(bundle, admit)
    assert "engines/onnx-cpu/model.onnx: as sparse as asked for" in outcomes(check(bundle, status=1))


def test_a_network_that_is_not_robust_fails_the_fresh_attack_whatever_its_evidence_says(bundle):
    """Everything is consistent, but the evidence shows none of the attacks that break it."""
    check(bundle, status=0)
    forging.replace_network(bundle, forging.scramble)

    def whitewash(evidence):
        from tscnc_deploy import open_bundle

        right = open_bundle(bundle).engine("onnx-cpu").logits(evidence.images).argmax(1) == evidence.labels
        return replace(
            evidence,
            adversarial=dict.fromkeys(evidence.adversarial, evidence.images),
            outcomes=dict.fromkeys(evidence.outcomes, right),
        )

    forging.rewrite_evidence(bundle, whitewash)
    document = check(bundle, status=1)
    assert "onnx-cpu: replayed examples end as recorded" not in outcomes(document)
    assert "onnx-cpu: robust accuracy, lower end" in outcomes(document)


def test_failed_gates_of_the_build_stay_failed(bundle):
    def fail(record):
        record["gates"][0]["passed"] = record["passed"] = False

    forging.rewrite_record(bundle, fail)
    forging.reseal(bundle, lambda contents: contents.update(passed=False))
    assert outcomes(check(bundle, status=1)) == ["gates of the build: passed"]


def test_other_versions_are_named_and_fail_nothing(bundle):
    forging.rewrite_record(bundle, lambda record: record["environment"].update(torch="1.0"))
    document = check(bundle, status=0)
    assert "torch 1.0 -> " in next(f["message"] for f in document["findings"] if f["name"].startswith("environment"))


def test_another_build_of_onnxruntime_is_named(bundle):
    """Only one of the two can be installed."""

    def exchange(record):
        environment = record["environment"]
        names = ("onnxruntime", "onnxruntime-gpu")
        environment |= {name: "1.0" for name in names if environment.pop(name, None) is None}

    forging.rewrite_record(bundle, exchange)
    document = check(bundle, status=0)
    said = next(f["message"] for f in document["findings"] if f["name"].startswith("environment"))
    assert re.search(r"onnxruntime(-gpu)? 1\.0 -> onnxruntime(-gpu)? 1\.\d", said)


def test_the_same_bundle_is_no_worse_than_itself(bundle, robust_build):
    document = check(bundle, "--baseline", robust_build, "--margin", "0.2", status=0)
    assert document["policy"] == "the baseline"
    beside = document["findings"][-1]
    assert beside["name"] == "onnx-cpu: robust accuracy lost to the baseline, upper bound"
    assert (beside["outcome"], document["baseline"]["onnx-cpu"]["engine"]) == ("passed", "onnx-cpu")
    assert beside["message"].startswith("0 images lost and 0 gained of 80")


def test_few_images_leave_a_small_margin_open(bundle, robust_build):
    document = check(bundle, "--baseline", robust_build, status=4)
    assert "about 160 images in all would settle it" in document["findings"][-1]["message"]


def test_a_worse_network_loses_to_the_baseline(bundle, robust_build):
    forging.replace_network(bundle, forging.scramble)
    document = check(bundle, "--baseline", robust_build, status=1)
    assert document["findings"][-1]["outcome"] == "failed"
    assert document["findings"][-1]["value"] > 0.3


def test_another_task_is_no_baseline(bundle, robust_build, tmp_path):
    other = shutil.copytree(robust_build, tmp_path / "other")
    forging.reseal(other, lambda contents: contents["model"].update(classes=list("abcdefghij")))
    document = check(bundle, "--baseline", other, status=2)
    assert (document["findings"][-1]["name"], document["findings"][-1]["outcome"]) == ("baseline", "error")


def test_an_interval_over_the_bound_is_inconclusive(bundle):
    share = check(bundle)["engines"]["onnx-cpu"]["clean"]
    document = check(bundle, "--set", f"gates.clean={(share['low'] + share['accuracy']) / 2}")
    clean = next(f for f in document["findings"] if f["name"] == "onnx-cpu: clean accuracy, lower end")
    assert clean["outcome"] == "inconclusive"
    assert "images in all would settle it" in clean["message"]


def test_an_engine_that_does_not_run_here(bundle):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine may run it: it has a GPU")
    target = bundle / "engines" / "onnx-cpu" / "target.json"
    target.write_text(json.dumps(json.loads(target.read_text()) | {"provider": "CUDAExecutionProvider"}))
    forging.reseal(bundle)
    document = check(bundle, status=3)
    assert outcomes(document, "unavailable") == ["onnx-cpu: runs here"]


def test_people_get_a_table_and_the_reason(bundle):
    result = invoke("check", bundle, *FAST, "--set", "gates.clean=0.999")
    assert "onnx-cpu: clean accuracy, lower end" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("inconclusive; " if result.exit_code == 4 else "failed; ")
    assert result.stderr.splitlines()[-1].startswith("error: onnx-cpu: ")


def test_it_is_refused_before_the_attacks_where_junit_cannot_be_written(bundle, tmp_path):
    result = invoke("check", bundle, "--junit", tmp_path / "missing" / "junit.xml")
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr
