from __future__ import annotations

import platform
import re
from dataclasses import replace
from importlib.metadata import version

import pytest

from tests.bundle import folders
from tests.check import forging
from tests.check.forging import check, outcomes
from tscnc_deploy import open_bundle
from tscnc_deploy.bundle import seal
from tscnc_deploy.check.consistency import check_environment


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda e: replace(e, adversarial={"twin": e.adversarial["twin"]}), "onnx-cpu: evidence present"),
        (lambda e: replace(e, outcomes={}), "onnx-cpu: evidence present"),
        (
            lambda e: replace(
                e,
                images=e.images[:9],
                labels=e.labels[:9],
                adversarial={k: v[:9] for k, v in e.adversarial.items()},
                outcomes={k: v[:9] for k, v in e.outcomes.items()},
            ),
            "evidence: all images present",
        ),
        (
            lambda e: replace(e, adversarial={k: 1 - v for k, v in e.adversarial.items()}),
            "onnx-cpu: examples within epsilon",
        ),
    ],
    ids=["no examples", "no outcomes", "few images", "other examples"],
)
def test_changed_evidence_is_noticed(bundle, change, name):
    forging.rewrite_evidence(bundle, change)
    assert name in outcomes(check(bundle, status=1))


def test_an_edited_gate_is_noticed(bundle):
    path = bundle / "recipe.toml"
    path.write_text(path.read_text().replace("engine_loss = 0.2", "engine_loss = 0.95"))
    assert "recipe.toml has " in check(bundle, status=2)["results"][0]["message"]
    forging.reseal(bundle)
    document = check(bundle, status=1)
    assert outcomes(document) == ["recipe: matches the record", "record: gates follow from the figures"]
    assert "gates.engine_loss is 0.9" in next(f["message"] for f in document["results"] if f["outcome"] == "failed")


def test_failed_gates_of_the_build_stay_failed(bundle):
    def fail(record):
        record["gates"][0]["passed"] = record["passed"] = False

    forging.rewrite_record(bundle, fail)
    forging.reseal(bundle, lambda contents: contents.update(passed=False))
    assert outcomes(check(bundle, status=1)) == ["build gates: passed", "record: gates follow from the figures"]


def test_other_versions_are_named_and_fail_nothing(bundle):
    forging.rewrite_record(bundle, lambda record: record["environment"].update(torch="1.0"))
    document = check(bundle, status=0)
    assert "torch 1.0 -> " in next(f["message"] for f in document["results"] if f["name"].startswith("environment"))


def test_another_build_of_onnxruntime_is_named(bundle):
    """Only one of the two can be installed."""

    def exchange(record):
        environment = record["environment"]
        names = ("onnxruntime", "onnxruntime-gpu")
        environment |= {name: "1.0" for name in names if environment.pop(name, None) is None}

    forging.rewrite_record(bundle, exchange)
    document = check(bundle, status=0)
    said = next(f["message"] for f in document["results"] if f["name"].startswith("environment"))
    assert re.search(r"onnxruntime(-gpu)? 1\.0 -> onnxruntime(-gpu)? 1\.\d", said)


def test_everything_that_was_recorded_is_compared_but_the_device(tmp_path):
    environment = {
        "python": platform.python_version(),
        "system": "Plan9 vax",
        "torch": version("torch"),
        "scipy": "0.1",
        "no-such-package": "1\n2",
        "": "3",
        "device": "cuda:another",
    }
    folders.write_files(tmp_path)
    evidence = folders.evidence()
    replace(evidence, record=evidence.record.model_copy(update={"environment": environment})).write(tmp_path)
    seal(tmp_path, folders.contents())
    found = check_environment(open_bundle(tmp_path))
    assert (found.outcome, found.message) == (
        "note",
        f"different: system Plan9 vax -> {platform.system()} {platform.machine()}, "
        f"scipy 0.1 -> {version('scipy')}, no-such-package 1\\n2 -> not installed,  3 -> not installed",
    )
